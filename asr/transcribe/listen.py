"""`asr listen`: speech from a microphone, a pipe or a file -> words while it goes on.

A pipe holds a WAV file, whose header says what follows, or samples alone: 16-bit little-endian mono
PCM, as `arecord -t raw -f S16_LE -r 16000 -c 1` writes it. Blocks are read as they come.
"""

import json
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, TextIO

import numpy as np
import numpy.typing as npt
import soxr

from asr import audio
from asr.audio.find import is_sound
from asr.decode.hypothesis import Word
from asr.errors import AsrError, install
from asr.transcribe.formats import final_event, words_event
from asr.transcribe.recogniser import Recogniser, say_once
from asr.transcribe.stream import Stream, StreamUpdate
from asr.transcribe.transcript import Transcript

Floats = npt.NDArray[np.float32]
BLOCK_SECONDS = 0.1
"""Sound that is read at once: a word is printed so much later at most."""


def listen_to(
    recogniser: Recogniser,
    stream: Stream,
    source: str | None,
    sample_rate: int | None = None,
    format: str = "txt",
) -> None:
    """Print the words of a microphone (None), of standard input (`-`) or of a recording.

    `sample_rate` is that of standard input without a header; None: 16,000. Formats are `txt`, the
    words as they become stable, and `json`, an event a line. Ends with the sound or with Ctrl-C.
    Raises AsrError for what cannot be read, after the words of what came before.
    """
    if format not in ("txt", "json"):
        raise AsrError(f"format={format!r}: txt or json")
    rate = recogniser.frontend.sample_rate
    if stream.note:
        print(f"words may change for a while: {stream.note}", file=sys.stderr, flush=True)
    show: _Lines | _Events = _Events() if format == "json" else _Lines(sys.stdout)
    blocks = _blocks(source, sample_rate, rate)
    try:
        for block in blocks:
            show.update(stream.push(block))
    except KeyboardInterrupt:
        pass  # the usual way to end a microphone
    except AsrError:
        if stream.seconds:  # what was said before the sound broke off
            show.finish(stream.finish())
        raise
    show.finish(stream.finish())


def _blocks(source: str | None, sample_rate: int | None, rate: int) -> Iterator[Floats]:
    if source == "-":
        return pcm(sys.stdin.buffer, sample_rate, rate)
    if sample_rate is not None:
        raise AsrError(
            f"sample_rate={sample_rate}: only for standard input without a WAV header; leave it out"
        )
    return microphone(rate) if source is None else recording(source, rate)


def recording(path: str, rate: int) -> Iterator[Floats]:
    """A file in blocks, as fast as it can be read."""
    with audio.open_recording(path) as sound:
        for samples in audio.stream(sound, rate):
            step = round(BLOCK_SECONDS * rate)
            for first in range(0, len(samples), step):
                yield samples[first : first + step]


def microphone(rate: int) -> Iterator[Floats]:
    """The default microphone, by the package sounddevice.

    Raises AsrError without one, and when it gives no more sound.
    """
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise AsrError(
            f"a microphone needs the package sounddevice: {install('microphone')}; or pipe "
            "sound in: arecord -f S16_LE -r 16000 -c 1 | asr listen -"
        ) from None
    except OSError as error:
        raise AsrError(f"a microphone needs the library PortAudio: {error}") from None
    action = "opened"
    try:
        with sounddevice.InputStream(samplerate=rate, channels=1, dtype="float32") as stream:
            action = "read any more"
            while True:
                block, lost = stream.read(round(BLOCK_SECONDS * rate))
                if lost:
                    say_once("sound of the microphone was lost: it came faster than it was read")
                yield block[:, 0].copy()
    except sounddevice.PortAudioError as error:
        raise AsrError(f"the microphone cannot be {action}: {error}") from None


class _Pcm(NamedTuple):
    """How samples of 16 bits are written."""

    rate: int
    channels: int = 1
    size: int = sys.maxsize
    """Bytes of samples; what follows is not sound. `sys.maxsize`: all that come."""


