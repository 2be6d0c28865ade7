"""The schema of `record.json`, what a training writes at its end, as frozen dataclasses.

Plain values only. A training builds a `RunRecord` and `asr.report.records` writes and reads it.
"""

from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
"""Version of the schema; others are refused."""


@dataclass(frozen=True)
class GitState:
    """State of the code; `revision` is empty outside a git checkout."""

    revision: str | None = None
    dirty: bool = False

    def __str__(self) -> str:
        if not self.revision:
            return "unknown"
        return self.revision[:12] + ("+changes" if self.dirty else "")


@dataclass(frozen=True)
class MachineRecord:
    """What the run was made on."""

    cpu: str
    cores: int
    memory_gib: float | None = None
    gpu: str = ""
    """Name of the GPU that trained; empty: none did. One for each of `training.processes`."""
    gpu_memory_gib: float | None = None

    def __str__(self) -> str:
        cores = f"{self.cores} core" + ("s" if self.cores != 1 else "")
        memory = "" if self.memory_gib is None else f", {self.memory_gib:.1f} GiB"
        gpu = f", {self.gpu}" if self.gpu else ""
        if self.gpu and self.gpu_memory_gib is not None:
            gpu += f" with {self.gpu_memory_gib:.0f} GiB"
        return f"{self.cpu}, {cores}{memory}{gpu}"


@dataclass(frozen=True)
class ResumeRecord:
    """A later start of a run that was interrupted."""

    date: str
    git: GitState


@dataclass(frozen=True)
class TrainingRecord:
    """How long it took; figures that a run lacks (no dev set, say) are None."""

    seconds: float
    steps: int
    epochs: int
    audio_hours: float | None = None
    audio_seconds_per_second: float | None = None
    peak_memory_mib: float | None = None
    final_loss: float | None = None
    best_epoch: int | None = None
    dev_wer: float | None = None
    excluded_utterances: int = 0
    skipped_batches: int = 0
    average: float | None = None
    """Decay of the moving average of the weights that was saved."""
    processes: int = 1
    """Processes that trained, each with a device."""
    warnings: tuple[str, ...] = ()
    """What went wrong on the way: blank output, spikes of the loss, gradients that were lost."""


@dataclass(frozen=True)
class TensorRecord:
    """One weight tensor; `group` is its kind of matrix."""

    name: str
    shape: tuple[int, ...]
    elements: int
    nonzeros: int
    group: str = ""

    @property
    def sparsity(self) -> float:
        """Zeros over elements."""
        return 1 - self.nonzeros / self.elements


@dataclass(frozen=True)
class ModelRecord:
    """Size and kind of the network."""

    parameters: int
    nonzeros: int
    prunable_parameters: int
    prunable_nonzeros: int
    cell: str
    hidden: int
    layers: int
    tokenizer: str
    tensors: tuple[TensorRecord, ...] = ()

    @property
    def prunable_sparsity(self) -> float:
        """Zeros over elements of the prunable tensors together."""
        if self.prunable_parameters == 0:
            return 0.0
        return 1 - self.prunable_nonzeros / self.prunable_parameters


@dataclass(frozen=True)
class PruningRecord:
    """What was requested and what was reached; steps are optimiser steps, fractions 0 to 1."""

    method: str
    sparsity: float
    sparsity_min: float
    sparsity_max: float
    target_sparsity: float | None = None
    mask_updates: int | None = None
    start: int | None = None
    ramp: int | None = None
    end: int | None = None
    frequency: int | None = None
    pattern: dict[str, Any] | None = None
    scope: str | None = None
    curve: tuple[tuple[int, float], ...] = ()
    """Sparsity of the prunable tensors after each update of the masks."""
    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)
    """By tensor; `q` as in the paper."""


@dataclass(frozen=True)
class DistillationRecord:
    """The network that taught this one and how; losses are means of the last epoch."""

    teacher: str
    kind: str
    weight: float
    temperature: float
    ctc_loss: float | None = None
    distillation_loss: float | None = None

    def __str__(self) -> str:
        softened = f", T {self.temperature:g}" if self.temperature != 1 else ""
        return f"{self.kind}, {100 * self.weight:g} %{softened}"


@dataclass(frozen=True)
class FilesRecord:
    """Bytes of the dense fp32 model file and of the packed one."""

    model_bytes: int | None = None
    packed_bytes: int | None = None
    packed_values: str | None = None


@dataclass(frozen=True)
class EvaluationRecord:
    """One test set; `wer` and `cer` are fractions, low and high a 95 % bootstrap interval."""

    utterances: int
    words: int
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    speakers: int | None = None
    audio_seconds: float | None = None
    seconds: float | None = None
    """Wall time of the test."""
    insertions: int | None = None
    deletions: int | None = None
    substitutions: int | None = None
    decoder: str = "greedy"
    lm: str | None = None
    normalisation: str = ""
    interval_over: str = "utterances"
    """What the interval was drawn over: `utterances`, or speakers, as in `31 speakers`."""

    @property
    def conditions(self) -> str:
        """What two WERs must have in common to be compared."""
        parts = [f"{self.utterances:,} utterances", f"{self.words:,} words"]
        if self.speakers is not None:
            parts.append(f"{self.speakers:,} speakers")
        if self.audio_seconds is not None:
            parts.append(f"{self.audio_seconds / 60:.1f} minutes")
        lm = f"LM {self.lm}" if self.lm else "no LM"
        text = f"; text normalised by {self.normalisation}" if self.normalisation else ""
        return (
            f"{', '.join(parts)}; {self.decoder} decoding, {lm}{text}; interval over "
            f"{self.interval_over}"
        )


@dataclass(frozen=True)
class SpeedRecord:
    """Wall time of the same audio through the dense and the packed network in one process."""

    dense_seconds: float
    packed_seconds: float
    audio_seconds: float
    threads: int
    median_of: int

    @property
    def ratio(self) -> float:
        """How many times faster the packed network was."""
        return self.dense_seconds / self.packed_seconds


@dataclass(frozen=True)
class RunRecord:
    """One run: training, network, files, and its word error rates."""

    schema: int
    name: str
    recipe: str
    group: str
    label: str
    seed: int
    command: str
    git: GitState
    date: str
    machine: MachineRecord
    threads: int
    training: TrainingRecord
    model: ModelRecord
    files: FilesRecord
    resumed: tuple[ResumeRecord, ...] = ()
    pruning: PruningRecord | None = None
    distillation: DistillationRecord | None = None
    evaluation: dict[str, EvaluationRecord] = field(default_factory=dict)
    speed: SpeedRecord | None = None
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


_GROUPS = {"dense": 0, "sparse": 1, "small-dense": 2}


def sort_key(record: RunRecord) -> tuple[Any, ...]:
    """Order of rows: by kind of network, then group, large before small, little pruned first."""
    model, pruning = record.model, record.pruning
    target = (pruning.target_sparsity or 0.0) if pruning else 0.0
    group = (_GROUPS.get(record.group, len(_GROUPS)), record.group)
    kind = (record.recipe, model.cell, model.tokenizer)
    return (*kind, *group, -model.hidden, target, record.label, record.seed, record.name)
