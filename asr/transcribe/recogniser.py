"""A network with its tokenizer, decoder and calibration: `load(model).transcribe(recordings)`."""

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.audio.chunk import ChunkOptions, is_silent
from asr.decode import Decoder, DecoderOptions, Hypothesis, make_decoder, priors
from asr.decode.alignment import find_words
from asr.decode.beam import BeamDecoder
from asr.decode.confidence import Calibration
from asr.decode.hypothesis import Word, text_of
from asr.decode.library import native
from asr.errors import AsrError
from asr.model.backend import Backend, BackendName, Device, NativeBackend, open_backend
from asr.model.native_kernels import compiled
from asr.model.stream import why_not_exact
from asr.pretrained import registry
from asr.text.tokenizer import Tokenizer
from asr.transcribe.exact import ExactCore
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.pipeline import Floats, Pipeline, Recording
from asr.transcribe.source import Source
from asr.transcribe.stitch import join_log_probs, join_words
from asr.transcribe.stream import Core, Stream
from asr.transcribe.transcript import ChunkHypotheses, Transcript
from asr.transcribe.windows import WindowCore, WindowOptions

_DECODERS = 8


@dataclass(frozen=True)
class _Decoded:
    """What the decoder found in one chunk; times are seconds from the chunk's beginning."""

    words: list[Word]
    hypotheses: list[Hypothesis]


