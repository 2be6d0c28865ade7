"""RigL: sparse from the first step on, small weights replaced by ones with large gradients.

Evci et al. 2020, *Rigging the Lottery* (arXiv 1911.11134). The number of weights never changes, so
a sparse network is trained all through, from a random mask; here dense arithmetic does it.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.checks import check_fraction
from asr.pruning.masks import keep_largest
from asr.pruning.schedule import (
    SparsitySchedule,
    check_room,
    check_steps,
    given,
    steps_of,
)


@dataclass(frozen=True)
class RigL(SparsitySchedule):
    """After step 1 every tensor keeps a random fraction of its weights, and never more or fewer.

    At each multiple of `frequency` up to `end` the smallest weights are dropped and as many come
    back, at zero and without moments of the optimiser, where the gradient is largest (Algorithm
    1); the fraction that is replaced falls from `drop_fraction` to 0 along a cosine. What is
    dropped and grown in one update keeps its value, as in the authors' code. The gradients of such
    a step are left dense by `Pruner.mask_gradients` and are read by `Pruner.step`, so they must not
    be set to zero between the two; they are those of one step, clipped if you clip. A step that was
    skipped, because `mask_gradients` saw no gradient or an infinite one, changes no mask. Raises
    AsrError for numbers that make no sense; all steps are optimiser steps.
    """

    method: ClassVar[str] = "rigl"
    regrows: ClassVar[bool] = True

    end: int
    """Last step at which weights may be replaced."""
    frequency: int
    """Steps between two updates."""
    target: float
    """Fraction dropped, from the first step on."""
    drop_fraction: float = 0.3
    """Fraction of the remaining weights that is replaced at the start of the cosine."""
    seed: int = 0
    """Draws the first masks, by the names of the tensors."""

    def __post_init__(self) -> None:
        check_steps(self, "end", "frequency", "seed")
        check_fraction("RigL: target", self.target)
        check_fraction("RigL: drop_fraction", self.drop_fraction)
        if not 2 <= self.frequency <= self.end:
            raise AsrError(f"RigL: need 2 <= frequency <= end, got {given(self)}")

    @classmethod
    def from_fractions(
        cls,
        total_steps: int,
        end: float = 0.75,
        mask_updates: int = 20,
        target: float = 0.9,
        drop_fraction: float = 0.3,
        seed: int = 0,
    ) -> Self:
        """`end` as a fraction of `total_steps` optimiser steps; at least `mask_updates` updates.

        Raises AsrError if there is no room for them.
        """
        (last,) = steps_of(total_steps, end=end)
        check_room(total_steps, 0, last, last // 2, mask_updates)
        return cls(last, last // mask_updates, target, drop_fraction, seed)

    @property
    def update_steps(self) -> Sequence[int]:
        """The first step, then every replacement."""
        return [1, *range(self.frequency, self.end + 1, self.frequency)]

    def is_update(self, step: int) -> bool:
        """The first step, and multiples of `frequency` up to `end`."""
        return step == 1 or (0 < step <= self.end and step % self.frequency == 0)

    def is_finished(self, step: int) -> bool:
        """From the last replacement on."""
        return step >= self.end - self.end % self.frequency

    def sparsity(self, step: int) -> float:
        """`target`, from the first step on."""
        return self.target if step >= 1 else 0.0

    def drop_fraction_at(self, step: int) -> float:
        """drop_fraction / 2 (1 + cos(pi step / end)), of the weights that are kept at `step`."""
        return self.drop_fraction / 2 * (1 + math.cos(math.pi * min(step, self.end) / self.end))

    def scores(self, step: int, name: str, weight: nn.Parameter, keep: Tensor | None) -> Tensor:
        """2 for what survives, 1 for what is grown, 0 for the rest; random ones at first.

        Raises AsrError if there is no gradient to grow by.
        """
        if keep is None:
            draw = torch.Generator().manual_seed(self.seed * 1_000_003 + zlib.crc32(name.encode()))
            return torch.rand(weight.shape, generator=draw).to(weight.device)
        if weight.grad is None:
            raise AsrError(
                f"RigL grows where gradients are large, and {name} has none after step {step}: "
                "call Pruner.step() after optimiser.step() and before optimiser.zero_grad()"
            )
        kept = int(keep.count_nonzero())
        grown = round(self.drop_fraction_at(step) * kept)
        never = float("-inf")
        magnitude = weight.detach().float().abs().masked_fill(~keep, never).flatten()
        survives = keep_largest(magnitude, kept - grown)
        gradient = weight.grad.detach().float().abs().flatten().masked_fill(survives, never)
        return (2.0 * survives + keep_largest(gradient, grown)).view(weight.shape)
