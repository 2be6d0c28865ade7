"""Manifests: one utterance a line as JSON, with NeMo's keys and ours.

`audio_filepath`, `duration` (seconds), `text` and `offset` are NeMo's; `speaker`, `id` and
`channel` are added. A line with an `offset` is a part of a longer recording.
Other keys are ignored, so that manifests made for NeMo can be read as they are. Texts stay as
they were written: they are normalised just before they are tokenised.
"""

import difflib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio import Clip, length
from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.text.read import BadLine, parse_row, text_of, whole

MAX_SECONDS = 1e7
"""Longest recording that a manifest may list: more than a hundred days."""
MOST_LISTED = 20
"""Of the problems in an error message."""
_BUFFER = 2**20


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it."""

    id: str
    """Unique within a manifest."""
    audio_filepath: str
    """Path that can be opened from the current folder."""
    duration: float
    """Seconds that can be read of it."""
    text: str
    """As written by the corpus, not normalised."""
    speaker: str
    """Empty if unknown."""
    offset: float | None = None
    """Where in its recording it begins, in seconds; None: it is a whole recording."""
    channel: int | None = None
    """The channel of the recording to take, from 1; None: all of them mixed."""

    @property
    def source(self) -> str | Clip:
        """What to read: `audio_filepath`, or the part of it that this utterance is."""
        if self.offset is None and self.channel is None:
            return self.audio_filepath
        seconds = None if self.offset is None else self.duration
        return Clip(self.audio_filepath, self.offset or 0.0, seconds, self.channel)

    def place(self) -> tuple[object, ...]:
        """What tells its recording, or its part of one, from others, by whatever path."""
        part = None if self.offset is None else (self.offset, self.duration)
        return os.path.realpath(self.audio_filepath), part, self.channel


def read_manifest(path: str | Path) -> list[Utterance]:
    """The utterances of a manifest in its order.

    Relative audio paths are relative to the manifest. A missing `id` is the stem of the audio
    path, with the milliseconds of the offset, a missing `speaker` is empty, a missing `duration`
    is read from the file: that of the recording, or from the offset to its end.
    Whether the audio files exist is not checked here (`asr.corpus.check` does).

    Raises AsrError that names file and line of every bad line (the first 20), of duplicate ids
    and of a file without any.
    """
    return [utterance for _, utterance in scan_manifest(path)]


def scan_manifest(path: str | Path) -> Iterator[tuple[int, Utterance]]:
    """The utterances of a manifest one by one, each with the byte at which its line begins.

    As `read_manifest`, but what is wrong is raised when all other lines have been given: use
    nothing of them before. 16 bytes of memory for each utterance, and no utterance, are held.
    """
    path = Path(path)
    if not path.is_file():
        raise not_found(path, "manifest")
    count, first = 0, list[tuple[int, str]]()
    ids = array("q")
    for number, offset, line in _lines(path):
        try:
            utterance = utterance_of(parse_row(line), path.parent)
        except BadLine as error:
            count += 1
            if count <= MOST_LISTED:
                first.append((number, str(error)))
            continue
        ids.append(hash(utterance.id))
        yield offset, utterance
    twice = list(_used_twice(path, repeated_hashes(ids)))
    if count or twice:
        listed = sorted([*first, *twice])[:MOST_LISTED]
        count += len(twice)
        lines = [f"{path}:{number}: {problem}" for number, problem in listed]
        raise AsrError(with_list(f"{path}: bad lines: {count}", lines, count=count))
    if not ids:
        raise AsrError(f"{path}: the manifest has no utterance; `asr corpus folder` makes one")


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset in bytes and content of each line that is not empty."""
    offset = 0
    with path.open("rb", buffering=_BUFFER) as file:
        # Bytes are split, not text: U+2028 in a text does not end a line, and a line that is not
        # UTF-8 can be named.
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, offset, line.rstrip(b"\n")
            offset += len(line)


def repeated_hashes(hashes: "array[int]") -> np.ndarray:
    """The values that occur more than once; tens of millions take little memory."""
    ordered = np.sort(np.asarray(hashes, dtype=np.int64))
    return ordered[1:][ordered[1:] == ordered[:-1]]


