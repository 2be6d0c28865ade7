"""Pruning while training, for any torch model; leaves an ordinary model with exact zeros.

    ramp = ThresholdRamp.from_fractions(total_steps=20_000, target=0.9)
    pruner = Pruner(model, Rule(ramp, tensors=["rnn*"]))
    for batch in batches:
        loss(model, batch).backward()
        pruner.mask_gradients()
        optimiser.step()
        pruner.step(optimiser)
        optimiser.zero_grad()
    pruner.finalize()

Needs torch alone; `PruningCallback` imports Lightning when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from asr.pruning.calibrate import calibrate
from asr.pruning.lasso import GroupLasso
from asr.pruning.masks import PrunedTooFar
from asr.pruning.patterns import Bank, Block, Element, Pattern, pattern_from_plain
from asr.pruning.prunable import PassedOver, aliases, find, group_of
from asr.pruning.pruner import Pruner
from asr.pruning.rigl import RigL
from asr.pruning.rule import Rule
from asr.pruning.schedule import (
    FewUpdates,
    FixedMask,
    Schedule,
    SparsitySchedule,
    ThresholdSchedule,
    Unfinished,
    schedule_from_fractions,
    schedule_from_plain,
)
from asr.pruning.sparsity_schedules import Cubic, OneShot
from asr.pruning.statistics import Statistics, TensorStatistics, statistics
from asr.pruning.threshold_schedule import ThresholdRamp

if TYPE_CHECKING:
    from asr.pruning.callback import GroupLassoCallback, PruningCallback

__all__ = [
    "Bank",
    "Block",
    "Cubic",
    "Element",
    "FewUpdates",
    "FixedMask",
    "GroupLasso",
    "GroupLassoCallback",
    "OneShot",
    "PassedOver",
    "Pattern",
    "PrunedTooFar",
    "Pruner",
    "PruningCallback",
    "RigL",
    "Rule",
    "Schedule",
    "SparsitySchedule",
    "Statistics",
    "TensorStatistics",
    "ThresholdRamp",
    "ThresholdSchedule",
    "Unfinished",
    "aliases",
    "calibrate",
    "find",
    "group_of",
    "pattern_from_plain",
    "schedule_from_fractions",
    "schedule_from_plain",
    "statistics",
]


def __getattr__(name: str) -> Any:
    if name in ("PruningCallback", "GroupLassoCallback"):
        from asr.pruning import callback

        return getattr(callback, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
