"""The result of transcribing one recording."""

from dataclasses import dataclass, field

from asr.decode import DecoderOptions, Hypothesis
from asr.decode.hypothesis import Word
from asr.transcribe.formats import find_writer
from asr.transcribe.options import TranscribeOptions


@dataclass(frozen=True)
class ChunkHypotheses:
    """What may have been said from `start` to `end` seconds: hypotheses, best first."""

    start: float
    end: float
    hypotheses: tuple[Hypothesis, ...]


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording."""

    path: str
    """As given; empty for a waveform."""
    text: str
    seconds: float
    """Duration of the recording."""
    model: str
    """File name of the model."""
    words: tuple[Word, ...] = ()
    """The words of `text` with start, end (seconds) and confidence (0 to 1)."""
    nbest: tuple[ChunkHypotheses, ...] = ()
    """With `decoding.nbest` above 1: one entry for each chunk of the recording."""
    notes: tuple[str, ...] = ()
    """What was changed while reading: resampled, channels mixed, what is missing."""
    complete: bool = True
    """False for a recording that is truncated or damaged: `notes` says what is missing, and the
    text is that of the rest."""
    error: str | None = None
    """Why there is no text, with `on_error="report"`."""
    options: TranscribeOptions = field(default_factory=TranscribeOptions, repr=False)
    """The options that it was made with."""
    aligned: bool = False
    """The text was given and only its times were found, without a decoder."""

    @property
    def decoding(self) -> DecoderOptions:
        """The decoder options that it was made with; those of a recogniser are filled in."""
        return self.options.decoding or DecoderOptions()

    def to(self, format: str) -> str:
        """The content of a txt, json, srt, vtt or tsv file. Raises AsrError for another name."""
        return find_writer(format).document(self)
