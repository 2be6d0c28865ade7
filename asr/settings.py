"""Every setting of the project as frozen dataclasses of plain values.

No torch, no YAML here: a packed model is rebuilt from `Frontend` and `Model` on machines that
have neither. Ranges and conflicts are checked when a dataclass is made, in the user's words;
reading YAML files and `key=value` overrides is `asr.configure`.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from asr.errors import problems
from asr.settings_training import Distillation, Optimiser, Pruning, Training

__all__ = [
    "Augment",
    "Data",
    "Distillation",
    "Frontend",
    "Model",
    "Optimiser",
    "Pruning",
    "Run",
    "Spoken",
    "Training",
    "Units",
]


@dataclass(frozen=True)
class Frontend:
    """Waveform to log-mel features; complete, so that any twin can be built from it alone."""

    sample_rate: int = 16000
    """Samples a second that features are made from; other rates are resampled to it."""
    window_seconds: float = 0.025
    """Length of the Hann window."""
    step_seconds: float = 0.010
    """Distance between two frames."""
    fft_size: int = 512
    """Points of the Fourier transform, the window centred in it and zeros around."""
    mels: int = 80
    """Mel bands (HTK scale, triangles of peak 1)."""
    low_hertz: float = 20.0
    """Lower edge of the first band."""
    high_hertz: float = 7600.0
    """Upper edge of the last band."""
    log_floor: float = 1e-6
    """Added to the mel power before the natural logarithm."""
    normalise: Literal["utterance", "none"] = "utterance"
    """`utterance`: each band to mean 0 and standard deviation 1 over the utterance's own frames."""

    def __post_init__(self) -> None:
        with problems() as check:
            # The upper ends keep a stranger's file from asking for tables without end.
            check(
                1000 <= self.sample_rate <= 384_000,
                f"frontend.sample_rate={self.sample_rate}: from 1000 to 384000",
            )
            check(
                0.001 <= self.step_seconds <= self.window_seconds,
                f"frontend.step_seconds={self.step_seconds}: at least 0.001 and not above "
                "window_seconds",
            )
            check(
                self.window <= self.fft_size,
                f"frontend.fft_size={self.fft_size}: below the window of {self.window} samples",
            )
            check(self.fft_size <= 2**16, f"frontend.fft_size={self.fft_size}: at most 65536")
            check(
                self.fft_size % 2 == 0,
                f"frontend.fft_size={self.fft_size}: must be even, mel bands assume it",
            )
            check(1 <= self.mels <= 1024, f"frontend.mels={self.mels}: from 1 to 1024")
            check(
                0 <= self.low_hertz < self.high_hertz <= self.sample_rate / 2,
                f"frontend.low_hertz={self.low_hertz}, high_hertz={self.high_hertz}: need "
                f"0 <= low < high <= {self.sample_rate / 2:g}, half the sample rate",
            )
            check(0 < self.log_floor <= 1, f"frontend.log_floor={self.log_floor}: above 0 to 1")

    @property
    def window(self) -> int:
        """Window length in samples."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def step(self) -> int:
        """Step in samples."""
        return round(self.step_seconds * self.sample_rate)

    def frames(self, samples: int) -> int:
        """Frames of a waveform of `samples` samples: windows that lie wholly inside it."""
        return 0 if samples < self.window else 1 + (samples - self.window) // self.step


@dataclass(frozen=True)
class Augment:
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
                self.reverberation_probability > 0 or not self.response_folder,
                "augment.response_folder is set but augment.reverberation_probability=0",
            )
            check(
                self.noise_probability > 0 or not self.noise_folder,
                "augment.noise_folder is set but augment.noise_probability=0 uses no noise",
            )
            check(
                len(self.noise_snr_decibels) == 2
                and self.noise_snr_decibels[0] <= self.noise_snr_decibels[1],
                f"augment.noise_snr_decibels={self.noise_snr_decibels}: two numbers, low then high",
            )


Cell = Literal["gru", "lstm", "rnn_tanh", "rnn_relu"]


@dataclass(frozen=True)
class Model:
    """Dimensions of the Deep Speech 2 network: a file rebuilds its model from these alone."""

    mels: int = 80
    """Input features a frame; the same as `frontend.mels`."""
    outputs: int = 29
    """Symbols including the CTC blank (index 0); set from the units when training."""
    conv_channels: list[int] = field(default_factory=lambda: [32, 32])
    """Channels of the 1 to 3 convolutions."""
    conv_kernels: list[list[int]] = field(default_factory=lambda: [[11, 5], [5, 5]])
    """[bands, frames] of each kernel, odd numbers; the paper's are [41, 11] and [21, 11]."""
    conv_strides: list[list[int]] = field(default_factory=lambda: [[2, 2], [2, 2]])
    """[bands, frames] of each stride."""
    cell: Cell = "gru"
    """Recurrent cell."""
    hidden: int = 256
    """Units of a recurrent layer in one direction."""
    layers: int = 3
    """Recurrent layers."""
    bidirectional: bool = True
    """Both directions of time, or forward only."""
    combine: Literal["sum", "concat"] = "sum"
    """How two directions are joined; the paper sums."""
    shared_input: bool = False
    """One input matrix for both directions, as in the paper; one tied parameter."""
    batch_norm: bool = True
    """Sequence-wise batch normalisation before each recurrent layer and after convolutions."""
    dropout: float = 0.0
    """Dropout before each recurrent layer but the first and before the output, training only."""

    def __post_init__(self) -> None:
        with problems() as check:
            n = len(self.conv_channels)
            check(
                1 <= n <= 3 and len(self.conv_kernels) == n and len(self.conv_strides) == n,
                f"model: conv_channels ({n}), conv_kernels ({len(self.conv_kernels)}) and "
                f"conv_strides ({len(self.conv_strides)}) must have the same length, 1 to 3",
            )
            for kernel in self.conv_kernels:
                check(
                    len(kernel) == 2 and all(k >= 1 and k % 2 == 1 for k in kernel),
                    f"model.conv_kernels: {list(kernel)} must be two odd numbers, [bands, frames]",
                )
            for stride in self.conv_strides:
                check(
                    len(stride) == 2 and all(s >= 1 for s in stride),
                    f"model.conv_strides: {list(stride)} must be two positive numbers",
                )
            for name in ("mels", "hidden", "layers"):
                check(getattr(self, name) >= 1, f"model.{name}={getattr(self, name)}: at least 1")
            check(all(c >= 1 for c in self.conv_channels), "model.conv_channels: at least 1 each")
            check(self.outputs >= 2, f"model.outputs={self.outputs}: at least a blank and a symbol")
            check(0 <= self.dropout < 1, f"model.dropout={self.dropout}: from 0 to below 1")
            check(
                self.bidirectional or not self.shared_input,
                "model.shared_input=true needs model.bidirectional=true: it has one direction only",
            )

    @property
    def time_stride(self) -> int:
        """Input frames an output frame advances by."""
        return math.prod(s[1] for s in self.conv_strides)

    def output_length(self, frames: int) -> int:
        """Output frames of `frames` input frames: the one place that knows the stride."""
        for _, stride in self.conv_strides:
            frames = -(-frames // stride)
        return frames

    @property
    def conv_features(self) -> int:
        """Features that the last convolution hands to the first recurrent layer."""
        bands = self.mels
        for stride, _ in self.conv_strides:
            bands = -(-bands // stride)
        return bands * self.conv_channels[-1]

    @property
    def layer_outputs(self) -> int:
        """Features that a recurrent layer hands on."""
        return self.hidden * (2 if self.bidirectional and self.combine == "concat" else 1)


Synthesiser = Literal["espeak", "pico", "flite"]


@dataclass(frozen=True)
class Spoken:
    """The built-in spoken corpus, of synthetic speech; used by entries `spoken:train` and so on."""

    vocabulary: Literal["small", "large"] = "small"
    """Grammar: `small` has about 300 words, `large` at least 1,500."""
    text: list[str] = field(default_factory=list)
    """Text files (plain, gzip, xz) or manifests whose lines are spoken instead of a grammar's."""
    synthesisers: list[Synthesiser] = field(default_factory=lambda: ["espeak"])
    """Who speaks: each training sentence draws one of these, and one that stands here twice is
    drawn twice as often. dev and test are spoken by espeak alone."""
    train_hours: float = 1.0
    """Hours of the part `train`."""
    dev_hours: float = 0.1
    """Hours of the part `dev`."""
    test_hours: float = 0.3
    """Hours of the part `test`."""
    seed: int = 1
    """Draws sentences, voices and acoustics."""
    folder: str = ""
    """Where it is made; empty: `data/spoken/<a name made from these settings>`."""

    def __post_init__(self) -> None:
        with problems() as check:
            for name in ("train_hours", "dev_hours", "test_hours"):
                check(getattr(self, name) > 0, f"data.spoken.{name}={getattr(self, name)}: above 0")
            check(len(self.synthesisers) > 0, "data.spoken.synthesisers=[]: name at least one")


@dataclass(frozen=True)
class Data:
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
class Units:
    """The symbols that the network writes."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    """A to Z, apostrophe and space; or pieces learnt by `asr units train`."""
    file: str = ""
    """SentencePiece model file; empty: one is trained on the training texts, in the run folder."""
    size: int = 128
    """Pieces to learn when no file is given."""

    def __post_init__(self) -> None:
        with problems() as check:
            check(self.size >= 30, f"units.size={self.size}: at least 30")
            check(
                not (self.file and self.kind == "characters"),
                "units.file is set, units.kind=characters takes none: set units.kind=sentencepiece",
            )


@dataclass(frozen=True)
class Run:
    """One training, whole: the content of a recipe's YAML file."""

    name: str = "run"
    """Names the run folder."""
    recipe: str = ""
    """Recipe this run belongs to; recorded."""
    group: str = ""
    """Series it belongs to in tables and plots, such as `dense` or `sparse`; recorded."""
    label: str = ""
    """What tables call it; empty: the name."""
    seed: int = 1
    """Everything random is drawn from this."""
    threads: int = 1
    """Threads of torch."""
    runs: str = ""
    """Folder of run folders; empty: the environment variable ASR_RUNS, else `runs`."""
    init: str = ""
    """Model or packed file whose weights training starts from."""
    data: Data = field(default_factory=Data)
    units: Units = field(default_factory=Units)
    frontend: Frontend = field(default_factory=Frontend)
    augment: Augment = field(default_factory=Augment)
    model: Model = field(default_factory=Model)
    optimiser: Optimiser = field(default_factory=Optimiser)
    pruning: Pruning = field(default_factory=Pruning)
    distillation: Distillation = field(default_factory=Distillation)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        with problems() as check:
            check(bool(self.name) and "/" not in self.name, f"name={self.name!r}: a plain name")
            check(self.threads >= 1, f"threads={self.threads}: at least 1")
            check(
                self.model.mels == self.frontend.mels,
                f"model.mels={self.model.mels}, frontend.mels={self.frontend.mels}: must be equal",
            )
            check(
                bool(self.init) or not (self.pruning.method == "frozen" or self.pruning.keep_zeros),
                "pruning.method=frozen and pruning.keep_zeros keep the zeros of init=FILE, and "
                "init is empty",
            )