def _used_twice(path: Path, suspects: np.ndarray) -> Iterator[tuple[int, str]]:
    """Lines whose id an earlier line has, among those whose ids have one of these hashes."""
    if not len(suspects):
        return
    wanted, seen = frozenset(suspects.tolist()), dict[str, int]()
    for number, _, line in _lines(path):
        try:
            name = utterance_of(parse_row(line), path.parent).id
        except BadLine:
            continue
        if hash(name) in wanted and seen.setdefault(name, number) != number:
            yield (
                number,
                f"id {name!r} is already used in line {seen[name]}; give each utterance its own "
                '"id"',
            )


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, whole or not at all.

    Audio paths below the manifest's folder are written relative to it, so that the folder can be
    moved; others as absolute paths. Bytes of a path that are not UTF-8 become escapes of JSON,
    which are read back as these bytes. Raises AsrError on duplicate ids.
    """
    path = Path(path)
    folder = os.path.abspath(path.parent)
    lines: list[str] = []
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.id in seen:
            raise AsrError(
                f"{path}: two utterances have the id {utterance.id!r}; ids must be unique "
                f"(one of them is {utterance.audio_filepath})"
            )
        seen.add(utterance.id)
        audio = _portable(utterance.audio_filepath, folder)
        plain = asdict(replace(utterance, audio_filepath=audio))
        # NeMo's keys first: that is how people know a manifest.
        keys = ["audio_filepath", "duration", "text", "speaker", "id"]
        keys += [key for key in ("offset", "channel") if plain[key] is not None]
        lines.append(json.dumps({key: plain[key] for key in keys}, ensure_ascii=False) + "\n")
    atomic_write_text(path, "".join(lines))


def with_durations(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The same with the durations of the recordings, 0 where one is damaged or cannot be read."""

    def seconds(utterance: Utterance) -> float:
        try:
            return length(utterance.audio_filepath)
        except AsrError:
            return 0.0

    # From memory 6,552 files take 0.5 s with or without threads; from a cold disk they wait, and
    # reading releases the interpreter meanwhile.
    with ThreadPoolExecutor(max_workers=4) as threads:
        durations = list(threads.map(seconds, utterances))
    return [
        replace(utterance, duration=duration)
        for utterance, duration in zip(utterances, durations, strict=True)
    ]


def with_list(
    heading: str,
    problems: Sequence[str],
    most: int | None = MOST_LISTED,
    count: int | None = None,
) -> str:
    """`heading`, then the first `most` problems (None: all) one a line, then how many more.

    `count`: how many there are in all, if `problems` are not all.
    """
    lines = [heading, *(f"  {problem}" for problem in problems[:most])]
    count = len(problems) if count is None else count
    if most is not None and count > most:
        lines.append(f"  and {count - most} more")
    return "\n".join(lines)


def not_found(path: str | Path, kind: str) -> AsrError:
    """The error for a path that does not exist, with the nearest names that do."""
    path = Path(path)
    if path.exists():
        return AsrError(f"{path}: this is a {'folder' if path.is_dir() else 'file'}, not a {kind}")
    # The first part of the path that does not exist is the one that was misspelt.
    lost = next(p for p in (*reversed(path.parents), path) if not p.exists())
    names = sorted(os.listdir(lost.parent)) if lost.parent.is_dir() else []
    # A forgotten suffix counts as near as a wrong letter.
    known = {Path(name).stem: name for name in names} | {name: name for name in names}
    near = dict.fromkeys(known[name] for name in difflib.get_close_matches(lost.name, known, n=3))
    hint = f"; did you mean {' or '.join(str(lost.parent / name) for name in near)}?"
    return AsrError(f"{path}: no such {kind}{hint if near else ''}")


def utterance_of(row: dict[str, Any], folder: Path, seconds: float | None = None) -> Utterance:
    """The utterance of one line of a manifest in `folder`. Raises BadLine with what is wrong.

    `seconds`: its duration, if the line has none and the recording was read before.
    """
    audio = row.get("audio_filepath")
    if not isinstance(audio, str) or not audio:
        raise BadLine('"audio_filepath" must be the path of a recording, as a string')
    whole("audio_filepath", audio, "surrogateescape")
    text = text_of(row)
    full = str(folder / audio)
    offset = None if row.get("offset") is None else _seconds("offset", row["offset"])
    if not offset and row.get("duration") is None:  # from the beginning to the end: the whole
        offset = None
    channel = row.get("channel")
    if channel is not None and (type(channel) is not int or channel < 1):
        raise BadLine(f'"channel" is {channel!s:.60}: must be a whole number from 1')
    name = _name(row, "id")
    if not name:
        name = spelled(Path(audio).stem) + (f"-{round(1000 * offset):08d}" if offset else "")
    if row.get("duration") is not None:
        seconds = _seconds("duration", row["duration"])
    elif seconds is None:
        seconds = _length(Clip(full, offset or 0.0))
    return Utterance(
        id=name,
        audio_filepath=full,
        duration=seconds,
        text=text,
        speaker=_name(row, "speaker"),
        offset=offset,
        channel=channel,
    )


def _name(row: dict[str, object], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadLine(f'"{key}" must be a string')
    name = whole(key, str(value))
    if "\n" in name or "\r" in name:  # it is written on a line of `ref_hyp` files
        raise BadLine(f'"{key}" is {name!r:.60}: must be one line')
    return name


def spelled(name: str) -> str:
    """The name of a file or folder as an id or a speaker.

    What these cannot hold is escaped: line breaks, and bytes that are not UTF-8.
    """
    name = name.replace("\n", "\\n").replace("\r", "\\r")
    return name.encode(errors="backslashreplace").decode()


def _length(clip: Clip) -> float:
    try:
        return length(clip if clip.offset else clip.path)
    except AsrError as error:
        raise BadLine(f'no "duration", and it cannot be read: {error}') from None


def _seconds(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadLine(f'"{key}" must be a number of seconds')
    if not 0 <= value <= MAX_SECONDS:
        raise BadLine(f'"{key}" is {value!s:.60}: must be seconds, from 0 to {MAX_SECONDS:g}')
    return float(value)


def _portable(audio: str, folder: str) -> str:
    absolute = os.path.abspath(audio)
    relative = os.path.relpath(absolute, folder)
    return absolute if relative.split(os.sep)[0] == os.pardir else Path(relative).as_posix()
