"""The paper's schedule: a threshold that rises in two slopes (Algorithm 1 and equation 1)."""

import warnings
from dataclasses import dataclass
from typing import ClassVar, Self

from asr.errors import AsrError
from asr.pruning.checks import check_fraction, is_number
from asr.pruning.schedule import (
    ENOUGH_UPDATES,
    FewUpdates,
    ThresholdSchedule,
    check_room,
    check_steps,
    given,
    steps_of,
)


@dataclass(frozen=True)
class ThresholdRamp(ThresholdSchedule):
    """The paper's gradual pruning (Algorithm 1, equation 1): a threshold that rises in two slopes.

    All of start, ramp, end and frequency are optimiser steps: not batches under gradient
    accumulation, not epochs, not fractions. Raises AsrError unless 0 <= start < ramp < end; warns
    (FewUpdates) below 30 updates, because eps then stops well short of q.

                                        . eps = q
                                    . '
                                . '       <- phi = slope_ratio * theta
                            . '
                   ____---'^              <- theta
        ______----'
        start              ramp            end
    """

    method: ClassVar[str] = "threshold_ramp"

    start: int
    """Step after which pruning begins; no update at this step itself."""
    ramp: int
    """Step from which the threshold rises faster."""
    end: int
    """Step from which nothing more is pruned; no update at this step itself."""
    frequency: int
    """Masks are updated at the steps divisible by this, counted from 0."""
    slope_ratio: float = 1.5
    """phi / theta, the second slope over the first; the paper has 1.5 to 2, and 1.5 ends at q."""
    target: float | None = None
    """Sparsity to end at: the slopes are corrected on the way. None: as thresholds lead to."""

    def __post_init__(self) -> None:
        check_steps(self, "start", "ramp", "end", "frequency")
        if not 0 <= self.start < self.ramp < self.end:
            raise AsrError(f"ThresholdRamp: need 0 <= start < ramp < end, got {given(self)}")
        if not (is_number(self.slope_ratio) and self.slope_ratio > 0):
            raise AsrError(
                f"ThresholdRamp: slope_ratio={self.slope_ratio!r} must be above 0 "
                f"(given {given(self)})"
            )
        if self.target is not None:
            check_fraction("ThresholdRamp: target", self.target)
        if self.frequency < 1 or not self.mask_updates:
            raise AsrError(
                f"ThresholdRamp: frequency={self.frequency} gives no update between start and end "
                f"({given(self)}); it is counted in optimiser steps, from 1 to below end - start"
            )
        if self.mask_updates < ENOUGH_UPDATES:
            short = "" if self.target else f" and stops at {self.final_height:.3f} q"
            warnings.warn(
                f"ThresholdRamp: only {self.mask_updates} updates ({given(self)}): the threshold "
                f"rises in coarse steps{short}; choose frequency="
                f"{_frequency_for(self.start, self.end, ENOUGH_UPDATES)} or less",
                FewUpdates,
                stacklevel=3,
            )

    @classmethod
    def from_fractions(
        cls,
        total_steps: int,
        start: float = 0.25,
        ramp: float = 0.40,
        end: float = 0.70,
        mask_updates: int = 40,
        slope_ratio: float = 1.5,
        target: float | None = None,
    ) -> Self:
        """start, ramp and end as fractions of `total_steps` optimiser steps, rounded to steps.

        The frequency is the largest with which at least `mask_updates` updates happen. Raises
        AsrError if the window between start and end has no room for them.
        """
        first, middle, last = steps_of(total_steps, start=start, ramp=ramp, end=end)
        check_room(total_steps, first, last, last - first - 1, mask_updates)
        return cls(
            first, middle, last, _frequency_for(first, last, mask_updates), slope_ratio, target
        )

    @classmethod
    def from_epochs(
        cls, steps_per_epoch: int, epochs: int, frequency: int = 100, slope_ratio: float = 1.5
    ) -> Self:
        """The heuristics of the paper's Table 1: start with the second epoch, ramp at a quarter
        and end at half of all epochs. Raises AsrError below 8 epochs, where ramp <= start."""
        ramp, end = epochs // 4, epochs // 2
        if not 1 < ramp < end:
            raise AsrError(
                f"the paper's heuristics need at least 8 epochs: with {epochs}, pruning would "
                f"start at epoch 1, ramp at epoch {ramp} and end at epoch {end}; "
                f"use ThresholdRamp.from_fractions"
            )
        steps = steps_per_epoch
        return cls(steps, ramp * steps, end * steps, frequency, slope_ratio)

    @property
    def update_steps(self) -> range:
        """start < step < end, both strict, and step divisible by frequency (Algorithm 1)."""
        first = (self.start // self.frequency + 1) * self.frequency
        return range(first, self.end, self.frequency)

    def theta(self, q: float) -> float:
        """The first slope, in units of q for each `frequency` steps (equation 1)."""
        window = 2 * (self.ramp - self.start) + 3 * (self.end - self.ramp)
        return 2 * q * self.frequency / window

    def phi(self, q: float) -> float:
        """The second slope, from `ramp` on."""
        return self.slope_ratio * self.theta(q)

    def relative_threshold(self, step: int) -> float:
        """eps / q by Algorithm 1's formula at any step; 0 up to `start`, not capped at `end`.

        Masks are compared with it at updates only.
        """
        if step <= self.start:
            return 0.0
        theta, phi = self.theta(1.0), self.phi(1.0)
        if step < self.ramp:
            return theta * (step - self.start + 1) / self.frequency
        rise = theta * (self.ramp - self.start + 1) + phi * (step - self.ramp + 1)
        return rise / self.frequency


def _count(start: int, end: int, frequency: int) -> int:
    """Multiples of `frequency` strictly between start and end."""
    return (end - 1) // frequency - start // frequency


def _frequency_for(start: int, end: int, mask_updates: int) -> int:
    """The largest frequency with `mask_updates` updates or more between start and end, else 1."""
    frequency = max(1, (end - start) // mask_updates)
    # Both ends are excluded, so the plain quotient can fall an update short.
    while frequency > 1 and _count(start, end, frequency) < mask_updates:
        frequency -= 1
    return frequency
