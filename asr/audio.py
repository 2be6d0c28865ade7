"""Any recording that libsndfile reads -> a mono float32 waveform at the rate that is asked for.

No torch here: transcribing a packed model reads its recordings through this module too.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from asr.errors import AsrError

AUDIO_SUFFIXES = (
    ".aif",
    ".aifc",
    ".aiff",
    ".au",
    ".caf",
    ".flac",
    ".mp3",
    ".oga",
    ".ogg",
    ".opus",
    ".rf64",
    ".snd",
    ".sph",
    ".w64",
    ".wav",
)
"""Suffixes of the files that are looked for in folders, in lower case."""

_MPEG_ESTIMATE = 0.01
"""An MPEG header may only estimate the length: that share may be missing from a whole file."""


@dataclass(frozen=True)
class Audio:
    """A decoded recording.

    `samples` is mono float32 `(n,)`, about +-1, at `sample_rate`; `notes` says in words
    what was changed on the way ("2 channels mixed", "44100 Hz resampled to 16000 Hz").
    """

    samples: np.ndarray
    sample_rate: int
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate


class Found(NamedTuple):
    """A recording that `find` found, and the folder that outputs mirror from."""

    root: Path
    path: Path

    @property
    def relative(self) -> Path:
        """Path below `root`: where an output goes that mirrors the input tree."""
        return self.path.relative_to(self.root)


def load(path: str | Path, sample_rate: int = 16000) -> Audio:
    """Decode a recording, mix its channels, resample it to `sample_rate`.

    Raises `AsrError` naming the file if it is missing, no audio, empty, cut short, or holds
    samples that are no numbers.
    """
    samples, rate = _decode(Path(path))
    notes = []
    if samples.shape[1] > 1:
        notes.append(f"{samples.shape[1]} channels mixed")
        mono = samples.mean(axis=1, dtype=np.float32)
    else:
        mono = samples[:, 0]
    if not np.isfinite(mono).all():
        raise AsrError(f"{path}: holds samples that are infinite or not a number")
    if rate != sample_rate:
        notes.append(f"{rate} Hz resampled to {sample_rate} Hz")
        mono = soxr.resample(mono, rate, sample_rate)
    if not len(mono):
        raise AsrError(f"{path}: too short, nothing is left at {sample_rate} Hz")
    return Audio(np.ascontiguousarray(mono, dtype=np.float32), sample_rate, tuple(notes))


def _decode(path: Path) -> tuple[np.ndarray, int]:
    """Return all samples `(frames, channels)` and their rate; refuse what is cut short."""
    if not path.exists():
        raise AsrError(f"{path}: no such file")
    if path.is_dir():
        raise AsrError(f"{path}: is a folder, not a recording")
    if not os.access(path, os.R_OK):
        raise AsrError(f"{path}: no permission to read it")
    if path.stat().st_size == 0:
        raise AsrError(f"{path}: an empty file")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.SoundFileError as error:
        raise AsrError(
            f"{path}: not audio that can be read ({_reason(error)}); "
            f"convert it to FLAC or WAV, for example"
        ) from error
    with file:
        promised, rate = file.frames, file.samplerate
        tolerance = _MPEG_ESTIMATE if file.format in ("MP3", "MPEG") else 0.0
        missing = _missing_bytes(file.extra_info)
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise AsrError(f"{path}: damaged or cut short ({_reason(error)})") from error
    if missing or len(samples) < promised * (1 - tolerance):
        got = f"{len(samples) / rate:.2f} s of audio are there"
        raise AsrError(f"{path}: cut short, its header promises more than the file holds: {got}")
    if not len(samples):
        raise AsrError(f"{path}: holds no audio (zero samples)")
    return samples, rate


def _missing_bytes(extra_info: str) -> int:
    """Bytes that a WAV header promises beyond the end of the file.

    libsndfile silently reads what is there and tells only in its log. Programs that write to
    a pipe leave the length open with a number near the top of 31 or 32 bits: not missing.
    """
    found = re.search(r"^data : (\d+) \(should be (\d+)\)", extra_info, re.MULTILINE)
    if not found:
        return 0
    promised, held = int(found[1]), int(found[2])
    return max(promised - held, 0) if promised < 0x7FFF0000 else 0


def _reason(error: Exception) -> str:
    """libsndfile's own words without the repeated path."""
    return str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(". ")


def find(paths: Iterable[str | Path]) -> list[Found]:
    """List the recordings among files and folders, folders recursively and sorted.

    Returns `(root, path)` pairs: `root` is the folder that was given, or the folder of a file
    that was given. Hidden files are passed over in folders; nothing is listed twice.
    Raises `AsrError` for a path that is not there, a file whose suffix is not among
    `AUDIO_SUFFIXES`, and a folder without recordings.
    """
    found: dict[Path, Found] = {}
    for path in map(Path, paths):
        for item in _walk(path) if path.is_dir() else [_given(path)]:
            found.setdefault(item.path, item)
    return list(found.values())


def _given(path: Path) -> Found:
    if not path.exists():
        raise AsrError(f"{path}: no such file or folder")
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        raise AsrError(f"{path}: not a recording by its name; known are {_suffixes()}")
    return Found(path.parent, path)


def _walk(folder: Path) -> list[Found]:
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Found(folder, Path(where, name))
            for name in names
            if not name.startswith(".") and name.lower().endswith(AUDIO_SUFFIXES)
        ]
    if not found:
        raise AsrError(f"{folder}: a folder without audio; looked for {_suffixes()} in it")
    return sorted(found, key=lambda item: item.path)


def _suffixes() -> str:
    return " ".join(AUDIO_SUFFIXES)
