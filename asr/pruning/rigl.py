"""RigL: sparse from the first step on, exchanging small weights for ones with large gradients.

Evci et al. 2020, *Rigging the Lottery* (arXiv 1911.11134). The number of weights never changes, so
a sparse network is trained all through, from a random mask; here dense arithmetic does it.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.masks import keep_largest
from asr.pruning.schedule import (
    SparsitySchedule,
    check_room,
    check_share,
    check_steps,
    given,
    steps_of,
)


@dataclass(frozen=True)
class RigL(SparsitySchedule):
    """Use it as `Rule(RigL(...), regrow=True)`; steps are optimiser steps.

    After step 1 every tensor keeps a random share of its weights. At each multiple of `frequency`
    up to `end` the smallest weights are dropped and as many come back, at zero and without moments
    of the optimiser, where the gradient is largest (Algorithm 1); the share exchanged falls from
    `fraction` to 0 along a cosine. What is dropped and grown at once keeps its value, as in the
    authors' code. The gradients of such a step are left dense by `Pruner.mask_gradients` and are
    read by `Pruner.step`, so they must not be set to zero between the two; they are those of one
    step, clipped if you clip. A step whose batch was skipped, so that `mask_gradients` saw no
    gradient, exchanges nothing. Raises AsrError for numbers that make no sense.
    """

    end: int
    """Last step at which weights may be exchanged."""
    frequency: int
    """Steps between two exchanges."""
    final: float
    """Share dropped, from the first step on."""
    fraction: float = 0.3
    """Share of the weights exchanged at the start of the cosine."""
    seed: int = 0
    """Draws the first masks, by the names of the tensors."""

    def __post_init__(self) -> None:
        check_steps(self, "end", "frequency", "seed")
        check_share("RigL: final", self.final)
        check_share("RigL: fraction", self.fraction)
        if not 2 <= self.frequency <= self.end:
            raise AsrError(f"RigL: need 2 <= frequency <= end, got {given(self)}")

    @classmethod
    def from_fractions(
        cls,
        total_steps: int,
        end: float = 0.75,
        updates: int = 20,
        final: float = 0.9,
        fraction: float = 0.3,
        seed: int = 0,
    ) -> "RigL":
        """`end` as a share of `total_steps` optimiser steps, with at least `updates` exchanges.

        Raises AsrError if there is no room for them.
        """
        (last,) = steps_of(total_steps, end=end)
        check_room(total_steps, 0, last, last // 2, updates)
        return cls(last, last // updates, final, fraction, seed)

    @property
    def update_steps(self) -> Sequence[int]:
        """The first step, then every exchange."""
        return [1, *range(self.frequency, self.end + 1, self.frequency)]

    def is_update(self, step: int) -> bool:
        """The first step, and multiples of `frequency` up to `end`."""
        return step == 1 or (0 < step <= self.end and step % self.frequency == 0)

    def is_finished(self, step: int) -> bool:
        """From the last exchange on."""
        return step >= self.end - self.end % self.frequency

    def sparsity(self, step: int) -> float:
        """`final`, from the first step on."""
        return self.final if step >= 1 else 0.0

    def exchanged(self, step: int) -> float:
        """Share of the kept weights exchanged at `step`: `fraction / 2 (1 + cos(pi step / end))`"""
        return self.fraction / 2 * (1 + math.cos(math.pi * min(step, self.end) / self.end))

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
        grown = round(self.exchanged(step) * kept)
        never = float("-inf")
        magnitude = weight.detach().float().abs().masked_fill(~keep, never).flatten()
        survives = keep_largest(magnitude, kept - grown)
        gradient = weight.grad.detach().float().abs().flatten().masked_fill(survives, never)
        return (2.0 * survives + keep_largest(gradient, grown)).view(weight.shape)