class Recogniser:
    """A network with its tokenizer, decoder and calibration; made by `load`.

    Several threads may use it at once: nothing that a transcription changes is shared. It can be
    pickled for other processes, which open the model file again, and copied; copies share the
    network.

    >>> recogniser = load("model.asr")
    >>> [transcript] = recogniser.transcribe(["talk.flac"])
    >>> [word.text for word in transcript.words]
    ['BAD', 'CAFE']
    """

    def __init__(
        self,
        backend: Backend,
        tokenizer: Tokenizer,
        decoding: DecoderOptions | None = None,
        calibration: Calibration | None = None,
        name: str = "",
        token_priors: Floats | None = None,
    ) -> None:
        self.backend, self.tokenizer = backend, tokenizer
        self.decoding = decoding or DecoderOptions()
        """The decoder of transcriptions that ask for no other. It is made when it is first needed:
        an alignment needs none, and a language model takes a moment to open."""
        self.calibration = calibration
        """The map from raw to calibrated confidence; None: confidences are raw."""
        self.name = name
        """File name of the model, for transcripts."""
        self.token_priors = token_priors
        """Mean probability of each token, for `DecoderOptions.prior_weight`; None: not known."""
        self.frontend = backend.frontend
        self.frame_seconds = backend.frame_seconds
        """Seconds from one output frame of the network to the next."""
        self._decoders: dict[DecoderOptions, Decoder] = {}
        self._making = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Without decoders, which are made when they are needed, and without weights."""
        made_of = self.backend, self.tokenizer, self.decoding, self.calibration, self.name
        return type(self), (*made_of, self.token_priors)

    def transcribe(
        self,
        sources: Source | Iterable[Source],
        options: TranscribeOptions | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Iterator[Transcript]:
        """Yield the transcript of each file or waveform, in the order given.

        A source is a path, an open file, the bytes of one, or a waveform (`source.Source`). One
        source alone may be given without a list. An iterator is read only as far as needed,
        and so is a long recording: memory grows with neither. `on_progress` is called with the
        seconds of audio of every batch that is done. Raises AsrError at once for a language model
        that cannot be used, and at a recording that cannot be read, after all those before it
        were yielded, unless `options.on_error` is "report". Of a recording that is truncated or
        damaged the rest is transcribed: `Transcript.complete` is False then.

        >>> recogniser = load("model.asr")
        >>> for transcript in recogniser.transcribe(["talk.flac"]):
        ...     print(transcript.path, transcript.text)
        talk.flac BAD CAFE
        """
        options = self.completed(options)
        decoder = self.decoder(options.decoding)
        pipeline = Pipeline(
            self.backend, options, lambda rows: self._decode(rows, decoder), on_progress
        )
        return (self._transcript(recording, options) for recording in pipeline.run(sources))

    def run(
        self,
        sources: Source | Iterable[Source],
        options: TranscribeOptions | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Iterator[tuple[Floats, float]]:
        """Run the network alone: yield log-probabilities and duration in seconds of each source.

        The log-probabilities `(frames, tokens)` are natural logs, those that `transcribe` decodes.
        Those of the chunks of a long recording are joined (`stitch.join_log_probs`); two hours
        take 20 MB for 29 tokens. Arguments and errors are those of `transcribe`, but a recording
        that cannot be read, or is truncated or damaged, always raises.
        """
        options = replace(options or TranscribeOptions(), on_error="raise")
        pipeline = Pipeline(self.backend, options, lambda rows: rows, on_progress)
        for recording in pipeline.run(sources):
            if recording.damage:
                raise AsrError(f"{recording.path}: {recording.damage}")
            chunks = [(chunk.place, chunk.result) for chunk in recording.chunks]
            rows = join_log_probs(chunks, self.frame_seconds, self.tokenizer.size)
            yield rows, recording.samples / self.frontend.sample_rate

    def log_probs(self, source: Source) -> Floats:
        """Log-probabilities `(frames, tokens)` of one source; see `run`."""
        return next(self.run(source))[0]

    def stream(
        self, options: TranscribeOptions | None = None, windows: WindowOptions | None = None
    ) -> Stream:
        """A stream: push samples as they come, get words as they are said.

        A network that runs forward only, with features normalised over the past alone, streams
        exactly (`Stream.exact`): the words are those of the whole recording. Any other one is run
        on the last seconds again and again, as `windows` says. Raises AsrError for options that a
        stream cannot honour.

        >>> import soundfile
        >>> stream = load("model.asr").stream()
        >>> samples, rate = soundfile.read("talk.flac", dtype="float32")
        >>> update = stream.push(samples)  # 20 ms or more, float32 at `frontend.sample_rate`
        >>> [word.text for word in update.stable], [word.text for word in update.provisional]
        (['BAD'], ['CAFE'])
        >>> stream.finish().text
        'BAD CAFE'
        """
        options = self.completed(options)
        decoder = self.decoder(options.decoding)
        rate, note = self.frontend.sample_rate, self.why_not_exact
        core: Core
        if not note:
            if windows is not None:
                raise AsrError("this network streams exactly, without windows: leave them out")
            core = ExactCore(
                self.backend.stream(),
                decoder.stream(),
                self.tokenizer,
                self.frame_seconds,
                self.calibration,
                options.chunks.chunk_seconds,
            )
        else:
            if options.chunks != ChunkOptions():
                raise AsrError(f"a stream in windows has no use for chunk options: {note}")
            core = WindowCore(
                lambda samples: self._words(samples, decoder), rate, windows or WindowOptions()
            )
        return Stream(core, rate, self.name, options, note)

    @property
    def why_not_exact(self) -> str:
        """Why words of a stream may differ from those of the recording; empty: they do not."""
        return why_not_exact(self.backend.dimensions, self.frontend)

    def _words(self, samples: Floats, decoder: Decoder) -> list[Word]:
        """The words of a window; times are seconds from its beginning."""
        if is_silent(samples) or not self.frontend.frames(len(samples)):
            return []
        [log_probs] = self.backend.log_probs([self.backend.features(samples)])
        return self._decode(log_probs, decoder).words

    def completed(self, options: TranscribeOptions | None) -> TranscribeOptions:
        """The same with decoder options: the recogniser's own where `options` has none."""
        options = options or TranscribeOptions()
        return replace(options, decoding=options.decoding or self.decoding)

    def decoder(self, options: DecoderOptions | None = None) -> Decoder:
        """The decoder of these options, `self.decoding` for None.

        The latest ones are cached, with their language models.
        """
        options = options or self.decoding
        with self._making:
            found = self._decoders.pop(options, None)
            if found is None:  # with other phrases the language model is the same one
                lm = next(
                    (
                        d.scorer.lm
                        for o, d in self._decoders.items()
                        if o.lm == options.lm and isinstance(d, BeamDecoder)
                    ),
                    None,
                )
                found = make_decoder(options, self.tokenizer, lm, self.token_priors)
            self._decoders[options] = found
            while len(self._decoders) > _DECODERS:
                self._decoders.pop(next(iter(self._decoders)))
            return found

    def describe(self) -> str:
        """In a few words, for records: what runs the network, and a beam search if there is one."""
        search = f"; beam search in {native()}" if self.decoding.decoder == "beam" else ""
        return self.backend.describe() + search

    def slow(self) -> list[str]:
        """What is slow because compiled code is missing, a sentence each; usually empty."""
        parts = []
        if isinstance(self.backend, NativeBackend) and not compiled():
            parts.append("the network runs on numpy, many times slower")
        if self.decoding.decoder == "beam" and native() != "C":
            parts.append("the beam search runs in Python, about fifty times slower")
        if os.environ.get("ASR_NATIVE") == "0":
            remedy = "the environment variable ASR_NATIVE=0 switches the C library off; unset it"
        else:
            remedy = "the C library is not there; install a wheel, or reinstall with a C compiler"
        return [f"{part}: {remedy}" for part in parts]

    def _decode(self, log_probs: Floats, decoder: Decoder) -> _Decoded:
        """Words and hypotheses of one chunk."""
        hypotheses = decoder.decode(log_probs) if len(log_probs) else []
        if not hypotheses:
            return _Decoded([], [])
        tokens = hypotheses[0].tokens
        words = find_words(log_probs, tokens, self.tokenizer, self.frame_seconds, self.calibration)
        return _Decoded(words, hypotheses)

    def _transcript(self, recording: Recording[_Decoded], options: TranscribeOptions) -> Transcript:
        """The words of all chunks joined, in the letter case of the options."""
        decoded = [(chunk.place, chunk.result or _Decoded([], [])) for chunk in recording.chunks]
        words = [
            replace(word, text=options.cased(word.text))
            for word in join_words([(place, found.words) for place, found in decoded])
        ]
        several = options.decoding is not None and options.decoding.nbest > 1
        nbest = [
            ChunkHypotheses(
                place.start,
                place.end,
                tuple(replace(h, text=options.cased(h.text)) for h in found.hypotheses),
            )
            for place, found in decoded
            if several and found.hypotheses
        ]
        return Transcript(
            recording.path,
            text_of(words),
            recording.samples / self.frontend.sample_rate,
            self.name,
            tuple(words),
            tuple(nbest),
            recording.notes,
            not recording.damage,
            str(recording.error) if recording.error else None,
            options,
        )


