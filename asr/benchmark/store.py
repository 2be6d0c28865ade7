"""Figures of a long benchmark, kept as they come: a run that was stopped goes on, others add to it.

Each is a file with what it depends on, when and on what it was found. If that changes, it is found
again.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asr import environment
from asr.benchmark import load_monitor as idle
from asr.errors import AsrError
from asr.files import atomic_write_text

Find = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Kept:
    """What was found, and how."""

    what: dict[str, Any]
    """What it depends on."""
    found: dict[str, Any]
    run: str
    """When the run of the script began in which this was found."""
    date: str
    revision: str
    machine: str
    others: float | None
    """Share of a core that other programs used meanwhile; None: not known."""

    def told(self) -> str:
        """Where it comes from, for a note: `the run of 2026-01-31 10:20 UTC on ... with ...`."""
        revision = f"revision {self.revision}" if self.revision else "code of no known revision"
        day = self.run[:16].replace("T", " ")
        return f"the run of {day} UTC on {self.machine} with {revision}"


class Store:
    """A folder of figures; `again`: none of an earlier run is used."""

    def __init__(self, folder: Path, again: bool = False) -> None:
        self.folder, self._again = folder, again
        self.run = _now()
        git, here = environment.git_state(), environment.machine()
        self._revision = git["revision"] + ("+changes" if git["dirty"] else "")
        self._machine = f"{here['cpu']}, {here['cores']} cores, {here['memory_gib']} GiB"

    def own(self, kept: Kept) -> bool:
        """Whether a figure was found in this run, with this code."""
        return (kept.run, kept.revision) == (self.run, self._revision)

    def get(
        self, name: str, what: Mapping[str, Any], find: Callable[[], Mapping[str, Any]]
    ) -> Kept:
        """What is kept under `name`; `find` is called where that is nothing or of another `what`.

        All values are plain. Raises AsrError for a file there that is none of these.
        """
        path = self.folder / f"{_file_name(name)}.json"
        wanted = json.loads(json.dumps(what))
        kept = _read(path)
        if kept and kept.what == wanted and (not self._again or kept.run == self.run):
            return kept
        if kept:
            reason = "--again" if kept.what == wanted else _changed(kept.what, wanted)
            print(f"{name}: found anew ({reason})", flush=True)
        watch = idle.Watch()
        found = json.loads(json.dumps(find()))
        kept = Kept(wanted, found, self.run, _now(), self._revision, self._machine, watch.others())
        atomic_write_text(path, json.dumps(asdict(kept), ensure_ascii=False, indent=1) + "\n")
        return kept


def _read(path: Path) -> Kept | None:
    try:
        return Kept(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise AsrError(f"{path}: not a figure of this benchmark ({error}); remove it") from None


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return f"changed: {', '.join(keys)}"


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.,-]+", "_", name)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
