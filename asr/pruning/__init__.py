"""Pruning while training, for any torch model; leaves an ordinary model with exact zeros.

    q = calibrate(dense, find(model))
    pruner = Pruner(model, ThresholdRamp(1000, 5000, 10000, 100), q)
    for batch in batches:
        loss(model, batch).backward()
        pruner.mask_gradients()
        optimiser.step()
        pruner.step(optimiser)
        optimiser.zero_grad()
    pruner.finalize()

Needs torch alone; `PruningCallback` brings Lightning in when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from asr.pruning.calibrate import calibrate
from asr.pruning.lasso import GroupLasso
from asr.pruning.masks import PrunedTooFar
from asr.pruning.prunable import aliases, find, group_of
from asr.pruning.pruner import Pruner
from asr.pruning.schedule import (
    FewUpdates,
    Frozen,
    Schedule,
    ThresholdRamp,
    ThresholdSchedule,
    schedule_from_plain,
)
from asr.pruning.statistics import Statistics, TensorStatistics, statistics

if TYPE_CHECKING:
    from asr.pruning.callback import PruningCallback

__all__ = [
    "FewUpdates",
    "Frozen",
    "GroupLasso",
    "PrunedTooFar",
    "Pruner",
    "PruningCallback",
    "Schedule",
    "Statistics",
    "TensorStatistics",
    "ThresholdRamp",
    "ThresholdSchedule",
    "aliases",
    "calibrate",
    "find",
    "group_of",
    "schedule_from_plain",
    "statistics",
]


def __getattr__(name: str) -> Any:
    if name == "PruningCallback":
        from asr.pruning.callback import PruningCallback

        return PruningCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
