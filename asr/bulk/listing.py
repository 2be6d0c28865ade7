"""What is to be transcribed, as one list that stays: folders, files, manifests, lists of paths.

The list is written once, a JSON object a line, and read from there by every shard. So recordings
that appear or go while a long job runs cannot move others from one shard to another. Nothing here
needs more memory for each recording than two numbers.
"""

import json
import os
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from asr.audio import Clip, is_recording, walk
from asr.corpus.manifest import MOST_LISTED, utterance_of, with_list
from asr.errors import AsrError, counted
from asr.files import atomic_path
from asr.text.read import BadLine, decode_line, parse_row

MANIFESTS = (".jsonl", ".json")
LISTS = (".txt", ".lst", ".list")
"""Suffixes of text files with a path a line."""
_LOOKED_FOR = 20
"""Recordings at the beginning of a list of which one must be there."""
_SAID_SECONDS = 30.0


@dataclass(frozen=True)
class ListedRecording:
    """One recording of the list, or a part of one."""

    id: str
    """Unique in the list; the name of its outputs below the output folder, without a suffix."""
    audio_filepath: str
    """Absolute."""
    offset: float | None = None
    """Where the part begins, in seconds; None: it is a whole recording."""
    duration: float | None = None
    """Seconds of the part; None: to the end of the recording."""
    channel: int | None = None
    """The channel to take, from 1; None: what the options say."""

    @property
    def source(self) -> str | Clip:
        """What `Recogniser.transcribe` takes."""
        if self.offset is None and self.channel is None:
            return self.audio_filepath
        return Clip(self.audio_filepath, self.offset or 0.0, self.duration, self.channel)


def write_list(path: Path, inputs: Sequence[str | Path]) -> int:
    """List all recordings of `inputs` in the file `path`, in order; returns how many.

    An input is a folder (its recordings sorted, folder by folder), a manifest (`.jsonl`, `.json`;
    texts and durations may be missing), a list of paths (`.txt`, `.lst`, `.list`), or a recording.
    Relative paths in a file are relative to it. Raises AsrError for an input that does not exist
    or has no recordings, bad lines, recordings that are listed twice, and a list of which nothing
    is there.
    """
    ids, keys = array("q"), array("q")
    count, said = 0, time.monotonic()
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            for recording in _found(inputs):
                file.write(_line(recording))
                ids.append(hash(recording.id))
                keys.append(hash((recording.audio_filepath, recording.offset, recording.channel)))
                count += 1
                if count % 1000 == 0 and time.monotonic() - said > _SAID_SECONDS:
                    said = time.monotonic()
                    print(f"listing: {count:,} recordings", file=sys.stderr, flush=True)
        _refuse_twice(temporary, keys, "listed twice")
        if _twice(ids):
            _lengthen(temporary, _twice(ids))
            ids = array("q", (hash(recording.id) for recording in read_list(temporary)))
            _refuse_twice(temporary, ids, "with one name; give the folder that holds both, or ids")
    return count


def read_list(path: Path, first: int = 0, step: int = 1) -> Iterator[ListedRecording]:
    """Every `step`-th recording of a list from `first` on, counted from 0."""
    with path.open("rb") as file:
        for line in islice(file, first, None, step):
            yield ListedRecording(**json.loads(line))


def _line(recording: ListedRecording) -> bytes:
    plain = {key: value for key, value in asdict(recording).items() if value is not None}
    return json.dumps(plain).encode() + b"\n"  # ASCII: bytes that are not UTF-8 stay what they are


def _found(inputs: Sequence[str | Path]) -> Iterator[ListedRecording]:
    for path in map(Path, inputs):
        if str(path) == "-":
            raise AsrError("standard input (-) cannot be divided into shards; give a list of files")
        if path.is_dir():
            yield from _in_folder(path)
        elif not path.exists():
            raise AsrError(f"{path}: no such file or folder")
        elif path.suffix.lower() in (*MANIFESTS, *LISTS):
            yield from _in_file(path)
        else:
            yield ListedRecording(path.stem, os.path.abspath(path))


def _in_folder(folder: Path) -> Iterator[ListedRecording]:
    count = 0
    for place, names in walk(folder, _unlisted):
        # Of two recordings of one name the suffix tells which is which.
        recordings = [name for name in names if is_recording(place / name)]
        stems = Counter(Path(name).stem for name in recordings)
        for name in recordings:
            short = name if stems[Path(name).stem] > 1 else Path(name).stem
            relative = (place / short).relative_to(folder)
            yield ListedRecording(relative.as_posix(), os.path.abspath(place / name))
            count += 1
    if not count:
        raise AsrError(f"{folder}: a folder without recordings")


