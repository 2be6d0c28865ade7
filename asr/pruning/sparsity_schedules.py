"""Schedules of the fraction that is dropped: every tensor (or ranking group) gets exactly there."""

import warnings
from dataclasses import dataclass
from typing import ClassVar, Self

from asr.errors import AsrError
from asr.pruning.checks import check_fraction, is_number
from asr.pruning.schedule import (
    ENOUGH_UPDATES,
    FewUpdates,
    SparsitySchedule,
    check_room,
    check_steps,
    given,
    steps_of,
)


@dataclass(frozen=True)
class Cubic(SparsitySchedule):
    """Zhu and Gupta (2017, arXiv 1710.01878): fast at first, ever slower towards `target`.

    s(t) = target + (initial - target) (1 - (t - start) / (n frequency))^3. Small networks recover
    best if the last weights, which are the hardest to do without, go slowly. start, end and
    frequency are optimiser steps. Raises AsrError unless 0 <= start < end and
    0 <= initial < target < 1; warns (FewUpdates) below 30 updates.
    """

    method: ClassVar[str] = "cubic"

    start: int
    """Step of the first update, which drops the fraction `initial`."""
    end: int
    """Last step at which an update may come; n = (end - start) // frequency."""
    frequency: int
    """Steps between two updates, counted from `start`."""
    target: float
    """Fraction dropped by the last update and from then on."""
    initial: float = 0.0
    """Fraction dropped by the update at `start`."""

    def __post_init__(self) -> None:
        kind = type(self).__name__
        check_steps(self, "start", "end", "frequency")
        if not 0 <= self.start < self.end:
            raise AsrError(f"{kind}: need 0 <= start < end, got {given(self)}")
        if not 1 <= self.frequency <= self.end - self.start:
            raise AsrError(
                f"{kind}: frequency={self.frequency} must be from 1 to end - start = "
                f"{self.end - self.start} ({given(self)}); it is counted in optimiser steps"
            )
        check_fraction(f"{kind}: target", self.target)
        if not is_number(self.initial) or not 0 <= self.initial < self.target:
            raise AsrError(f"{kind}: need 0 <= initial < target, got {given(self)}")
        if self.mask_updates < ENOUGH_UPDATES:
            frequency = max(1, (self.end - self.start) // ENOUGH_UPDATES)
            warnings.warn(
                f"{kind}: only {self.mask_updates} updates ({given(self)}): many weights are "
                f"dropped at once; choose frequency={frequency} or less",
                FewUpdates,
                stacklevel=3,
            )

    @classmethod
    def from_fractions(
        cls,
        total_steps: int,
        start: float = 0.25,
        end: float = 0.70,
        mask_updates: int = 40,
        target: float = 0.9,
        initial: float = 0.0,
    ) -> Self:
        """start and end as fractions of `total_steps` optimiser steps, rounded to steps.

        The frequency is the largest with which at least `mask_updates` updates follow the one at
        `start`. Raises AsrError if the window has no room for them.
        """
        first, last = steps_of(total_steps, start=start, end=end)
        check_room(total_steps, first, last, last - first, mask_updates)
        return cls(first, last, (last - first) // mask_updates, target, initial)

    @property
    def update_steps(self) -> range:
        """start, start + frequency, ... up to `end`; a start of 0 is before the first step."""
        return range(self.start or self.frequency, self.end + 1, self.frequency)

    def sparsity(self, step: int) -> float:
        """Fraction dropped at `step`: `initial` up to `start` (0 before it), `target` from the
        last update on."""
        if step < self.start:
            return 0.0
        last = self.update_steps[-1]
        if step >= last:
            return self.target
        remaining = 1 - (step - self.start) / (last - self.start)
        return float(self.target + (self.initial - self.target) * remaining**3)


@dataclass(frozen=True)
class OneShot(SparsitySchedule):
    """All at once. At half of a training: Yu, Seide, Li, Deng (2012); at step 1: sparse training
    with a fixed mask; at the last step: pruning without any training after it."""

    method: ClassVar[str] = "one_shot"

    step: int
    """Optimiser step after which the weights are dropped."""
    target: float
    """Fraction dropped."""

    def __post_init__(self) -> None:
        check_steps(self, "step")
        if self.step < 1:
            raise AsrError(f"OneShot: step={self.step}: steps are counted from 1 ({given(self)})")
        check_fraction("OneShot: target", self.target)

    @classmethod
    def from_fractions(cls, total_steps: int, at: float = 0.5, target: float = 0.9) -> Self:
        """The step as a fraction of `total_steps` optimiser steps, rounded, at least 1."""
        (step,) = steps_of(total_steps, at=at)
        return cls(max(1, step), target)

    @property
    def update_steps(self) -> range:
        """The one step."""
        return range(self.step, self.step + 1)

    def sparsity(self, step: int) -> float:
        """0 before the step, `target` from it on."""
        return self.target if step >= self.step else 0.0
