"""Recordings to text: `load(model).transcribe(recordings)`, the one path that all doors use.

Recordings are read in chunks, chunks are heard in batches by length that reach across recordings,
and transcripts come out in the order given. Their texts do not depend on each other.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from asr import audio
from asr.audio import chunk as chunks
from asr.audio.batch import sorted_batches
from asr.audio.chunk import Place
from asr.decode import Decoder, DecoderOptions, Hypothesis, make_decoder
from asr.decode.alignment import find_words
from asr.decode.confidence import Calibration
from asr.decode.hypothesis import Word, text_of
from asr.errors import AsrError
from asr.model.backend import Backend, BackendName, open_backend
from asr.pretrained import registry as models
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.stitch import join
from asr.transcribe.transcript import Alternatives, Transcript

__all__ = [
    "Alternatives",
    "Recogniser",
    "Source",
    "TranscribeOptions",
    "Transcript",
    "load",
]

Source = str | Path | np.ndarray
"""A file, or a mono waveform `(samples,)` of floats, about +-1, at the model's sample rate."""

_WINDOW_BATCHES = 8
_WINDOW_CHUNKS = 256
_BLOCK_SECONDS = 30
_DECODERS = 8


@dataclass
class _Recording:
    """A recording on its way: read in parts, complete when none of them is unheard."""

    path: str
    samples: int = 0
    notes: tuple[str, ...] = ()
    parts: "list[_Part]" = field(default_factory=list)
    unheard: int = 0
    read: bool = False
    error: AsrError | None = None


@dataclass
class _Part:
    """A chunk of a recording; its features are dropped when it is heard."""

    recording: _Recording
    place: Place
    fresh: float
    """Seconds of audio that the chunk before did not have."""
    features: np.ndarray | None
    """None where there is no sound, and so no words, or it is heard."""
    words: list[Word] = field(default_factory=list)
    hypotheses: list[Hypothesis] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.place.end - self.place.start


