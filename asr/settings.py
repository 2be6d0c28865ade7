"""Every setting of the project as frozen dataclasses of plain values.

No torch, no YAML here: a packed model is rebuilt from `Frontend` and `Model` on machines that
have neither. Ranges and conflicts are checked when a dataclass is made, in the user's words;
reading YAML files and `key=value` overrides is `asr.configure`.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from asr.errors import AsrError


@contextmanager
def _problems() -> Iterator[Callable[[bool, str], None]]:
    """Yield `check(condition, message)`; raise one AsrError with all messages that failed."""
    found: list[str] = []

    def check(condition: bool, message: str) -> None:
        if not condition:
            found.append(message)

    yield check
    if found:
        raise AsrError("\n".join(found))


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
        with _problems() as check:
            check(
                self.sample_rate >= 1000, f"frontend.sample_rate={self.sample_rate}: at least 1000"
            )
            check(
                0 < self.step_seconds <= self.window_seconds,
                f"frontend.step_seconds={self.step_seconds}: above 0 and not above window_seconds",
            )
            check(
                self.window <= self.fft_size,
                f"frontend.fft_size={self.fft_size}: below the window of {self.window} samples",
            )
            check(
                self.fft_size % 2 == 0,
                f"frontend.fft_size={self.fft_size}: must be even, mel bands assume it",
            )
            check(self.mels >= 1, f"frontend.mels={self.mels}: at least 1")
            check(
                0 <= self.low_hertz < self.high_hertz <= self.sample_rate / 2,
                f"frontend.low_hertz={self.low_hertz}, high_hertz={self.high_hertz}: need "
                f"0 <= low < high <= {self.sample_rate / 2:g}, half the sample rate",
            )
            check(self.log_floor > 0, f"frontend.log_floor={self.log_floor}: above 0")

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
    time_masks: int = 2
    """SpecAugment: masks over time for each utterance."""
    time_mask_frames: int = 25
    """Longest time mask in frames; never more than a fifth of the utterance."""
    frequency_masks: int = 2
    """SpecAugment: masks over mel bands."""
    frequency_mask_bands: int = 15
    """Widest frequency mask in bands."""

    def __post_init__(self) -> None:
        with _problems() as check:
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
            check(
                0 <= self.noise_probability <= 1,
                f"augment.noise_probability={self.noise_probability}: between 0 and 1",
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
        with _problems() as check:
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


@dataclass(frozen=True)
class Spoken:
    """The built-in spoken corpus, made with espeak-ng; used by entries `spoken:train` and so on."""

    vocabulary: Literal["small", "large"] = "small"
    """Grammar: `small` has about 300 words, `large` at least 1,500."""
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
        with _problems() as check:
            for name in ("train_hours", "dev_hours", "test_hours"):
                check(getattr(self, name) > 0, f"data.spoken.{name}={getattr(self, name)}: above 0")


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
        with _problems() as check:
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
        with _problems() as check:
            check(self.size >= 30, f"units.size={self.size}: at least 30")
            check(
                not (self.file and self.kind == "characters"),
                "units.file is set, units.kind=characters takes none: set units.kind=sentencepiece",
            )


@dataclass(frozen=True)
class Optimiser:
    """How weights move."""

    name: Literal["adamw", "nesterov"] = "adamw"
    """AdamW, or stochastic gradient descent with Nesterov momentum as in the paper."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    weight_decay: float = 1e-4
    """Decoupled for adamw; applied to matrices only, never to biases and norms."""
    momentum: float = 0.95
    """Nesterov momentum; adamw uses betas (0.9, 0.98)."""
    warmup: float = 0.05
    """Share of all steps over which the rate climbs from 0."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """How it falls to `final_fraction` of the peak after warm-up."""
    final_fraction: float = 0.02
    """Last learning rate as a share of the peak."""
    clip_norm: float = 5.0
    """Largest norm of all gradients together."""

    def __post_init__(self) -> None:
        with _problems() as check:
            check(self.learning_rate > 0, f"optimiser.learning_rate={self.learning_rate}: above 0")
            check(0 <= self.warmup < 1, f"optimiser.warmup={self.warmup}: from 0 to below 1")
            check(0 <= self.momentum < 1, f"optimiser.momentum={self.momentum}: from 0 to below 1")
            check(
                0 <= self.final_fraction <= 1,
                f"optimiser.final_fraction={self.final_fraction}: between 0 and 1",
            )
            check(self.clip_norm > 0, f"optimiser.clip_norm={self.clip_norm}: above 0")
            check(
                self.weight_decay >= 0, f"optimiser.weight_decay={self.weight_decay}: not negative"
            )


@dataclass(frozen=True)
class Pruning:
    """Which weights are zeroed, when; `asr.pruning` holds the methods themselves."""

    method: Literal["none", "gradual", "frozen"] = "none"
    """`gradual`: the paper's threshold ramp; `frozen`: keep the zeros that `init` brings."""
    dense: str = ""
    """Model file of a trained dense network that the thresholds are calibrated from."""
    percentile: float = 0.90
    """q is this quantile of the dense network's absolute weights, tensor by tensor."""
    start: float = 0.25
    """First step of pruning as a share of all optimiser steps."""
    ramp: float = 0.40
    """Where the threshold begins to rise faster, as a share of all steps."""
    end: float = 0.70
    """Where pruning stops, as a share of all steps."""
    ramp_ratio: float = 1.5
    """Slope after `ramp` over slope before it; 1.5 ends the threshold at q."""
    updates: int = 40
    """Updates of the threshold between start and end (at least about 30)."""
    wanted: float = 0.0
    """Sparsity of the pruned tensors that is hoped for, checked at the end; 0: none."""
    tolerance: float = 0.05
    """How far the sparsity reached may be from `wanted` before the run ends with an error."""
    tensors: list[str] = field(default_factory=lambda: ["rnn*"])
    """Name patterns of the weights that are pruned, among those that may be (no biases, norms)."""

    def __post_init__(self) -> None:
        with _problems() as check:
            check(
                0 <= self.start < self.ramp < self.end <= 1,
                f"pruning: need 0 <= start < ramp < end <= 1, got start={self.start}, "
                f"ramp={self.ramp}, end={self.end}",
            )
            check(
                self.method == "gradual" or not (self.dense or self.wanted),
                "pruning.dense and pruning.wanted are for pruning.method=gradual, which is "
                f"{self.method}",
            )
            check(0 < self.percentile < 1, f"pruning.percentile={self.percentile}: a share, 0 to 1")
            check(self.ramp_ratio > 0, f"pruning.ramp_ratio={self.ramp_ratio}: above 0")
            check(0 <= self.wanted < 1, f"pruning.wanted={self.wanted}: from 0 to below 1")
            check(self.tolerance > 0, f"pruning.tolerance={self.tolerance}: above 0")
            check(self.updates >= 1, f"pruning.updates={self.updates}: at least 1")
            check(
                self.method != "gradual" or bool(self.dense),
                "pruning.method=gradual needs pruning.dense=FILE, a trained dense model of the "
                "same dimensions, from which the thresholds are calibrated",
            )


