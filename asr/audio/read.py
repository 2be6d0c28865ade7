"""Any recording -> a mono float32 waveform at the rate that is asked for, whole or in blocks.

No torch here: transcribing a packed model reads its recordings through this module too.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import soundfile
import soxr

from asr.audio import containers as media
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
"""Suffixes of the files that libsndfile reads, in lower case."""
RECORDING_SUFFIXES = tuple(sorted(AUDIO_SUFFIXES + media.MEDIA_SUFFIXES))
"""Suffixes of the files that are looked for in folders; some need the extra `media`."""

MAX_AMPLITUDE = 1e9
"""Largest sample, where +-1 is usual: squares of a spectrum overflow float32 far beyond it."""
INVALID = f"infinite or not a number, or beyond {MAX_AMPLITUDE:g}"
"""What is wrong with a waveform that is not `is_valid`."""

_BLOCK_SAMPLES = 1 << 19
"""Samples of a channel that are read at a time: half a minute at 16 kHz."""
_MPEG_ESTIMATE = 0.01
"""An MPEG header may only estimate the length: that fraction of a whole file may be missing."""


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


class AudioFile(NamedTuple):
    """A file that `find` found, and the folder whose tree outputs mirror."""

    root: Path
    path: Path

    @property
    def relative(self) -> Path:
        """Path below `root`: where an output goes that mirrors the input tree."""
        return self.path.relative_to(self.root)


def load(path: str | Path, sample_rate: int = 16000) -> Audio:
    """Decode a recording, mix its channels, resample it to `sample_rate`.

    Raises `AsrError` naming the file if it is missing, not audio, empty, truncated, or holds
    samples that are not numbers.
    """
    with open_recording(path) as recording:
        parts = [mono(block, path) for block in recording.blocks]
    samples = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if recording.rate != sample_rate:
        samples = soxr.resample(samples, recording.rate, sample_rate)
    if not len(samples):
        raise AsrError(f"{path}: too short, nothing is left at {sample_rate} Hz")
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    return Audio(samples, sample_rate, recording.notes(sample_rate))


def stream(recording: "OpenRecording", sample_rate: int = 16000) -> Iterator[np.ndarray]:
    """The samples of an open recording, mono at `sample_rate`, in blocks of some seconds.

    Together they are what `load` gives, sample by sample, and are never all held at once.
    Raises as `load` does; for a truncated file only after its last block.
    """
    resampler = None
    if recording.rate != sample_rate:
        resampler = soxr.ResampleStream(recording.rate, sample_rate, 1, dtype="float32")
    for block in recording.blocks:
        samples = mono(block, recording.path)
        if resampler is not None:
            samples = resampler.resample_chunk(samples)
        if len(samples):
            yield samples
    if resampler is not None:
        samples = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        if len(samples):
            yield samples


def mono(block: np.ndarray, path: str | Path) -> np.ndarray:
    """The mean `(samples,)` of the channels of a block `(samples, channels)` of a file."""
    mixed = block.mean(axis=1, dtype=np.float32) if block.shape[1] > 1 else block[:, 0]
    if not is_valid(mixed):
        raise AsrError(f"{path}: holds samples that are {INVALID}")
    return mixed


def is_valid(samples: np.ndarray) -> bool:
    """Whether all samples are numbers, of a size whose spectrum float32 can hold."""
    return bool((np.abs(samples) <= MAX_AMPLITUDE).all())


@dataclass(frozen=True)
class OpenRecording:
    """A recording that is open for reading."""

    path: Path
    rate: int
    """Samples per second."""
    channels: int
    blocks: Iterator[np.ndarray]
    """All samples, in blocks `(samples, channels)` of float32, to be read once. Raises AsrError if
    the file is damaged, truncated, or has no samples."""

    def notes(self, sample_rate: int) -> tuple[str, ...]:
        """What is changed on the way to a mono waveform at `sample_rate`, in words."""
        notes = []
        if self.channels > 1:
            notes.append(f"{self.channels} channels mixed")
        if self.rate != sample_rate:
            notes.append(f"{self.rate} Hz resampled to {sample_rate} Hz")
        return tuple(notes)


@contextmanager
def open_recording(path: str | Path) -> Iterator[OpenRecording]:
    """Open a recording. Raises AsrError naming the file if it is missing, not audio or empty."""
    path = Path(path)
    if not path.exists():
        raise AsrError(f"{path}: no such file")
    if path.is_dir():
        raise AsrError(f"{path}: this is a folder, not a recording")
    if not os.access(path, os.R_OK):
        raise AsrError(f"{path}: no permission to read it")
    if path.stat().st_size == 0:
        raise AsrError(f"{path}: the file is empty")
    try:
        file = soundfile.SoundFile(_name(path))
    except soundfile.SoundFileError as error:
        if path.suffix.lower() in AUDIO_SUFFIXES or not _perhaps_media(path):
            raise AsrError(
                f"{path}: not audio that can be read ({_reason(error)}); "
                f"convert it to FLAC or WAV, for example"
            ) from error
        with media.open_audio(path) as (rate, channels, blocks):
            yield OpenRecording(path, rate, channels, _not_empty(path, blocks))
        return
    with file:
        blocks = _not_empty(path, _blocks(path, file))
        yield OpenRecording(path, file.samplerate, file.channels, blocks)


def header_seconds(path: str | Path) -> float:
    """Duration in seconds by the header of a recording, to show progress; 0 if unknown."""
    try:
        information = soundfile.info(_name(path))
    except (soundfile.SoundFileError, OSError):
        return media.seconds(Path(path)) if _perhaps_media(Path(path)) else 0.0
    return float(information.frames / information.samplerate)


def _name(path: str | Path) -> str | bytes:
    """A name as soundfile opens it: encoded here, names that are not UTF-8 work too."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def _perhaps_media(path: Path) -> bool:
    return path.suffix.lower() in media.MEDIA_SUFFIXES or media.available()