def pcm(file: BinaryIO, sample_rate: int | None, rate: int) -> Iterator[Floats]:
    """Samples of 16 bits from a pipe, behind the header of a WAV file if there is one, at `rate`.

    Without a header they are mono at `sample_rate` (None: 16,000). Raises AsrError for files of
    other kinds, for a header of anything but 16-bit PCM, or of another rate than `sample_rate`.
    """
    start = _exactly(file, 12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        form, start = _header(file), b""
        if sample_rate not in (None, form.rate):
            raise AsrError(
                f"sample_rate={sample_rate}: the WAV header of standard input says {form.rate}; "
                "leave it out"
            )
    else:
        form = _Pcm(_RAW_RATE if sample_rate is None else sample_rate)
        start += _exactly(file, _HEAD - len(start))
        if is_sound(start):
            raise AsrError(
                "standard input is a file of another kind: asr listen reads WAV or raw samples; "
                "use asr transcribe -"
            )
    if not 1000 <= form.rate <= 384_000:
        raise AsrError(f"sample_rate={form.rate}: from 1000 to 384000")
    return resampled(_samples(file, start, form), form.rate, rate)


_RAW_RATE = 16000
"""Samples a second that a pipe without a header has if nobody says otherwise."""
_HEAD = 2048
"""Bytes that tell other files from samples: two frames of MP3 are among them."""
_OPEN = 0x7FFF0000
"""From here on a length says that nobody knew it, as 0 does."""


def _header(file: BinaryIO) -> _Pcm:
    """What a WAV file says, whose first 12 bytes are read; stops before the samples."""
    found = None
    while True:
        name, size = struct.unpack("<4sI", _exactly(file, 8).ljust(8, b"\0"))
        if name == b"data" and found:
            return found._replace(size=size) if 0 < size < _OPEN else found
        if name == b"data" or name == b"\0\0\0\0" or size > 1 << 20:
            raise AsrError("standard input: the header of a WAV file is damaged")
        chunk = _exactly(file, size + size % 2)
        if name == b"fmt " and len(chunk) >= 16:
            kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
            if kind not in (1, 0xFFFE) or bits != 16 or not 1 <= channels <= 32:
                raise AsrError(
                    f"standard input: WAV with {channels} channels of {bits} bits, format {kind}: "
                    "asr listen reads 16-bit PCM; use asr transcribe - for other files"
                )
            found = _Pcm(rate, channels)


def _exactly(file: BinaryIO, size: int) -> bytes:
    """That many bytes, or what there is before the end."""
    parts, left = [], size
    while left and (part := file.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _samples(file: BinaryIO, held: bytes, form: _Pcm) -> Iterator[Floats]:
    """Blocks as soon as there is something; channels are mixed."""
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)
    frame, left = 2 * form.channels, form.size
    most = round(BLOCK_SECONDS * form.rate) * frame
    while True:
        block = read(min(most, left))
        held += block
        left -= len(block)
        whole = len(held) // frame * frame
        if whole:
            rows = np.frombuffer(held[:whole], "<i2").reshape(-1, form.channels)
            yield rows.mean(axis=1, dtype=np.float32) / np.float32(32768)
            held = held[whole:]
        if not block:
            return


def resampled(blocks: Iterable[Floats], given: int, rate: int) -> Iterator[Floats]:
    """Blocks of `given` samples a second as blocks of `rate`."""
    if given == rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(given, rate, 1, dtype="float32")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


class _Lines:
    """Words as text: stable ones stay; on a terminal provisional ones follow and are redrawn."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._terminal = out, out.isatty()
        self._column = 0

    def update(self, update: StreamUpdate) -> None:
        if self._terminal:
            self._out.write("\x1b[J")  # what was provisional, up to the end of the screen
        self._stable(update.stable)
        if self._terminal and update.provisional:
            # Saved and restored, so that the next words overwrite them.
            shown = " ".join(word.text for word in update.provisional)
            self._out.write(f"\x1b7\x1b[2m{shown}\x1b[0m\x1b8")
        self._out.flush()

    def finish(self, transcript: Transcript) -> None:
        if self._terminal:
            self._out.write("\x1b[J")
        self._stable(transcript.words[self._column :])
        self._out.write("\n")
        self._out.flush()

    def _stable(self, words: Iterable[Word]) -> None:
        for word in words:
            self._out.write(f"{word.text} ")
            self._column += 1


class _Events:
    """Updates as JSON, an event a line, as the websocket of `asr serve` sends them."""

    def update(self, update: StreamUpdate) -> None:
        if update.stable or update.provisional:
            self._print(words_event(update))

    def finish(self, transcript: Transcript) -> None:
        self._print(final_event(transcript))

    def _print(self, event: dict[str, Any]) -> None:
        print(json.dumps(event, ensure_ascii=False), flush=True)