@dataclass(frozen=True)
class Distillation:
    """A trained network whose outputs a student follows, beside the true transcripts."""

    teacher: str = ""
    """Model file of the teacher, with the same units, features and stride; empty: no teacher."""
    kind: Literal["frame", "nonblank", "sequence"] = "frame"
    """`frame`: divergence of the posteriors, frame by frame; `nonblank`: the same, each frame
    weighted by the teacher's share of symbols other than blank; `sequence`: CTC loss of the
    teacher's best transcript."""
    weight: float = 0.5
    """The loss is (1 - weight) times CTC of the truth plus weight times that of the teacher."""
    temperature: float = 1.0
    """Softens both posteriors of `frame` and `nonblank`; `sequence` has none, so needs 1."""

    def __post_init__(self) -> None:
        with _problems() as check:
            check(0 < self.weight <= 1, f"distillation.weight={self.weight}: above 0, at most 1")
            check(self.temperature > 0, f"distillation.temperature={self.temperature}: above 0")
            check(
                self.kind != "sequence" or self.temperature == 1,
                f"distillation.temperature={self.temperature} does nothing for "
                "distillation.kind=sequence: leave it at 1",
            )
            check(
                bool(self.teacher)
                or (self.kind, self.weight, self.temperature) == ("frame", 0.5, 1.0),
                "distillation.kind, weight and temperature do nothing without "
                "distillation.teacher=FILE, a trained network",
            )


@dataclass(frozen=True)
class Training:
    """The loop around everything else."""

    epochs: int = 20
    """Passes over the training data."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """`bf16`: autocast of the network (losses stay float32), up to twice as quick on processors
    that multiply it, slow on others; `auto` looks. What was used is recorded."""
    accumulate: int = 1
    """Batches whose gradients are added before one optimiser step."""
    invalid_loss: Literal["stop", "skip"] = "stop"
    """A batch with an infinite or NaN loss: name it and stop, or name it and skip it."""
    checkpoint_minutes: float = 10.0
    """A resume point is also written this often; 0: only at the end of epochs."""
    checkpoint_steps: int = 0
    """A resume point is also written every so many optimiser steps; 0: not."""
    progress: bool = True
    """Show a progress bar."""

    def __post_init__(self) -> None:
        with _problems() as check:
            check(self.epochs >= 1, f"training.epochs={self.epochs}: at least 1")
            check(self.accumulate >= 1, f"training.accumulate={self.accumulate}: at least 1")
            for name in ("checkpoint_minutes", "checkpoint_steps"):
                check(getattr(self, name) >= 0, f"training.{name}={getattr(self, name)}: negative")


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
        with _problems() as check:
            check(bool(self.name) and "/" not in self.name, f"name={self.name!r}: a plain name")
            check(self.threads >= 1, f"threads={self.threads}: at least 1")
            check(
                self.model.mels == self.frontend.mels,
                f"model.mels={self.model.mels}, frontend.mels={self.frontend.mels}: must be equal",
            )
            check(
                self.pruning.method != "frozen" or bool(self.init),
                "pruning.method=frozen keeps the zeros of init=FILE, and init is empty",
            )