class Recogniser:
    """A network with all that belongs to it, ready to hear; made by `load`.

    It may be used by several threads at once: nothing that a transcription changes is shared.
    """

    def __init__(self, backend: Backend, name: str, decoding: DecoderOptions | None = None) -> None:
        self.name = name
        self.decoding = decoding or DecoderOptions()
        """How it reads when no decoder options are given: a recogniser that comes with the package
        by beam search with its language model, another one greedily."""
        self.backend = backend
        """What runs the network."""
        self.tokenizer = backend.tokenizer
        self.frontend = backend.frontend
        self.frame_seconds = backend.dimensions.time_stride * backend.frontend.step_seconds
        """What one output frame of the network advances by."""
        self.calibration = Calibration.from_plain(backend.metadata.training.get("confidence"))
        """The map from raw to calibrated confidence; None: the model file carries none."""
        self._decoders: dict[DecoderOptions, Decoder] = {}
        self._making = threading.Lock()

    def transcribe(
        self,
        sources: Source | Iterable[Source],
        options: TranscribeOptions | None = None,
        heard: Callable[[float], None] | None = None,
    ) -> Iterator[Transcript]:
        """Yield the transcript of each file or waveform, in the order given.

        One source alone may be given without a list; an iterator is read as far as is needed, and
        a long recording too, so that memory does not grow with either. `heard` is called with the
        seconds of audio of every batch that is done. Raises AsrError at once for a language model
        that cannot be used, and at a recording that cannot be read, after all those before it
        were yielded, unless `options.on_error` is "report".
        """
        options = self.completed(options)
        self.decoder(options.decoding)
        if isinstance(sources, str | Path | np.ndarray):
            sources = [sources]
        return self._transcribe(sources, options, heard or (lambda seconds: None))

    def _transcribe(
        self,
        sources: Iterable[Source],
        options: TranscribeOptions,
        heard: Callable[[float], None],
    ) -> Iterator[Transcript]:
        waiting: deque[_Recording] = deque()
        window: list[_Part] = []
        for source in sources:
            recording = _Recording("" if isinstance(source, np.ndarray) else str(source))
            waiting.append(recording)
            for part in self._parts(source, recording, options):
                window.append(part)
                if self._full(window, options):
                    self._hear_all(window, options, heard)
                    yield from self._complete(waiting, options)
            recording.read = True
            failed = recording.error and options.on_error == "raise"
            if failed or len(waiting) >= _WINDOW_CHUNKS:
                self._hear_all(window, options, heard)
                yield from self._complete(waiting, options)
        self._hear_all(window, options, heard)
        yield from self._complete(waiting, options)

    def completed(self, options: TranscribeOptions | None) -> TranscribeOptions:
        """The same with the decoder options that a transcription will use; None: the usual ones."""
        options = options or TranscribeOptions()
        return replace(options, decoding=options.decoding or self.decoding)

    def decoder(self, options: DecoderOptions | None = None) -> Decoder:
        """The decoder of these options, `self.decoding` for None.

        The latest ones are kept, with their language models.
        """
        options = options or self.decoding
        with self._making:
            found = self._decoders.pop(options, None) or make_decoder(options, self.tokenizer)
            self._decoders[options] = found
            while len(self._decoders) > _DECODERS:
                self._decoders.pop(next(iter(self._decoders)))
            return found

    def log_probs(self, samples: np.ndarray) -> np.ndarray:
        """What the network says of a waveform: natural logs `(frames, units)`."""
        row = self.backend.features(_waveform(samples, self.frontend.sample_rate))
        return self.backend.log_probs([row])[0]

    def _parts(
        self, source: Source, recording: _Recording, options: TranscribeOptions
    ) -> Iterator[_Part]:
        """The chunks of a source with their features; what cannot be read is `recording.error`."""
        rate = self.frontend.sample_rate
        try:
            reached = 0.0
            for chunk in chunks.stream(self._blocks(source, recording), rate, options.chunks):
                if not self.frontend.frames(len(chunk.samples)):
                    continue
                silent = chunks.is_silent(chunk.samples)
                row = None if silent else self.backend.features(chunk.samples)
                part = _Part(recording, chunk.place, chunk.place.end - reached, row)
                reached = chunk.place.end
                recording.parts.append(part)
                recording.unheard += 1
                yield part
        except AsrError as error:
            recording.error = error
            recording.parts.clear()

    def _blocks(self, source: Source, recording: _Recording) -> Iterator[np.ndarray]:
        """The samples of a source at the network's rate, in blocks."""
        rate = self.frontend.sample_rate
        if isinstance(source, np.ndarray):
            samples = _waveform(source, rate)
            recording.samples = len(samples)
            for start in range(0, len(samples), _BLOCK_SECONDS * rate):
                yield samples[start : start + _BLOCK_SECONDS * rate]
            return
        with audio.open_sound(source) as sound:
            recording.notes = sound.notes(rate)
            for block in audio.stream(sound, rate):
                recording.samples += len(block)
                yield block

    @staticmethod
    def _full(window: list[_Part], options: TranscribeOptions) -> bool:
        seconds = sum(part.seconds for part in window)
        return seconds >= _WINDOW_BATCHES * options.batch_seconds or len(window) == _WINDOW_CHUNKS

    def _hear_all(
        self, window: list[_Part], options: TranscribeOptions, heard: Callable[[float], None]
    ) -> None:
        """Hear what waits in the window, longest first, and empty it."""
        waiting = [part for part in window if not part.recording.error]
        window.clear()
        for part in waiting:
            if part.features is None:
                part.recording.unheard -= 1
                heard(part.fresh)
        parts = [part for part in waiting if part.features is not None]
        decoder = self.decoder(options.decoding)
        for indices in sorted_batches(np.array([p.seconds for p in parts]), options.batch_seconds):
            together = [parts[i] for i in indices]
            rows = self.backend.log_probs([p.features for p in together if p.features is not None])
            for part, log_probs in zip(together, rows, strict=True):
                self._read_off(part, log_probs, decoder, options)
            heard(sum(part.fresh for part in together))

    def _read_off(
        self, part: _Part, log_probs: np.ndarray, decoder: Decoder, options: TranscribeOptions
    ) -> None:
        """Text, words and alternatives of one chunk."""
        hypotheses = decoder.decode(log_probs) if len(log_probs) else []
        if hypotheses:
            part.words = find_words(
                log_probs,
                hypotheses[0].tokens,
                self.tokenizer,
                self.frame_seconds,
                self.calibration,
            )
        if options.decoding and options.decoding.nbest > 1:
            part.hypotheses = hypotheses
        part.features = None
        part.recording.unheard -= 1

    def _complete(
        self, waiting: "deque[_Recording]", options: TranscribeOptions
    ) -> Iterator[Transcript]:
        """Transcripts of the recordings at the front that are read and heard to their end."""
        while waiting and waiting[0].read and (waiting[0].error or not waiting[0].unheard):
            recording = waiting.popleft()
            if recording.error and options.on_error == "raise":
                raise recording.error
            yield self._transcript(recording, options)

    def _transcript(self, recording: _Recording, options: TranscribeOptions) -> Transcript:
        parts = recording.parts
        words = [
            replace(word, text=options.cased(word.text))
            for word in join([(part.place, part.words) for part in parts])
        ]
        nbest = tuple(
            Alternatives(
                part.place.start,
                part.place.end,
                tuple(replace(h, text=options.cased(h.text)) for h in part.hypotheses),
            )
            for part in parts
            if part.hypotheses
        )
        return Transcript(
            recording.path,
            text_of(words),
            recording.samples / self.frontend.sample_rate,
            self.name,
            tuple(words),
            nbest,
            recording.notes,
            str(recording.error) if recording.error else None,
            options,
        )


def load(
    path: str | Path | None = None,
    threads: int | None = None,
    backend: BackendName = "auto",
    exact: bool = False,
) -> Recogniser:
    """The recogniser of a model file, dense or packed, or of a name that `asr models` lists.

    None: the one that comes with the package, `models.DEFAULT`. Those of the package bring their
    own decoder options, for transcriptions that are given none (`Recogniser.decoding`).
    A packed file runs without torch; `backend` and `exact` change that (see `open_backend`).
    `threads` sets those of the network. Raises AsrError if the file is no model, or if torch is
    asked for and not installed.
    """
    shipped = models.named(path)
    file = models.resolve(path)
    decoding = shipped.decoding() if shipped else None
    return Recogniser(open_backend(file, threads, backend, exact), file.name, decoding)


def _waveform(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise AsrError(
            f"a waveform must be one row of floats about +-1 at {sample_rate} Hz; this one has "
            f"shape {samples.shape} and type {samples.dtype}"
        )
    if not audio.is_sound(samples):
        raise AsrError(f"a waveform holds samples that are {audio.UNSOUND}")
    return samples.astype(np.float32)