def load(
    path: str | Path | None = None,
    threads: int | None = None,
    backend: BackendName = "auto",
    exact: bool = False,
    decoding: DecoderOptions | None = None,
    device: Device = "cpu",
) -> Recogniser:
    """The recogniser of a model file, dense or packed, or of a name that `asr models` lists.

    `path` None: the one that comes with the package, `pretrained.registry.DEFAULT`. A packed file
    runs without torch. `threads`, `backend`, `exact` and `device` are those of `open_backend`.
    `decoding` None: a recogniser of the package decodes by beam search with its language model,
    another one greedily. Raises AsrError if the file is not a model, or if torch or a device is
    requested and not available.

    >>> recogniser = load("model.asr", threads=2)
    >>> recogniser.decoding.decoder, recogniser.frontend.sample_rate
    ('greedy', 16000)
    """
    known = registry.named(path)
    file = known.model if known else Path(str(path))
    if decoding is None and known is not None:
        decoding = known.decoding()
    opened = open_backend(file, threads, backend, exact, device)
    training, tokenizer = opened.metadata.training, opened.tokenizer
    calibration = Calibration.from_plain(training.get("confidence"))
    known_priors = priors.from_plain(training.get(priors.NAME), tokenizer.size)
    return Recogniser(opened, tokenizer, decoding, calibration, file.name, known_priors)


def load_for_command(
    path: str | Path | None = None,
    threads: int | None = None,
    backend: BackendName = "auto",
    exact: bool = False,
    decoding: DecoderOptions | None = None,
    device: Device = "cpu",
) -> Recogniser:
    """`load` for the command line: says once on standard error what is slow, and what helps."""
    recogniser = load(path, threads, backend, exact, decoding, device)
    for sentence in recogniser.slow():
        say_once(f"slow: {sentence}")
    return recogniser


@functools.cache
def say_once(message: str) -> None:
    """Print a message on standard error, the first time only."""
    print(message, file=sys.stderr, flush=True)
