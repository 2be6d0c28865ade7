"""Settings of pruning (a part of `asr.settings.run`).

The names of methods, and of the options that each takes, are those of `asr.pruning`. Whether they
fit each other is decided there alone: `asr.train.pruning.check_pruning` asks before a run starts.
"""

from dataclasses import dataclass, field
from typing import Literal

from asr.errors import problems
from asr.plain import at_most, refuse_unused


@dataclass(frozen=True)
class PruningSettings:
    """Which weights are zeroed, and when."""

    method: Literal["none", "threshold_ramp", "cubic", "one_shot", "rigl", "fixed_mask"] = "none"
    """`threshold_ramp`: the paper's threshold in two slopes; `cubic`: a fraction that grows to
    `target`, ever more slowly; `one_shot`: all at once, at `at`; `rigl`: the target from the first
    step on, small weights replaced by ones with large gradients up to `end`; `fixed_mask`: keep the
    zeros that `init` brings."""
    target: float = 0.0
    """Sparsity to end at, per tensor, group or overall (`scope`). A threshold_ramp corrects its
    slopes on the way; with 0 it follows the thresholds of `dense` alone."""
    dense: str = ""
    """threshold_ramp: model file of a trained dense network to calibrate thresholds from."""
    percentile: float = 0.90
    """threshold_ramp: q is this quantile of the absolute weights of `dense`."""
    calibrate: Literal["tensor", "group"] = "tensor"
    """threshold_ramp: one q for each tensor, or for all recurrent, input, linear, convolution
    weights."""
    start: float = 0.25
    """First step of pruning as a fraction of all optimiser steps."""
    ramp: float = 0.40
    """threshold_ramp: where the threshold begins to rise faster, as a fraction of all steps."""
    end: float = 0.70
    """Where pruning stops, as a fraction of all steps."""
    mask_updates: int = 40
    """Updates of the masks between start and end (at least about 30)."""
    slope_ratio: float = 1.5
    """threshold_ramp: slope after `ramp` over slope before it; 1.5 ends the threshold at q."""
    at: float = 0.50
    """one_shot: when, as a fraction of all steps; 0 is the first step, 1 the last."""
    drop_fraction: float = 0.3
    """rigl: fraction of the weights replaced at first; it falls to 0 at `end`."""
    pattern: Literal["element", "block", "bank"] = "element"
    """`element`: weights one by one; `block`: tiles; `bank`: equal counts in parts of rows."""
    block: list[int] = field(default_factory=lambda: [16, 1])
    """Rows and columns of a tile."""
    block_score: Literal["max", "l2"] = "max"
    """What a tile is ranked by: its largest weight, or the root of the sum of its squares."""
    bank: int = 32
    """Columns of a bank; a target of 0.9 keeps 3 of 32."""
    lasso: float = 0.0
    """Weight of a group lasso over the blocks of `pattern=block`, added to the loss during all of
    the training; 0: none."""
    scope: Literal["tensor", "group", "global"] = "tensor"
    """Which weights are ranked together: of a tensor, of a group of tensors, or all."""
    keep_zeros: bool = False
    """Whether zeros that `init` brings stay, when a pruned network is pruned further."""
    expected_sparsity: float = 0.0
    """threshold_ramp without target: sparsity that `dense` should lead to, checked at the end; 0:
    not checked."""
    tolerance: float = 0.05
    """How far the sparsity may be from `target` or `expected_sparsity` before the run ends with an
    error."""
    tensors: list[str] = field(default_factory=lambda: ["rnn*"])
    """Name patterns of the weights that are pruned, among those that can be (no biases, norms)."""

    def __post_init__(self) -> None:
        with problems() as check:
            for name in ("target", "expected_sparsity"):
                value = getattr(self, name)
                check(0 <= value < 1, f"pruning.{name}={value}: from 0 to below 1")
            check(
                0 < self.percentile < 1,
                f"pruning.percentile={self.percentile}: between 0 and 1; the paper has 0.90",
            )
            check(self.tolerance > 0, f"pruning.tolerance={self.tolerance}: above 0")
            check(self.lasso >= 0, f"pruning.lasso={self.lasso}: not negative")
            check(
                len(self.block) == 2 and all(n >= 1 for n in self.block),
                f"pruning.block={list(self.block)}: [rows, columns], at least 1 each",
            )
            at_most(check, "pruning", self, tolerance=1, lasso=10**6, slope_ratio=10**6)
            at_most(check, "pruning", self, mask_updates=10**6, block=10**6, bank=10**6)
            # With `none` a recipe is trained dense, whatever else it says of pruning.
            none, block = self.method == "none", self.pattern == "block"
            refuse_unused(
                check,
                "pruning",
                self,
                (("target",), not none, "a pruning.method, such as cubic"),
                (("lasso",), block and not none, "pruning.pattern=block and a pruning.method"),
                (("block", "block_score"), none or block, "pruning.pattern=block"),
                (("bank",), none or self.pattern == "bank", "pruning.pattern=bank"),
                (("percentile", "calibrate"), none or bool(self.dense), "pruning.dense=FILE"),
                (
                    ("expected_sparsity",),
                    none or not self.target,
                    "pruning.target=0: a target is always checked",
                ),
            )

    @property
    def final_sparsity(self) -> float:
        """Sparsity of the pruned tensors together that the run has to end at; 0: any."""
        return self.target or self.expected_sparsity
