"""Which files are recordings: those of a known suffix, and those whose first bytes say so."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from asr.audio import containers, mpeg, riff
from asr.errors import AsrError

AUDIO_SUFFIXES = (
    ".aif",
    ".aifc",
    ".aiff",
    ".au",
    ".caf",
    ".flac",
    ".mp1",
    ".mp2",
    ".mp3",
    ".mpga",
    ".oga",
    ".ogg",
    ".opus",
    ".rf64",
    ".snd",
    ".sph",
    ".w64",
    ".wav",
    ".wave",
)
"""Suffixes of the files that libsndfile reads, in lower case."""
RECORDING_SUFFIXES = tuple(sorted(AUDIO_SUFFIXES + containers.MEDIA_SUFFIXES))
"""Suffixes of the files that are looked for in folders; some need the extra `media`."""
_AMBIGUOUS = (".ts", ".mts", ".asf", ".snd", ".au", ".dts")
"""Suffixes that other kinds of files have too: their content must be that of a recording."""
_TEXTS = (".csv", ".json", ".jsonl", ".md", ".py", ".srt", ".tsv", ".txt", ".vtt", ".yaml", ".trn")
"""Suffixes of files that are not looked into."""


class AudioFile(NamedTuple):
    """A file that `find` found, and the folder whose tree outputs mirror."""

    root: Path
    path: Path

    @property
    def relative(self) -> Path:
        """Path below `root`: where an output goes that mirrors the input tree."""
        return self.path.relative_to(self.root)


def find(
    paths: Iterable[str | Path], on_skip: Callable[[Path], object] | None = None
) -> list[AudioFile]:
    """List the recordings among files and folders, folders recursively and sorted.

    Returns `(root, path)` pairs: `root` is the folder that was given, or the folder of a file
    that was given. In folders a file is a recording by its suffix (`RECORDING_SUFFIXES`) or by
    its first bytes; `on_skip` is called with every other file. A file that was given is
    always listed: reading it will say what it is. Hidden files in folders are skipped, links to
    folders followed; nothing is listed twice.
    Raises `AsrError` for a path that does not exist, a folder without recordings, and one that
    cannot be listed.
    """
    found: dict[Path, AudioFile] = {}
    for path in map(Path, paths):
        for item in _within(path, on_skip) if path.is_dir() else [_given(path)]:
            found.setdefault(item.path, item)
    return list(found.values())


def is_recording(path: Path) -> bool:
    """Whether a file is taken for a recording in a folder: by its suffix, or its first bytes."""
    suffix = path.suffix.lower()
    if suffix in RECORDING_SUFFIXES and suffix not in _AMBIGUOUS:
        return True
    if suffix in _TEXTS or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(2048)
    except OSError:
        return suffix in RECORDING_SUFFIXES
    return is_sound(head)


def is_sound(head: bytes) -> bool:
    """Whether a file that begins so is a recording."""
    if riff.SIGNATURE.match(head) or head[:4] in (b"OggS", b"fLaC") or head[:3] == b"ID3":
        return True
    if containers.looks_like_one(head):
        return True
    first = mpeg.frame(head[:4])
    second = first and mpeg.frame(head[first.size : first.size + 4])
    return bool(first and second and first.kind == second.kind)


def walk(
    folder: Path, on_error: Callable[[OSError], object] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """Folders below `folder` (itself first) and their files, both sorted; hidden ones left out.

    Links are followed, each real folder once: recordings often lie on another disk.
    """
    visited = set()
    for place, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(place), sorted(name for name in files if not name.startswith("."))


def _given(path: Path) -> AudioFile:
    if not path.exists():
        raise AsrError(f"{path}: no such file or folder")
    return AudioFile(path.parent, path)


def _within(folder: Path, on_skip: Callable[[Path], object] | None) -> list[AudioFile]:
    found = []
    for place, names in walk(folder, _unlisted):
        for path in (place / name for name in names):
            if is_recording(path):
                found.append(AudioFile(folder, path))
            elif on_skip is not None:
                on_skip(path)
    if not found:
        known = " ".join(RECORDING_SUFFIXES)
        raise AsrError(f"{folder}: a folder without audio; looked for {known} in it")
    return sorted(found, key=lambda item: item.path)


def _unlisted(error: OSError) -> NoReturn:
    raise AsrError(f"{error.filename}: the folder cannot be listed: {error.strerror}") from error
