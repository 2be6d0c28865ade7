"""Speech that is still going on -> words as they are said: what `Recogniser.stream` returns.

    push:     samples  -> stable words, which never change, and provisional words behind them
    finish:            -> the transcript of the whole stream

What runs the network is a core. `transcribe/exact.py` carries the state of a network that runs
forward only, so that its words are those of the whole recording. `transcribe/windows.py` runs any
other network again and again on the last seconds.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from asr.audio.chunk import ChunkOptions
from asr.decode.hypothesis import Word, text_of
from asr.errors import AsrError
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.source import Source, read_waveform
from asr.transcribe.transcript import Transcript

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StreamUpdate:
    """What is known after a push; times are seconds from the beginning of the stream."""

    stable: tuple[Word, ...]
    """Words that became stable since the last update; they never change again."""
    provisional: tuple[Word, ...]
    """All words behind the stable ones, which may still change."""
    seconds: float
    """Audio received so far."""


class Core(Protocol):
    """Turns the samples of a stream into words."""

    def push(self, samples: Floats) -> tuple[list[Word], list[Word]]:
        """Words that became stable, and all provisional ones, after the next `(samples,)`."""
        ...

    def finish(self) -> list[Word]:
        """The words behind the stable ones, now that no more samples come."""
        ...


class Stream:
    """One stream of speech; made by `Recogniser.stream`.

    Many streams may share a recogniser. One stream is for one thread at a time.

    >>> from asr.transcribe.recogniser import load
    >>> stream = load("model.asr").stream()
    >>> for samples in microphone:
    ...     update = stream.push(samples)
    ...     print([word.text for word in update.stable])
    >>> stream.finish().text
    'BAD CAFE'
    """

    def __init__(
        self, core: Core, rate: int, name: str, options: TranscribeOptions, note: str = ""
    ) -> None:
        _refuse_unused(options)
        self.note = note
        """Why the words may differ from those of the whole recording; empty: they do not."""
        self._core, self._rate, self._name, self._options = core, rate, name, options
        self._words: list[Word] = []
        self._samples = 0
        self._finished = False

    @property
    def exact(self) -> bool:
        """Whether the words are those that the whole recording would get.

        That is the recording as one chunk, and as long as no word is in doubt for more than
        `options.chunks.chunk_seconds`.
        """
        return not self.note

    @property
    def seconds(self) -> float:
        """Audio received so far."""
        return self._samples / self._rate

    def push(self, samples: Source) -> StreamUpdate:
        """Take the next samples of the stream, any number of them.

        `samples (n,)` are a mono waveform at `recogniser.frontend.sample_rate`: floats about +-1
        or integers. Raises AsrError for anything else, and after `finish`.
        """
        if self._finished:
            raise AsrError("this stream is finished: make another one with recogniser.stream()")
        # With a rate of its own each piece would be resampled by itself, with seams between them.
        is_row = getattr(samples, "ndim", 0) == 1
        waveform = read_waveform(samples, self._rate) if is_row else None
        if waveform is None:
            raise AsrError(
                f"a stream takes a waveform at {self._rate} Hz: floats about +-1 or integers, one "
                "row without a sample rate"
            )
        self._samples += len(waveform[0])
        stable, provisional = self._core.push(waveform[0])
        cased = self._cased(stable)
        self._words += cased
        return StreamUpdate(tuple(cased), tuple(self._cased(provisional)), self.seconds)

    def finish(self) -> Transcript:
        """The transcript of all that was pushed: the stable words and what is behind them.

        Raises AsrError if it was finished before.
        """
        if self._finished:
            raise AsrError("this stream is finished already")
        self._finished = True
        self._words += [
            word.shifted(0.0, self.seconds) for word in self._cased(self._core.finish())
        ]
        return Transcript(
            "",
            text_of(self._words),
            self.seconds,
            self._name,
            tuple(self._words),
            options=self._options,
        )

    def _cased(self, words: list[Word]) -> list[Word]:
        return [replace(word, text=self._options.cased(word.text)) for word in words]


def _refuse_unused(options: TranscribeOptions) -> None:
    """Raise AsrError for options that mean nothing for a stream."""
    if options.channel is not None:
        raise AsrError(f"channel={options.channel}: a stream has one channel")
    if options.decoding is not None and options.decoding.nbest > 1:
        raise AsrError(f"nbest={options.decoding.nbest}: a stream gives the best words only")
    if options.chunks.split_on_silence:
        raise AsrError("split_on_silence: a stream is not split")
    # With a small `chunk_seconds` the default is refused, so that 0 must be accepted too.
    overlap = options.chunks.overlap_seconds
    if overlap not in (0.0, ChunkOptions.overlap_seconds):
        raise AsrError(f"overlap_seconds={overlap:g}: a stream is not split; leave it out, or 0")
