"""Settings of the optimiser, of distillation and of the training loop."""

from dataclasses import dataclass
from typing import Literal

from asr.errors import problems
from asr.plain import at_most, refuse_unused


@dataclass(frozen=True)
class OptimiserSettings:
    """The optimiser and its learning rate."""

    name: Literal["adamw", "nesterov"] = "adamw"
    """AdamW, or stochastic gradient descent with Nesterov momentum as in the paper."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    weight_decay: float = 1e-4
    """Decoupled weight decay for adamw; on matrices only, never on biases and norms."""
    momentum: float = 0.95
    """Momentum of nesterov; adamw has betas (0.9, 0.98)."""
    warmup: float = 0.05
    """Fraction of all steps over which the rate rises from 0."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls to `final_fraction` of the peak after warm-up."""
    final_fraction: float = 0.02
    """Last learning rate as a fraction of the peak."""
    clip_norm: float = 5.0
    """Gradients are scaled down to this norm, taken over all of them together."""

    def __post_init__(self) -> None:
        with problems() as check:
            check(self.learning_rate > 0, f"optimiser.learning_rate={self.learning_rate}: above 0")
            check(0 <= self.warmup < 1, f"optimiser.warmup={self.warmup}: from 0 to below 1")
            check(0 <= self.momentum < 1, f"optimiser.momentum={self.momentum}: from 0 to below 1")
            check(
                0 <= self.final_fraction <= 1,
                f"optimiser.final_fraction={self.final_fraction}: between 0 and 1",
            )
            check(self.clip_norm > 0, f"optimiser.clip_norm={self.clip_norm}: above 0")
            check(self.weight_decay >= 0, f"optimiser.weight_decay={self.weight_decay}: 0 or more")
            at_most(
                check, "optimiser", self, learning_rate=1000, weight_decay=1000, clip_norm=10**9
            )
            refuse_unused(
                check,
                "optimiser",
                self,
                (("momentum",), self.name == "nesterov", "optimiser.name=nesterov"),
                (
                    ("final_fraction",),
                    self.decay != "constant",
                    "optimiser.decay=cosine or linear",
                ),
            )


@dataclass(frozen=True)
class DistillationSettings:
    """Knowledge distillation: the network also learns from the outputs of a trained one."""

    teacher: str = ""
    """Model file of the teacher: same tokenizer, features and stride; empty: no distillation."""
    kind: Literal["frame", "nonblank", "sequence"] = "frame"
    """`frame`: divergence of the posteriors, frame by frame; `nonblank`: the same, each frame
    weighted by the teacher's probability of tokens other than blank; `sequence`: CTC loss of the
    teacher's best transcript."""
    weight: float = 0.5
    """The loss is (1 - weight) x CTC of the true transcript + weight x that of the teacher."""
    temperature: float = 1.0
    """Softens both posteriors of `frame` and `nonblank`; 1: as they are."""

    def __post_init__(self) -> None:
        with problems() as check:
            check(0 < self.weight <= 1, f"distillation.weight={self.weight}: above 0, at most 1")
            check(self.temperature > 0, f"distillation.temperature={self.temperature}: above 0")
            at_most(check, "distillation", self, temperature=1000)
            frames = self.kind != "sequence"
            refuse_unused(
                check,
                "distillation",
                self,
                (("temperature",), frames, "distillation.kind=frame or nonblank"),
                (
                    ("kind", "weight", "temperature"),
                    bool(self.teacher),
                    "distillation.teacher=FILE, a trained network",
                ),
            )


@dataclass(frozen=True)
class TrainingSettings:
    """The training loop."""

    epochs: int = 20
    """Passes over the training data."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """`bf16`: autocast of the network (losses stay float32), up to twice as fast on AMD processors
    with AVX512-BF16, slower than float32 on others; `auto`: bf16 on those, with Intel's AMX, and on
    GPUs that have it. The record says which."""
    accumulate: int = 1
    """Batches whose gradients are added before one optimiser step."""
    invalid_loss: Literal["stop", "skip"] = "stop"
    """A batch with an infinite or NaN loss: print it and stop, or print it and skip it."""
    checkpoint_minutes: float = 10.0
    """A checkpoint to resume from is also written this often; 0: only at the end of epochs."""
    checkpoint_steps: int = 0
    """A checkpoint to resume from is also written after this many optimiser steps; 0: not."""
    average: float = 0.0
    """Decay of an exponential moving average of the weights over optimiser steps, such as 0.999;
    the average is validated and saved. It starts anew at each update of the masks. 0: none."""
    patience: int = 0
    """Stop early after this many validated epochs without a lower word error rate; epochs before
    pruning has ended do not count. 0: never."""
    devices: int = 0
    """Processes on each machine, each with a device of its own: a GPU where there is one. 0: as
    many as torchrun or SLURM started, else 1."""
    nodes: int = 0
    """Machines; 0: those that torchrun or SLURM runs on. More than one needs one of them."""
    strategy: Literal["auto", "ddp"] = "auto"
    """`auto`: DistributedDataParallel (`ddp`) if there are several processes; `ddp`: with one, too,
    which runs what several would run."""
    timeout_minutes: float = 10.0
    """Several processes: one that the others wait for longer than this ends the training."""
    progress: bool = True
    """Show a progress bar."""

    def __post_init__(self) -> None:
        with problems() as check:
            check(self.epochs >= 1, f"training.epochs={self.epochs}: at least 1")
            check(self.accumulate >= 1, f"training.accumulate={self.accumulate}: at least 1")
            check(
                0 <= self.average < 1,
                f"training.average={self.average}: a decay below 1, such as 0.999; 0 averages "
                "nothing",
            )
            for name in ("checkpoint_minutes", "checkpoint_steps"):
                check(getattr(self, name) >= 0, f"training.{name}={getattr(self, name)}: 0 or more")
            for name in ("patience", "devices", "nodes"):
                check(getattr(self, name) >= 0, f"training.{name}={getattr(self, name)}: 0 or more")
            check(
                self.timeout_minutes > 0,
                f"training.timeout_minutes={self.timeout_minutes}: above 0",
            )
            at_most(check, "training", self, patience=10**6, devices=1024, nodes=10**5)
            at_most(check, "training", self, timeout_minutes=10**4)
            at_most(check, "training", self, epochs=10**6, accumulate=10**6)
            at_most(check, "training", self, checkpoint_minutes=10**6, checkpoint_steps=10**9)
