"""Any recording -> a mono float32 waveform at the rate that is asked for, whole or in blocks.

Length is what decodes: where the sound of a file lies is found by `riff`, `mpeg`, `flac`, `ogg` and
`containers`, whatever a header says. What is missing or damaged is said in words, with what is
there. No torch here: transcribing a packed model reads its recordings through this module too.
"""

import itertools
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from asr.audio import containers, flac, mix, mpeg, ogg, riff
from asr.audio.clip import Clip, Passage
from asr.audio.find import AUDIO_SUFFIXES
from asr.audio.layout import Extent, Part, View, Window
from asr.audio.mix import Mixer
from asr.errors import AsrError

_BLOCK_SAMPLES = 1 << 19
"""Samples of a channel that are read at a time: half a minute at 16 kHz."""
_MANY_CHANNELS = 8
"""Files with more channels than this are read in smaller blocks; a file may have 1024."""
_SHORT_BLOCK = 1 << 14
"""The same of FLAC, whose decoder says where it is damaged."""
_FAILURES = 3
"""Blocks in a row that cannot be decoded before a decoder is given up."""
_PADDING, _PADDING_FRACTION = 4 * 1152, 0.001
"""Samples that MPEG decoders drop of a whole file: an encoder's padding, frames without a start."""
_UNKNOWN = 1 << 62
"""Samples that libsndfile gives a file of which it does not know how many it has."""


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


def load(path: str | Path | Clip, sample_rate: int = 16000, channel: int | None = None) -> Audio:
    """Decode a recording, mix its channels, or take one (from 1), resample it to `sample_rate`.

    Of a `Clip` only that part is decoded. Raises `AsrError` naming the file if it is missing, not
    audio, empty, truncated, or holds samples that are not numbers.
    """
    with open_recording(path, channel) as recording:
        parts = []
        for segment in recording.segments():
            samples = np.concatenate(list(segment.mono()) or [np.zeros(0, np.float32)])
            if segment.rate != sample_rate:
                samples = soxr.resample(samples, segment.rate, sample_rate)
            parts.append(samples)
        recording.refuse_damage()
    samples = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if not len(samples):
        raise AsrError(f"{recording.path}: too short, nothing is left at {sample_rate} Hz")
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    return Audio(samples, sample_rate, recording.notes(sample_rate))


