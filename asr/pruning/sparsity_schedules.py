"""Schedules of the share that is dropped: every tensor (or pool of them) gets exactly there."""

import warnings
from dataclasses import dataclass
from typing import ClassVar, Self

from asr.errors import AsrError
from asr.pruning.schedule import (
    ENOUGH_UPDATES,
    FewUpdates,
    SparsitySchedule,
    check_room,
    check_share,
    check_steps,
    given,
    is_number,
    steps_of,
)


@dataclass(frozen=True)
class _Gradual(SparsitySchedule):
    """s(t) = final + (initial - final) (1 - (t - start) / (n frequency))^exponent."""

    exponent: ClassVar[int]

    start: int
    """Step of the first update, which drops the share `initial`."""
    end: int
    """Last step at which an update may come; n = (end - start) // frequency."""
    frequency: int
    """Steps between two updates, counted from `start`."""
    final: float
    """Share dropped by the last update and from then on."""
    initial: float = 0.0
    """Share dropped by the update at `start`."""

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
        check_share(f"{kind}: final", self.final)
        if not is_number(self.initial) or not 0 <= self.initial < self.final:
            raise AsrError(f"{kind}: need 0 <= initial < final, got {given(self)}")
        if self.updates < ENOUGH_UPDATES:
            frequency = max(1, (self.end - self.start) // ENOUGH_UPDATES)
            warnings.warn(
                f"{kind}: only {self.updates} updates ({given(self)}): large shares are dropped "
                f"at once; choose frequency={frequency} or less",
                FewUpdates,
                stacklevel=3,
            )

    @classmethod
    def from_fractions(
        cls,
        total_steps: int,
        start: float = 0.25,
        end: float = 0.70,
        updates: int = 40,
        final: float = 0.9,
        initial: float = 0.0,
    ) -> Self:
        """start and end as shares of `total_steps` optimiser steps, rounded to steps.

        The frequency is the largest with which at least `updates` updates follow the one at
        `start`. Raises AsrError if the window has no room for them.
        """
        first, last = steps_of(total_steps, start=start, end=end)
        check_room(total_steps, first, last, last - first, updates)
        return cls(first, last, (last - first) // updates, final, initial)

    @property
    def update_steps(self) -> range:
        """start, start + frequency, ... up to `end`; a start of 0 is before the first step."""
        return range(self.start or self.frequency, self.end + 1, self.frequency)

    def sparsity(self, step: int) -> float:
        """Share dropped at `step`: `initial` up to `start` (0 before it), `final` from the last
        update on."""
        if step < self.start:
            return 0.0
        last = self.update_steps[-1]
        if step >= last:
            return self.final
        remaining = 1 - (step - self.start) / (last - self.start)
        return float(self.final + (self.initial - self.final) * remaining**self.exponent)


@dataclass(frozen=True)
class Cubic(_Gradual):
    """Zhu and Gupta (2017, arXiv 1710.01878): fast at first, ever slower towards `final`.

    start, end and frequency are optimiser steps. Raises AsrError unless 0 <= start < end and
    0 <= initial < final < 1; warns (FewUpdates) below 30 updates.
    """

    exponent: ClassVar[int] = 3


@dataclass(frozen=True)
class Linear(_Gradual):
    """The same share at every update, from `initial` to `final`; otherwise like `Cubic`."""

    exponent: ClassVar[int] = 1


@dataclass(frozen=True)
class Constant(SparsitySchedule):
    """One share from the first optimiser step on: sparse training with a fixed mask."""

    final: float
    """Share dropped."""

    def __post_init__(self) -> None:
        check_share("Constant: final", self.final)

    @property
    def update_steps(self) -> range:
        """The first step."""
        return range(1, 2)

    def sparsity(self, step: int) -> float:
        """`final`, from the first step on."""
        return self.final if step >= 1 else 0.0


@dataclass(frozen=True)
class OneCut(SparsitySchedule):
    """Yu, Seide, Li, Deng (2012): train dense, cut once at a step, train on with that mask."""

    step: int
    """Optimiser step after which the cut is made."""
    final: float
    """Share dropped by the cut."""

    def __post_init__(self) -> None:
        check_steps(self, "step")
        if self.step < 1:
            raise AsrError(f"OneCut: step={self.step}: steps are counted from 1 ({given(self)})")
        check_share("OneCut: final", self.final)

    @classmethod
    def from_fractions(cls, total_steps: int, cut: float = 0.5, final: float = 0.9) -> "OneCut":
        """The cut as a share of `total_steps` optimiser steps, rounded to a step, at least 1."""
        (step,) = steps_of(total_steps, cut=cut)
        return cls(max(1, step), final)

    @property
    def update_steps(self) -> range:
        """The step of the cut."""
        return range(self.step, self.step + 1)

    def sparsity(self, step: int) -> float:
        """0 before the cut, `final` from it on."""
        return self.final if step >= self.step else 0.0
