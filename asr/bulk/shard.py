"""One shard: every n-th recording of the list, and the file that its rows go to.

Rows are appended to an unfinished file, in the order of the list, each when its recording is done.
When the last one is there the file gets its name in one step. A shard that was killed is continued
behind its last whole row.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from asr.bulk.listing import ListedRecording, read_list
from asr.bulk.plan import MOST_SHARDS, STATE, BulkPlan, list_of
from asr.bulk.rows import ResultForm, line_of, write_parquet
from asr.errors import AsrError
from asr.files import CannotWrite, atomic_path, atomic_write_text, locked
from asr.plain import Reader, to_plain
from asr.transcribe.formats import printable


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` parts of a list, from 1."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_SHARDS:
            raise AsrError(f"shard {self}: from 1 to {MOST_SHARDS:,} shards")
        if not 1 <= self.index <= self.count:
            raise AsrError(f"shard {self}: shards are counted from 1 to {self.count}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @staticmethod
    def read(text: str) -> "Shard":
        """The shard that a text such as `3/64` names. Raises AsrError for another text."""
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
        if not found:
            raise AsrError(f"shard {text!r}: give it as i/n, such as 3/64, the third of 64")
        return Shard(int(found[1]), int(found[2]))

    @property
    def name(self) -> str:
        """Of its files, such as `shard-00003-of-00064`."""
        return f"shard-{self.index:05}-of-{self.count:05}"

    def size(self, recordings: int) -> int:
        """How many of that many recordings it has."""
        return len(range(self.index - 1, recordings, self.count))


@dataclass(frozen=True)
class ShardTotals:
    """What the rows of a shard add up to."""

    rows: int = 0
    failed: int = 0
    incomplete: int = 0
    """Recordings that are truncated or damaged: their rows hold what is there."""
    seconds: float = 0.0
    """Of audio."""

    def __add__(self, other: "ShardTotals") -> "ShardTotals":
        return ShardTotals(
            self.rows + other.rows,
            self.failed + other.failed,
            self.incomplete + other.incomplete,
            self.seconds + other.seconds,
        )

    def unusable(self, accept_truncated: bool) -> int:
        """How many rows make a command fail."""
        return self.failed + (0 if accept_truncated else self.incomplete)

    @staticmethod
    def of(row: dict[str, Any]) -> "ShardTotals":
        """Those of one row."""
        failed = "error" in row
        incomplete = not failed and not row["complete"]
        return ShardTotals(1, int(failed), int(incomplete), row["duration"])


class ShardFiles:
    """The files of a shard in a folder of results."""

    def __init__(self, folder: Path, plan: BulkPlan, index: int, form: ResultForm) -> None:
        self.shard, self.form = Shard(index, plan.shards), form
        self.size = self.shard.size(plan.recordings)
        self._list = list_of(folder)
        state = folder / STATE
        self.final = folder / f"{self.shard.name}.{form}"
        """Is there when the shard is finished, and then whole."""
        self.unfinished = state / f"{self.shard.name}.jsonl"
        self._lock = state / f"{self.shard.name}.lock"
        self._counts = state / f"{self.shard.name}.json"

    def totals(self) -> ShardTotals | None:
        """What a finished shard adds up to; None for one that is not finished."""
        if not self.final.exists():
            return None
        try:
            plain = json.loads(self._counts.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            plain = None
        found: ShardTotals | None = Reader(missing="refuse").read(ShardTotals, plain)
        if found is None:
            raise AsrError(
                f"{self._counts}: missing or damaged; delete {self.final} to transcribe that "
                "shard again"
            )
        return found

    def recordings(self) -> Iterator[ListedRecording]:
        """Its recordings, in the order of their rows."""
        return read_list(self._list, self.shard.index - 1, self.shard.count)

    @contextmanager
    def opened(self) -> Iterator["ShardRows | None"]:
        """Hold the shard, and yield where its rows go; None if it is finished.

        Raises AsrError if another process holds it, and CannotWrite.
        """
        with locked(self._lock, wait=False) as held:
            if not held:
                raise ShardTaken(
                    f"shard {self.shard} is being transcribed by another process; wait for it, or "
                    "end it"
                )
            if self.final.exists():
                yield None
                return
            try:
                with self.unfinished.open("a+b") as file:
                    yield ShardRows(file, self)
            except OSError as error:
                name = error.filename or self.unfinished
                raise CannotWrite(f"{name}: {error.strerror}", error.errno or 0) from None

    def finish(self, totals: ShardTotals) -> None:
        """Give the rows their name. Raises CannotWrite."""
        atomic_write_text(self._counts, json.dumps(to_plain(totals)) + "\n")
        if self.form == "parquet":
            with atomic_path(self.final) as temporary:
                write_parquet(self.unfinished, temporary)
            self.unfinished.unlink()
        else:
            self.unfinished.replace(self.final)


class ShardTaken(AsrError):
    """Another process holds the shard."""


class ShardRows:
    """The rows of an unfinished shard: those that are there, and those that are added."""

    def __init__(self, file: IO[bytes], files: ShardFiles) -> None:
        self._file, self._files = file, files
        self.totals = ShardTotals()
        """Of all rows so far."""
        self.left = files.recordings()
        """The recordings without a row."""
        self._recall()

    def _recall(self) -> None:
        """Count the whole rows, and cut off what is not: a row that was half written."""
        self._file.seek(0)
        end = 0
        recordings = self._files.recordings()
        for line, recording in zip(self._file, recordings, strict=False):
            try:
                row = json.loads(line)
                counted = ShardTotals.of(row)
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n") or row["id"] != printable(recording.id):
                break
            next(self.left)
            end += len(line)
            self.totals += counted
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)

    def add(self, row: dict[str, Any]) -> None:
        """Append the row of the first recording that has none."""
        self._file.write(line_of(row))
        self._file.flush()
        self.totals += ShardTotals.of(row)

    def finish(self) -> None:
        """End the shard, all of whose recordings have rows."""
        assert self.totals.rows == self._files.size, (self.totals, self._files.size)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._files.finish(self.totals)
