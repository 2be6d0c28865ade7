"""Settings of what a training reads: recordings, augmentation, tokens."""

from dataclasses import dataclass, field
from typing import Literal

from asr.corpus.spoken.settings import Spoken
from asr.errors import problems
from asr.plain import refuse_unused


@dataclass(frozen=True)
class AugmentSettings:
    """Changes to training utterances; drawn from (seed, epoch, utterance), never from a worker."""

    speeds: list[float] = field(default_factory=lambda: [0.9, 1.0, 1.1])
    """Speed factors, one drawn for each utterance and epoch; [1.0] switches it off."""
    gain_decibels: float = 6.0
    """Gain drawn uniformly from plus or minus this."""
    noise_probability: float = 0.0
    """Share of utterances that get white or pink noise, or a file of `noise_folder`."""
    noise_snr_decibels: list[float] = field(default_factory=lambda: [10.0, 30.0])
    """Range of the signal-to-noise ratio of added noise."""
    noise_folder: str = ""
    """Folder with noise recordings; empty: generated noise."""
    reverberation_probability: float = 0.0
    """Share of utterances that are heard in a room."""
    response_folder: str = ""
    """Folder with impulse responses of rooms, used every second time; empty: made-up rooms."""
    band_probability: float = 0.0
    """Share of utterances that lose what is below 0 to 300 Hz and above 3 to 8 kHz."""
    codec_probability: float = 0.0
    """Share of utterances that are coded and decoded: mu-law, MP3 or Vorbis at any quality."""
    time_masks: int = 2
    """SpecAugment: masks over time for each utterance."""
    time_mask_frames: int = 25
    """Longest time mask in frames; never more than a fifth of the utterance."""
    frequency_masks: int = 2
    """SpecAugment: masks over mel bands."""
    frequency_mask_bands: int = 15
    """Widest frequency mask in bands."""

    def __post_init__(self) -> None:
        with problems() as check:
            check(
                bool(self.speeds) and all(0.5 <= s <= 2 for s in self.speeds),
                f"augment.speeds={self.speeds}: one or more factors between 0.5 and 2",
            )
            for name in (
                "time_masks",
                "time_mask_frames",
                "frequency_masks",
                "frequency_mask_bands",
            ):
                check(
                    getattr(self, name) >= 0, f"augment.{name}={getattr(self, name)}: not negative"
                )
            for name in ("noise", "reverberation", "band", "codec"):
                share = getattr(self, f"{name}_probability")
                check(0 <= share <= 1, f"augment.{name}_probability={share}: between 0 and 1")
            check(
                len(self.noise_snr_decibels) == 2
                and self.noise_snr_decibels[0] <= self.noise_snr_decibels[1],
                f"augment.noise_snr_decibels={self.noise_snr_decibels}: two numbers, low then high",
            )
            noise, rooms = self.noise_probability > 0, self.reverberation_probability > 0
            refuse_unused(
                check,
                "augment",
                self,
                (
                    ("noise_snr_decibels", "noise_folder"),
                    noise,
                    "augment.noise_probability above 0",
                ),
                (("response_folder",), rooms, "augment.reverberation_probability above 0"),
                (("time_mask_frames",), self.time_masks > 0, "augment.time_masks above 0"),
                (
                    ("frequency_mask_bands",),
                    self.frequency_masks > 0,
                    "augment.frequency_masks above 0",
                ),
            )


@dataclass(frozen=True)
class DataSettings:
    """Which recordings, and how they are put into batches.

    An entry of `train`, `dev` or `test` is a manifest (`*.jsonl`), a folder in LibriSpeech's
    layout, or `spoken:train`, `spoken:dev`, `spoken:test` for the built-in corpus.
    """

    root: str = ""
    """Folder that relative entries are looked up in; empty: the current folder."""
    train: list[str] = field(default_factory=list)
    """Entries to train on."""
    dev: list[str] = field(default_factory=list)
    """Entries to validate on and choose by."""
    test: list[str] = field(default_factory=list)
    """Entries read once, after training; each is reported by itself."""
    spoken: Spoken = field(default_factory=Spoken)
    """The built-in corpus, if an entry names it."""
    batch_seconds: float = 120.0
    """A batch holds at most this much audio, padding included."""
    max_seconds: float = 20.0
    """Longer training utterances are handled by `unusable`."""
    unusable: Literal["refuse", "exclude"] = "refuse"
    """Utterances that cannot be trained on: stop and list them, or leave them out and list them."""
    workers: int = 0
    """Processes that load data; 0: in the training process."""
    cache_gigabytes: float = 2.0
    """Decoded audio kept in memory, up to this much."""

    def __post_init__(self) -> None:
        with problems() as check:
            for name in ("batch_seconds", "max_seconds"):
                check(getattr(self, name) > 0, f"data.{name}={getattr(self, name)}: above 0")
            check(self.workers >= 0, f"data.workers={self.workers}: not negative")
            check(
                self.max_seconds <= self.batch_seconds,
                f"data.max_seconds={self.max_seconds} is above data.batch_seconds="
                f"{self.batch_seconds}: the longest utterance must fit into a batch",
            )


@dataclass(frozen=True)
class TokenizerSettings:
    """The symbols that the network writes."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    """A to Z, apostrophe and space; or pieces learnt by `asr tokenizer train`."""
    file: str = ""
    """SentencePiece model file; empty: one is trained on the training texts, in the run folder."""
    size: int = 128
    """Pieces to learn when no file is given."""

    def __post_init__(self) -> None:
        with problems() as check:
            check(self.size >= 30, f"tokenizer.size={self.size}: at least 30")
            pieces = self.kind == "sentencepiece"
            refuse_unused(
                check,
                "tokenizer",
                self,
                (("file", "size"), pieces, "tokenizer.kind=sentencepiece"),
                (("size",), not self.file, "training a tokenizer, and tokenizer.file is set"),
            )
