"""Settings of what a training reads: recordings, augmentation, tokenizer."""

from dataclasses import dataclass, field
from typing import Literal

from asr.corpus.spoken.settings import Spoken
from asr.errors import AsrError, problems
from asr.plain import at_most, refuse_unused


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes to training utterances.

    They are drawn from seed, epoch and utterance, so the number of workers does not matter.
    """

    speeds: list[float] = field(default_factory=lambda: [0.9, 1.0, 1.1])
    """Speed factors, one drawn for each utterance and epoch; [1.0]: no speed perturbation."""
    gain_decibels: float = 6.0
    """Largest gain: drawn uniformly from minus to plus this; 0: none."""
    noise_probability: float = 0.0
    """Fraction of utterances with added noise: white or pink, or a file of `noise_folder`."""
    noise_snr_decibels: list[float] = field(default_factory=lambda: [10.0, 30.0])
    """Range of the signal-to-noise ratio of added noise."""
    noise_folder: str = ""
    """Folder of noise recordings; empty: generated noise."""
    reverberation_probability: float = 0.0
    """Fraction of utterances with the reverberation of a room."""
    response_folder: str = ""
    """Folder of impulse responses of rooms, used every second time; empty: simulated rooms only."""
    band_probability: float = 0.0
    """Fraction of utterances whose band is limited: from 0 to 300 Hz on, up to 3 to 8 kHz."""
    codec_probability: float = 0.0
    """Fraction of utterances that are coded and decoded: mu-law, MP3 or Vorbis at any quality."""
    time_masks: int = 2
    """SpecAugment: masks over time in each utterance."""
    time_mask_frames: int = 25
    """Longest time mask in frames; never more than a fifth of the utterance."""
    frequency_masks: int = 2
    """SpecAugment: masks over mel bands in each utterance."""
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
                check(getattr(self, name) >= 0, f"augment.{name}={getattr(self, name)}: 0 or more")
            for name in ("noise", "reverberation", "band", "codec"):
                fraction = getattr(self, f"{name}_probability")
                check(
                    0 <= fraction <= 1,
                    f"augment.{name}_probability={fraction}: from 0 to 1",
                )
            check(
                len(self.noise_snr_decibels) == 2
                and self.noise_snr_decibels[0] <= self.noise_snr_decibels[1],
                f"augment.noise_snr_decibels={self.noise_snr_decibels}: two numbers, low then high",
            )
            check(self.gain_decibels >= 0, f"augment.gain_decibels={self.gain_decibels}: 0 or more")
            at_most(check, "augment", self, gain_decibels=60, noise_snr_decibels=200)
            check(
                all(snr >= -100 for snr in self.noise_snr_decibels),
                f"augment.noise_snr_decibels={self.noise_snr_decibels}: at least -100",
            )
            at_most(check, "augment", self, time_masks=1000, frequency_masks=1000)
            at_most(check, "augment", self, time_mask_frames=10**6, frequency_mask_bands=10**6)
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
    """Which recordings, and how they are batched.

    An entry of `train`, `dev` or `test` is a manifest (`*.jsonl`), a folder in LibriSpeech's
    layout, or `spoken:train`, `spoken:dev`, `spoken:test` for the built-in corpus.
    """

    root: str = ""
    """Folder that relative entries are looked up in; empty: the current folder."""
    train: list[str] = field(default_factory=list)
    """Entries to train on."""
    dev: list[str] = field(default_factory=list)
    """Entries to validate on, by which the best epoch is chosen."""
    test: list[str] = field(default_factory=list)
    """Entries to test on, once, after training; each is reported by itself."""
    spoken: Spoken = field(default_factory=Spoken)
    """Settings of the built-in corpus, if an entry names it."""
    batch_seconds: float | Literal["auto"] = 120.0
    """Audio in a batch at most, padding included; `auto`: as much as the memory of the GPU holds,
    found by trial before the training, and at most a hundredth of an epoch. The record says how
    much."""
    max_seconds: float = 20.0
    """Longest training utterance; `unusable` says what happens to longer ones."""
    unusable: Literal["refuse", "exclude"] = "refuse"
    """Utterances that cannot be trained on: list them and stop, or list them and leave them out."""
    workers: int = 0
    """Processes that load data; 0: the training process does."""
    cache_gigabytes: float = 2.0
    """Decoded audio that the processes of a machine cache in memory at most, all together; 0: none.
    With `workers` it needs a system that can fork processes, such as Linux."""

    def __post_init__(self) -> None:
        with problems() as check:
            check(self.max_seconds > 0, f"data.max_seconds={self.max_seconds}: above 0")
            for name in ("workers", "cache_gigabytes"):
                check(getattr(self, name) >= 0, f"data.{name}={getattr(self, name)}: 0 or more")
            at_most(check, "data", self, max_seconds=10**6, workers=256, cache_gigabytes=10**5)
            if self.batch_seconds == "auto":
                return
            check(self.batch_seconds > 0, f"data.batch_seconds={self.batch_seconds}: above 0")
            at_most(check, "data", self, batch_seconds=10**6)
            check(
                self.max_seconds <= self.batch_seconds,
                f"data.max_seconds={self.max_seconds} is above data.batch_seconds="
                f"{self.batch_seconds}: the longest utterance must fit into a batch",
            )

    @property
    def batch_limit(self) -> float:
        """`batch_seconds` as a number; AsrError for `auto`, which a training replaces by one."""
        if self.batch_seconds == "auto":
            raise AsrError(
                "data.batch_seconds=auto is found when a training starts on a GPU: give seconds "
                "here, such as data.batch_seconds=120"
            )
        return self.batch_seconds


@dataclass(frozen=True)
class TokenizerSettings:
    """The tokens that the network emits."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    """`characters`: A to Z, apostrophe and space; `sentencepiece`: tokens learnt from texts."""
    file: str = ""
    """SentencePiece model (`asr tokenizer train`); empty: one is trained on the training texts."""
    size: int = 128
    """Tokens to learn when no file is given."""

    def __post_init__(self) -> None:
        with problems() as check:
            check(self.size >= 30, f"tokenizer.size={self.size}: at least 30")
            at_most(check, "tokenizer", self, size=10**6)
            sentencepiece = self.kind == "sentencepiece"
            refuse_unused(
                check,
                "tokenizer",
                self,
                (("file", "size"), sentencepiece, "tokenizer.kind=sentencepiece"),
                (("size",), not self.file, "training a tokenizer, and tokenizer.file is set"),
            )
