"""Recordings to log-probabilities, chunk by chunk: the one path that everything takes.

    recording -> chunks -> features -> batches by length -> network -> `each` chunk's result

Transcription, evaluation, alignment and the tuning of a language model differ only in `each`, so
that all of them run the network on exactly the same input.

A window of chunks is read ahead, across recordings, before the network runs:

    read      a1 a2 a3 | b1 | c1 c2      chunks of the recordings a, b, c as they come
    sorted    a1 a2 c1 | b1 a3 c2        batches: longest first, of about equal length
    yielded   a, b, c                    in the order given, when their last chunk is done

Padding costs as much as speech. In batches sorted by length there is hardly any, and sorting a
window rather than everything bounds the memory and lets an endless iterator be transcribed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from asr import audio
from asr.audio import chunk as chunks
from asr.audio.batch import batch_by_length
from asr.errors import AsrError
from asr.model.backend import Backend
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.source import Source, listed, name_of, opened, read_waveform

Floats = npt.NDArray[np.float32]
T = TypeVar("T")

_WINDOW_BATCHES = 8
"""Batches of audio that are read ahead; with fewer, sorting by length finds less to sort."""
_WINDOW_CHUNKS = 256
"""Chunks, and recordings, that are read ahead at most: many short recordings take memory too."""


@dataclass
class ChunkResult(Generic[T]):
    """One chunk of a recording and what `each` made of its log-probabilities."""

    place: chunks.Place
    new_seconds: float
    """Seconds of audio that the chunk before did not have."""
    features: Floats | None
    """Dropped as soon as the network has run; None from the start for a chunk without sound."""
    result: T | None = None
    """None for a chunk without sound: the network would find words in it."""


@dataclass
class Recording(Generic[T]):
    """A recording in the pipeline: complete when it is read and no chunk waits for the network."""

    path: str
    """As given; empty for a waveform."""
    samples: int = 0
    notes: tuple[str, ...] = ()
    """What was changed while reading: resampled, channels mixed, what is missing."""
    damage: str = ""
    """Why less is there than was recorded; empty: it is complete."""
    chunks: list[ChunkResult[T]] = field(default_factory=list)
    error: AsrError | None = None
    """Why it cannot be read; it has no chunks then."""
    read: bool = False
    waiting: int = 0
    """Chunks that the network has not run on yet."""


class Pipeline(Generic[T]):
    """Runs `backend` on recordings.

    `each` gets the log-probabilities `(frames, tokens)` of a chunk and returns its result.
    `on_progress` is called with the seconds of audio of every batch that is done.
    """

    def __init__(
        self,
        backend: Backend,
        options: TranscribeOptions,
        each: Callable[[Floats], T],
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self.backend, self.options, self.each = backend, options, each
        self.on_progress = on_progress or (lambda seconds: None)
        self._queue: deque[Recording[T]] = deque()
        self._window: list[tuple[Recording[T], ChunkResult[T]]] = []

    def run(self, sources: Source | Iterable[Source]) -> Iterator[Recording[T]]:
        """Yield all recordings in their order, complete.

        Raises AsrError at a recording that cannot be read, after all before it were yielded,
        unless `options.on_error` is "report".
        """
        ahead = _WINDOW_BATCHES * self.options.batch_seconds
        for source in listed(sources):
            recording = Recording[T](name_of(source))
            self._queue.append(recording)
            for chunk in self._read(source, recording):
                self._window.append((recording, chunk))
                seconds = sum(c.place.end - c.place.start for _, c in self._window)
                if seconds >= ahead or len(self._window) == _WINDOW_CHUNKS:
                    yield from self._run_window()
            recording.read = True
            failed = recording.error and self.options.on_error == "raise"
            if failed or len(self._queue) >= _WINDOW_CHUNKS:
                yield from self._run_window()
        yield from self._run_window()

    def _read(self, source: Source, recording: Recording[T]) -> Iterator[ChunkResult[T]]:
        """The chunks of a source with their features; `recording.error` if it cannot be read."""
        frontend = self.backend.frontend
        blocks = self._blocks(source, recording, frontend.sample_rate)
        reached = 0.0
        try:
            for chunk in chunks.split(blocks, frontend.sample_rate, self.options.chunks):
                if not frontend.frames(len(chunk.samples)):
                    continue
                silent = chunks.is_silent(chunk.samples)
                features = None if silent else self.backend.features(chunk.samples)
                result = ChunkResult[T](chunk.place, chunk.place.end - reached, features)
                reached = chunk.place.end
                recording.chunks.append(result)
                recording.waiting += 1
                yield result
        except AsrError as error:
            recording.error = error
            recording.chunks.clear()

    def _blocks(self, source: Source, recording: Recording[T], rate: int) -> Iterator[Floats]:
        """The samples of a source at the network's rate, in blocks."""
        if waveform := read_waveform(source, rate, self.options.channel):
            samples, recording.notes = waveform
            recording.samples = len(samples)
            yield samples
            return
        with opened(source, self.options.channel) as sound:
            for block in audio.stream(sound, rate, partial=True):
                recording.samples += len(block)
                yield block
            recording.notes, recording.damage = sound.notes(rate), sound.damage

    def _run_window(self) -> Iterator[Recording[T]]:
        """Run the network on all that waits; yield the recordings in front that are complete."""
        waiting = [(r, chunk) for r, chunk in self._window if not r.error]
        self._window.clear()
        silent = [(r, chunk) for r, chunk in waiting if chunk.features is None]
        sound = [(r, chunk) for r, chunk in waiting if chunk.features is not None]
        for recording, chunk in silent:
            recording.waiting -= 1
            self.on_progress(chunk.new_seconds)
        lengths = np.array([chunk.place.end - chunk.place.start for _, chunk in sound])
        for indices in batch_by_length(lengths, self.options.batch_seconds):
            batch = [sound[i] for i in indices]
            rows = [chunk.features for _, chunk in batch if chunk.features is not None]
            for (recording, chunk), log_probs in zip(
                batch, self.backend.log_probs(rows), strict=True
            ):
                chunk.result = self.each(log_probs)
                chunk.features = None
                recording.waiting -= 1
            self.on_progress(sum(chunk.new_seconds for _, chunk in batch))
        while self._queue and self._queue[0].read:
            recording = self._queue[0]
            if recording.error and self.options.on_error == "raise":
                raise recording.error
            if recording.waiting and not recording.error:
                break
            yield self._queue.popleft()