def _unlisted(error: OSError) -> NoReturn:
    raise AsrError(f"{error.filename}: the folder cannot be listed: {error.strerror}") from error


def _in_file(path: Path) -> Iterator[ListedRecording]:
    """The recordings of a manifest or a list of paths, whose bad lines are all reported."""
    of_line = _of_manifest if path.suffix.lower() in MANIFESTS else _of_paths
    folder = os.path.abspath(path.parent)
    problems: list[str] = []
    bad = count = 0
    begun: list[str] = []
    try:
        file = path.open("rb")
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                recording = of_line(line, folder)
            except BadLine as error:
                bad += 1
                if len(problems) < MOST_LISTED:
                    problems.append(f"{path}:{number}: {error}")
                continue
            count += 1
            if len(begun) < _LOOKED_FOR:
                begun.append(recording.audio_filepath)
            yield recording
    if bad:
        raise AsrError(with_list(f"{path}: bad lines: {bad}", problems))
    if not count:
        raise AsrError(f"{path}: lists no recording")
    if not any(map(os.path.exists, begun)):
        raise AsrError(
            f"{path}: none of the first {counted(len(begun), 'recording')} is there, such as "
            f"{begun[0]}; relative paths in a file are relative to the folder of the file"
        )


def _of_manifest(line: bytes, folder: str) -> ListedRecording:
    row = parse_row(line)
    if row.get("text") is None:
        row["text"] = ""
    if row.get("duration") is None and not row.get("offset"):
        row["duration"] = 0  # of a whole recording it does not matter
        row.pop("offset", None)
    named = row.get("id") is not None
    utterance = utterance_of(row, Path(folder))
    path, offset = os.path.abspath(utterance.audio_filepath), utterance.offset
    if named and _leaves(utterance.id):
        raise BadLine(f'"id" is {utterance.id[:60]!r}: outputs are named so, below their folder')
    return ListedRecording(
        utterance.id if named else _name(path, folder) + _tail(offset),
        path,
        offset,
        None if offset is None else utterance.duration,
        utterance.channel,
    )


def _of_paths(line: bytes, folder: str) -> ListedRecording:
    try:
        text = decode_line(line)
    except BadLine:
        if b"\0" in line:
            raise
        text = os.fsdecode(line)  # a name that is not UTF-8, as `find` prints it
    path = os.path.abspath(os.path.join(folder, text.rstrip("\r\n")))
    return ListedRecording(_name(path, folder), path)


def _name(path: str, folder: str) -> str:
    """The path below the folder, or below the root if it lies elsewhere, without its suffix."""
    full = Path(path)
    below = full.relative_to(folder if full.is_relative_to(folder) else full.anchor)
    if not below.name:
        raise BadLine("is a folder, not a recording")
    return below.with_suffix("").as_posix()


def _tail(offset: float | None) -> str:
    return f"-{round(1000 * offset):08d}" if offset else ""


def _leaves(name: str) -> bool:
    path = Path(name)
    return path.is_absolute() or ".." in path.parts or not path.name or "\0" in name


def _twice(hashes: array) -> set[int]:
    values, counts = np.unique(np.frombuffer(hashes, np.int64), return_counts=True)
    return set(values[counts > 1].tolist())


def _lengthen(path: Path, twice: set[int]) -> None:
    """Give recordings whose names are equal the suffix of their files."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for recording in read_list(path):
            if hash(recording.id) in twice:
                tail = _tail(recording.offset)
                name = recording.id.removesuffix(tail) + Path(recording.audio_filepath).suffix
                if recording.audio_filepath.endswith(name):
                    plain = asdict(recording) | {"id": name + tail}
                    recording = ListedRecording(**plain)
            file.write(_line(recording))


def _refuse_twice(path: Path, hashes: array, what: str) -> None:
    """Raise AsrError if two recordings have one hash, naming them."""
    twice = _twice(hashes)
    if not twice:
        return
    listed = zip(hashes, read_list(path), strict=True)
    found = [recording for value, recording in listed if value in twice]
    names = [str(r.source) + f" ({r.id})" * (str(r.source) != r.id) for r in found]
    heading = f"{counted(len(found), 'recording')} {what}"
    raise AsrError(with_list(heading, names))
