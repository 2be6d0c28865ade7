"""How recordings are transcribed: one frozen dataclass for Python and the command line."""

from dataclasses import dataclass, field
from typing import Literal

from asr.audio.chunk import ChunkOptions
from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.transcribe.subtitles import SubtitleOptions


@dataclass(frozen=True)
class TranscribeOptions:
    """How recordings are transcribed. Raises AsrError for what does not go together."""

    decoding: DecoderOptions | None = None
    """Decoder, language model, boosted phrases, number of hypotheses; None: the recogniser's own
    (`Recogniser.decoding`)."""
    chunks: ChunkOptions = field(default_factory=ChunkOptions)
    """How long recordings are split."""
    subtitles: SubtitleOptions = field(default_factory=SubtitleOptions)
    """Limits of srt and vtt."""
    batch_seconds: float = 120.0
    """Most seconds of audio in a batch, padding included; a longer chunk is a batch of its own."""
    on_error: Literal["raise", "report"] = "raise"
    """A recording that cannot be read: raise AsrError, or set `Transcript.error` and go on."""
    channel: int | None = None
    """Transcribe this channel alone, counted from 1; without it all channels are mixed."""
    case: Literal["lower", "upper"] | None = None
    """Lower or upper case of all texts, instead of that of the model's tokenizer."""

    def __post_init__(self) -> None:
        if not self.batch_seconds > 0:
            raise AsrError(f"batch_seconds={self.batch_seconds}: above 0")
        if self.batch_seconds > 10**9:
            raise AsrError(f"batch_seconds={self.batch_seconds}: at most {10**9:,}")
        if self.channel is not None and self.channel < 1:
            raise AsrError(f"channel={self.channel}: channels are counted from 1")
        if self.on_error not in ("raise", "report"):
            raise AsrError(f"on_error={self.on_error!r}: raise or report")
        if self.case not in (None, "lower", "upper"):
            raise AsrError(f"case={self.case!r}: lower or upper, or None for the model's own")

    def cased(self, text: str) -> str:
        """The text in the letter case `case`."""
        return text if self.case is None else getattr(text, self.case)()