def stream(
    recording: "OpenRecording", sample_rate: int = 16000, partial: bool = False
) -> Iterator[np.ndarray]:
    """The samples of an open recording, mono at `sample_rate`, in blocks of some seconds.

    Together they are what `load` gives, sample by sample, and are never all held at once.
    Raises as `load` does; for a truncated file only after its last block, and not at all if
    `partial`: `recording.damage` then says what is missing.
    """
    for segment in recording.segments():
        resampler = None
        if segment.rate != sample_rate:
            resampler = soxr.ResampleStream(segment.rate, sample_rate, 1, dtype="float32")
        for samples in segment.mono():
            # Of a rate of a few Hz, half a minute's worth of samples would become hours.
            most = max(_BLOCK_SAMPLES * segment.rate // sample_rate, 1)
            for first in range(0, len(samples), most):
                part = samples[first : first + most]
                if resampler is not None:
                    part = resampler.resample_chunk(part)
                if len(part):
                    yield part
        if resampler is not None:
            samples = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            if len(samples):
                yield samples
    if not partial:
        recording.refuse_damage()


@dataclass
class Segment:
    """A stretch of a recording of one rate; a file has several if files were joined."""

    rate: int
    channels: int
    seconds: float
    """By its header; 0 if that says nothing."""
    blocks: Iterator[np.ndarray]
    """All samples once, in blocks `(samples, channels)` of float32."""
    mixer: Mixer

    def mono(self) -> Iterator[np.ndarray]:
        """The blocks as `(samples,)`: channels mixed, or the one that is asked for."""
        return map(self.mixer.mix, self.blocks)


class OpenRecording:
    """A recording that is open for reading, once."""

    def __init__(self, clip: Clip, file: BinaryIO, stack: ExitStack) -> None:
        self.path, self.channel = Path(clip.path), clip.channel
        self.passage = Passage(clip)
        """What of the recording is read."""
        try:
            layout = _layout(Window(file))
        except (struct.error, IndexError) as error:
            # Whatever damage nobody thought of: it costs one recording, not those beside it.
            raise _not_audio(self.path, "its header makes no sense") from error
        self.damage = layout.damage
        """Why less is there than was recorded, in words; certain only after the last block. Empty:
        it is complete."""
        self._remarks = list(layout.notes)
        self._file, self._parts, self._stack = file, layout.parts, stack
        self._first = _segment(self, View(file, layout.parts[0]), stack)
        self.rate, self.channels = self._first.rate, self._first.channels
        """Of its first segment."""
        self._rates = {self.rate: None}
        self._cancelled = False

    @property
    def seconds(self) -> float:
        """Length by its headers, of a clip what there is of it; 0 if they say nothing."""
        total = self._first.seconds
        for part in self._parts[1:]:
            with ExitStack() as stack, suppress(AsrError):
                total += _segment(self, View(self._file, part), stack).seconds
        return self.passage.within(total)

    def segments(self) -> Iterator[Segment]:
        """All segments that have samples; AsrError if none has."""
        found = False
        for segment in self.opened():
            self._rates[segment.rate] = None
            segment.blocks, some = _some(self.passage.take(segment.blocks, segment.rate))
            if some:
                found = True
                yield segment
                self._cancelled |= segment.mixer.cancelled
            if self.passage.complete:
                # Whatever is wrong with the rest of the recording, the clip is whole.
                self.damage = ""
                break
        else:
            self.damage = self.damage or self.passage.missing()
        if not found:
            self.passage.refuse_beyond_end(self.path)
            because = f" ({self.damage})" if self.damage else ""
            raise AsrError(f"{self.path}: holds no audio (zero samples){because}")

    def notes(self, sample_rate: int) -> tuple[str, ...]:
        """What is changed on the way to a mono waveform at `sample_rate`, in words."""
        notes = []
        if len(self._parts) > 1:
            notes.append(f"{len(self._parts)} recordings in one file")
        notes += mix.notes(self.channels, self.channel, self._cancelled)
        notes += [f"{r} Hz resampled to {sample_rate} Hz" for r in self._rates if r != sample_rate]
        notes += dict.fromkeys(self._remarks)
        return (*notes, self.damage) if self.damage else tuple(notes)

    def remark(self, what: str) -> None:
        """Say what is strange about the file."""
        self._remarks.append(what)

    def damaged(self, why: str) -> None:
        """Say that something is missing; what was found first is said."""
        self.damage = self.damage or why

    def refuse_damage(self) -> None:
        """Raise AsrError if something is missing."""
        if self.damage:
            raise AsrError(f"{self.path}: {self.damage}")

    def opened(self) -> Iterator[Segment]:
        """All segments that can be opened, each only while it is read."""
        yield self._first
        for part in self._parts[1:]:
            with ExitStack() as stack:
                try:
                    segment = _segment(self, View(self._file, part), stack)
                except AsrError as error:
                    why = str(error).removeprefix(f"{self.path}: ")
                    self.damaged(f"damaged, a part of it cannot be read: {why}")
                    continue
                yield segment


@contextmanager
def open_recording(path: str | Path | Clip, channel: int | None = None) -> Iterator[OpenRecording]:
    """Open a recording, or a part of one: a file, or what is read from a pipe of that name.

    `channel` (from 1) takes one channel instead of mixing them; a clip may have its own.
    Raises AsrError naming the file if it is missing, not audio or empty.
    """
    clip = path if isinstance(path, Clip) else Clip(str(path))
    clip = replace(clip, channel=clip.channel or channel)
    with _opened(Path(clip.path)) as file, open_file(file, clip) as recording:
        yield recording


@contextmanager
def open_file(file: BinaryIO, name: str | Path | Clip) -> Iterator[OpenRecording]:
    """Open a recording that is a file open for reading, or a part of it.

    `name` is for messages: nothing opens it. Otherwise as `open_recording`.
    """
    clip = name if isinstance(name, Clip) else Clip(str(name))
    if file.seek(0, os.SEEK_END) == 0:
        raise AsrError(f"{clip.path}: the file is empty")
    with ExitStack() as stack:
        yield OpenRecording(clip, file, stack)


def length(path: str | Path | Clip) -> float:
    """Seconds of a recording, or of a clip, that can be read; decoded only if no header says so.

    Raises AsrError as `load` does, as far as that shows without decoding.
    """
    with open_recording(path) as recording:
        if not isinstance(path, Clip):  # a clip may be whole where its recording is not
            recording.refuse_damage()
        if seconds := recording.seconds:
            return seconds
        opened = recording.opened()
        return sum(sum(map(len, recording.passage.take(s.blocks, s.rate))) / s.rate for s in opened)


def header_seconds(path: str | Path) -> float:
    """Duration in seconds of a regular file by its headers, to show progress; 0 if unknown."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return 0.0
        with open_recording(path) as recording:
            return recording.seconds
    except (AsrError, OSError):
        return 0.0


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read from any place; what comes from a pipe is first copied."""
    if not path.exists():
        raise AsrError(f"{path}: no such file")
    if path.is_dir():
        raise AsrError(f"{path}: this is a folder, not a recording")
    try:
        file = path.open("rb")
    except PermissionError:
        raise AsrError(f"{path}: no permission to read it") from None
    except OSError as error:
        raise AsrError(f"{path}: cannot be opened: {error.strerror}") from None
    with file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            yield file
            return
        # Without a name: nothing stays behind, whatever ends the process.
        with tempfile.TemporaryFile(prefix="asr-") as copy:
            shutil.copyfileobj(file, copy)
            yield copy


def _layout(window: Window) -> Extent:
    """Where the sound of a file lies, by its content; the whole file where none is found."""
    head = window.read(0, 1024)
    if riff.SIGNATURE.match(head):
        found = riff.layout(window)
    elif head.startswith(b"OggS"):
        found = ogg.layout(window)
    elif flac.begins(window):
        found = flac.layout(window)
    elif not containers.looks_like_one(head) and mpeg.is_mpeg(window):
        found = mpeg.layout(window)
    else:
        found = containers.layout(window)
    found.parts = found.parts or [Part(0, window.size)]
    return found


class _Sequential(soundfile.SoundFile):
    """A file that is read from its beginning to its end, whatever length its header gives."""

    def seekable(self) -> bool:
        return False


def _segment(recording: OpenRecording, view: View, stack: ExitStack) -> Segment:
    """What decodes a part. Raises AsrError if nothing does."""
    path, mixer = recording.path, Mixer(recording.path, recording.channel)
    try:
        file = stack.enter_context(_Sequential(view))
    except soundfile.SoundFileError as error:
        view.seek(0)
        is_container = containers.looks_like_one(view.read(1024))
        if not (is_container or containers.available()) and path.suffix.lower() in AUDIO_SUFFIXES:
            raise _not_audio(path, _reason(error)) from error
    else:
        frames = view.samples or file.frames
        seconds = frames / file.samplerate if frames < _UNKNOWN else 0.0
        blocks = _blocks(recording, file, view.samples)
        return Segment(file.samplerate, file.channels, seconds, blocks, mixer)
    view.seek(0)
    track = stack.enter_context(containers.open_audio(path, view))
    if track.tracks > 1:
        recording.remark(f"{track.tracks} audio tracks: the default one taken")

    def blocks_of_track() -> Iterator[np.ndarray]:
        yield from track.blocks
        for damage in track.damage:
            recording.damaged(damage)

    return Segment(track.rate, track.channels, track.seconds, blocks_of_track(), mixer)


def _some(blocks: Iterator[np.ndarray]) -> tuple[Iterator[np.ndarray], bool]:
    """The blocks that have samples, and whether there are any."""
    full = (block for block in blocks if len(block))
    first = next(full, None)
    return (full, False) if first is None else (itertools.chain([first], full), True)


def _blocks(
    recording: OpenRecording, file: soundfile.SoundFile, samples: int | None
) -> Iterator[np.ndarray]:
    """All samples of a file that libsndfile reads; what is missing goes to `recording.damage`."""
    promised = samples or file.frames
    read = recording.passage.seek(file, promised)
    least = 0 if promised >= _UNKNOWN else promised
    if "MP" in file.format or "MPEG" in file.subtype:
        least = promised - round(_PADDING_FRACTION * promised) - _PADDING
    # An error loses the block that it is in.
    size = _SHORT_BLOCK if file.format == "FLAC" else _BLOCK_SAMPLES
    size = size * _MANY_CHANNELS // max(file.channels, _MANY_CHANNELS)
    failures = 0
    while failures < _FAILURES:
        try:
            block = file.read(size, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            failures += 1
            recording.damaged(f"damaged or truncated ({_reason(error)})")
            continue
        if not len(block):
            break
        failures = 0
        read += len(block)
        yield block
    if read < least:
        there, whole = read / file.samplerate, promised / file.samplerate
        recording.damaged(f"damaged or truncated, {there:.2f} s of {whole:.2f} s are there")


def _not_audio(path: Path, why: str) -> AsrError:
    return AsrError(
        f"{path}: not audio that can be read ({why}); convert it to FLAC or WAV, for example"
    )


def _reason(error: Exception) -> str:
    """libsndfile's message without the path."""
    message = str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(". ")
    return message or "its data make no sense"
