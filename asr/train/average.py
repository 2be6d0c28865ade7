"""An exponential moving average of the weights while a network trains.

The averaging itself is torch's `AveragedModel`. Lightning's `EMAWeightAveraging` does not fit: it
knows nothing of masks; it copies the whole LightningModule, a teacher too; it has replaced the
average by the network again when the best network is saved, at the end of the epoch; and it uses
the average when training ends, which a run that is resumed after its last step never does.
Here the average is a part of the module beside the network: nothing is replaced, and Lightning
saves and restores it with all other tensors.
"""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_Tensors = tuple[Tensor, ...] | list[Tensor]
"""Of one device and type, as `AveragedModel` groups them."""


def decay_after(averaged: int, decay: float) -> float:
    """The weight of the old average when `averaged` steps are in it: at most `decay`.

    Less at the start, (1 + n) / (10 + n) as in TensorFlow's ExponentialMovingAverage, so that the
    first weights are soon forgotten in a training of any length.
    """
    return min(decay, (1 + averaged) / (10 + averaged))


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of `model` that follows it: call `update_parameters(model)` after optimiser steps.

    The first call copies, each further one moves the copy to decay * copy + (1 - decay) * model
    with the decay of `decay_after`. Running statistics of batch norms are averaged as the weights
    are: the mean of a layer's input is linear in the weights before it, so the statistics of the
    last weights would not fit averaged ones. Counters are copied. `n_averaged`, a buffer,
    counts the calls.
    """

    @torch.no_grad()
    def follow(average: _Tensors, current: _Tensors, averaged: Tensor | int) -> None:
        if average[0].is_floating_point():
            # As in torch.optim.swa_utils, which has no public one for a decay that changes.
            torch._foreach_lerp_(average, current, 1 - decay_after(int(averaged), decay))
        else:
            for mine, theirs in zip(average, current, strict=True):
                mine.copy_(theirs)

    average = AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
    return average.requires_grad_(False)


class WeightAveraging(Callback):
    """Moves `average` after each optimiser step; it must come after the pruning callback.

    `changed()` says whether the step that was just made updated the masks. The average then starts
    anew: all networks in it have the same masks, so pruned weights are exactly zero in it, and the
    others were trained beside the same weights.
    """

    def __init__(
        self, average: AveragedModel, model: nn.Module, changed: Callable[[], bool]
    ) -> None:
        self.average = average
        self.model = model
        self.changed = changed
        self._seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        if trainer.global_step == self._seen:  # gradients are still being accumulated
            return
        self._seen = trainer.global_step
        if self.changed():
            self.average.n_averaged.zero_()
        self.average.update_parameters(self.model)