def _not_empty(path: Path, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks that have samples; AsrError if none has."""
    found = False
    for block in blocks:
        if len(block):
            found = True
            yield block
    if not found:
        raise AsrError(f"{path}: holds no audio (zero samples)")


def _blocks(path: Path, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """All samples of a file that libsndfile reads; a truncated one is refused at the end."""
    promised, read = file.frames, 0
    tolerance = _MPEG_ESTIMATE if file.format in ("MP3", "MPEG") else 0.0
    missing = _missing_bytes(file.extra_info)
    try:
        while True:
            block = file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)
            if not len(block):
                break
            read += len(block)
            yield block
    except soundfile.SoundFileError as error:
        raise AsrError(f"{path}: damaged or truncated ({_reason(error)})") from error
    if missing or read < promised * (1 - tolerance):
        got = f"{read / file.samplerate:.2f} s of audio are there"
        raise AsrError(f"{path}: truncated, its header promises more than the file holds: {got}")


def _missing_bytes(extra_info: str) -> int:
    """Bytes that a WAV header promises beyond the end of the file.

    libsndfile silently reads what is there and says so only in its log. Programs that write to
    a pipe do not know the length and give a number near the top of 31 or 32 bits: not missing.
    """
    found = re.search(r"^data : (\d+) \(should be (\d+)\)", extra_info, re.MULTILINE)
    if not found:
        return 0
    promised, held = int(found[1]), int(found[2])
    return max(promised - held, 0) if promised < 0x7FFF0000 else 0


def _reason(error: Exception) -> str:
    """libsndfile's message without the path."""
    return str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(". ")


def find(paths: Iterable[str | Path]) -> list[AudioFile]:
    """List the recordings among files and folders, folders recursively and sorted.

    Returns `(root, path)` pairs: `root` is the folder that was given, or the folder of a file
    that was given. Hidden files in folders are skipped; nothing is listed twice.
    Raises `AsrError` for a path that does not exist, a file whose suffix is not among
    `RECORDING_SUFFIXES`, a folder without recordings, and one that cannot be listed.
    """
    found: dict[Path, AudioFile] = {}
    for path in map(Path, paths):
        for item in _walk(path) if path.is_dir() else [_given(path)]:
            found.setdefault(item.path, item)
    return list(found.values())


def _given(path: Path) -> AudioFile:
    if not path.exists():
        raise AsrError(f"{path}: no such file or folder")
    if path.suffix.lower() not in RECORDING_SUFFIXES:
        raise AsrError(f"{path}: not the suffix of a recording; known are {_suffixes()}")
    return AudioFile(path.parent, path)


def _walk(folder: Path) -> list[AudioFile]:
    found = []
    for where, folders, names in os.walk(folder, onerror=_unlisted):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            AudioFile(folder, Path(where, name))
            for name in names
            if not name.startswith(".") and name.lower().endswith(RECORDING_SUFFIXES)
        ]
    if not found:
        raise AsrError(f"{folder}: a folder without audio; looked for {_suffixes()} in it")
    return sorted(found, key=lambda item: item.path)


def _unlisted(error: OSError) -> NoReturn:
    raise AsrError(f"{error.filename}: the folder cannot be listed: {error.strerror}") from error


def _suffixes() -> str:
    return " ".join(RECORDING_SUFFIXES)
