"""When masks change, and how large a weight must be to stay: pure functions of the step.

A step is one step of the optimiser, counted from 1; step n is `current_itr` = n of Algorithm 1 of
the paper. Schedules of thresholds derive from `ThresholdSchedule`; a schedule of sparsities will
be another type, so that neither can be taken for the other.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from asr.errors import AsrError

ENOUGH_UPDATES = 30


class FewUpdates(UserWarning):
    """So few updates that the threshold stops well short of q."""


class Schedule(ABC):
    """When masks are updated; what the update compares is up to the subclass."""

    @abstractmethod
    def is_update(self, step: int) -> bool:
        """Whether masks are computed anew after optimiser step number `step`."""

    @abstractmethod
    def is_finished(self, step: int) -> bool:
        """Whether no update comes after `step`: the masks are final."""

    def to_plain(self) -> dict[str, Any]:
        """Plain values that `schedule_from_plain` makes an equal schedule of."""
        return {"kind": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


class ThresholdSchedule(Schedule):
    """A schedule whose masks keep the weights at or above a threshold."""

    @abstractmethod
    def relative_threshold(self, step: int) -> float:
        """eps / q at `step`: the threshold in units of the tensor's q."""

    def threshold(self, step: int, q: float) -> float:
        """eps at `step` for a tensor with this q."""
        return q * self.relative_threshold(step)


@dataclass(frozen=True)
class Frozen(Schedule):
    """Keeps the zeros that the weights have when the Pruner is made: for fine-tuning."""

    def is_update(self, step: int) -> bool:
        """Never: the masks are those of the beginning."""
        return False

    def is_finished(self, step: int) -> bool:
        """Always."""
        return True


@dataclass(frozen=True)
class ThresholdRamp(ThresholdSchedule):
    """The paper's gradual pruning (Algorithm 1, equation 1): a threshold that rises in two slopes.

    All of start, ramp, end and frequency are optimiser steps: not batches under gradient
    accumulation, not epochs, not shares. Raises AsrError unless 0 <= start < ramp < end; warns
    (FewUpdates) below 30 updates, because eps then stops well short of q.
    """

    start: int
    """Step after which pruning begins; no update at this step itself."""
    ramp: int
    """Step from which the threshold rises faster."""
    end: int
    """Step from which nothing more is pruned; no update at this step itself."""
    frequency: int
    """Masks are updated at the steps divisible by this, counted from 0."""
    ratio: float = 1.5
    """phi / theta, the second slope over the first; the paper has 1.5 to 2, and 1.5 ends at q."""

    def __post_init__(self) -> None:
        given = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self))
        for name in ("start", "ramp", "end", "frequency"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise AsrError(
                    f"ThresholdRamp: {name}={value!r} must be a whole number of optimiser steps "
                    f"(given {given}); from_fractions takes shares, from_epochs epochs"
                )
        if not 0 <= self.start < self.ramp < self.end:
            raise AsrError(f"ThresholdRamp: need 0 <= start < ramp < end, got {given}")
        if not (math.isfinite(self.ratio) and self.ratio > 0):
            raise AsrError(f"ThresholdRamp: ratio={self.ratio!r} must be above 0 (given {given})")
        if self.frequency < 1 or not self.updates:
            raise AsrError(
                f"ThresholdRamp: frequency={self.frequency} gives no update between start and end "
                f"({given}); it is counted in optimiser steps, from 1 to below end - start"
            )
        if self.updates < ENOUGH_UPDATES:
            warnings.warn(
                f"ThresholdRamp: only {self.updates} updates ({given}): the threshold rises in "
                f"coarse steps and stops at {self.final:.3f} q; choose frequency="
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
        updates: int = 40,
        ratio: float = 1.5,
    ) -> "ThresholdRamp":
        """start, ramp and end as shares of `total_steps` optimiser steps, rounded to steps.

        The frequency is the largest with which at least `updates` updates happen. Raises
        AsrError if the window between start and end has no room for them.
        """
        if not 0 <= start < ramp < end <= 1:
            raise AsrError(
                f"need shares 0 <= start < ramp < end <= 1, got start={start}, ramp={ramp}, "
                f"end={end}"
            )
        if updates < 1:
            raise AsrError(f"updates={updates}: at least 1")
        first, middle, last = (round(total_steps * share) for share in (start, ramp, end))
        if last - first - 1 < updates:
            raise AsrError(
                f"{updates} updates do not fit: of {total_steps} optimiser steps there are only "
                f"{max(0, last - first - 1)} between start={start} (step {first}) and "
                f"end={end} (step {last}); train longer, widen the window or ask for fewer updates"
            )
        return cls(first, middle, last, _frequency_for(first, last, updates), ratio)

    @classmethod
    def from_epochs(
        cls, steps_per_epoch: int, epochs: int, frequency: int = 100, ratio: float = 1.5
    ) -> "ThresholdRamp":
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
        return cls(steps, ramp * steps, end * steps, frequency, ratio)

    @property
    def update_steps(self) -> list[int]:
        """The steps at which masks are updated."""
        first = (self.start // self.frequency + 1) * self.frequency
        return list(range(first, self.end, self.frequency))

    @property
    def updates(self) -> int:
        """How many updates there are."""
        return _count(self.start, self.end, self.frequency)

    @property
    def final(self) -> float:
        """eps / q at the last update: up to one slope short of the formal value at `end`."""
        return self.relative_threshold(self.update_steps[-1])

    def is_update(self, step: int) -> bool:
        """start < step < end, both strict, and step divisible by frequency (Algorithm 1)."""
        return self.start < step < self.end and step % self.frequency == 0

    def is_finished(self, step: int) -> bool:
        """From the last update on, which comes before `end`."""
        return step >= self.update_steps[-1]

    def theta(self, q: float) -> float:
        """The first slope, in units of q for each `frequency` steps (equation 1)."""
        window = 2 * (self.ramp - self.start) + 3 * (self.end - self.ramp)
        return 2 * q * self.frequency / window

    def phi(self, q: float) -> float:
        """The second slope, from `ramp` on."""
        return self.ratio * self.theta(q)

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


def _frequency_for(start: int, end: int, updates: int) -> int:
    """The largest frequency with at least so many updates between start and end; 1 if none has."""
    frequency = max(1, (end - start) // updates)
    # Both ends are excluded, so the plain quotient can fall an update short.
    while frequency > 1 and _count(start, end, frequency) < updates:
        frequency -= 1
    return frequency


_KINDS: dict[str, type[Schedule]] = {kind.__name__: kind for kind in (ThresholdRamp, Frozen)}


def schedule_from_plain(plain: Mapping[str, Any]) -> Schedule:
    """The schedule that `Schedule.to_plain` described. Raises AsrError for an unknown kind."""
    values = dict(plain)
    kind = values.pop("kind", None)
    if kind not in _KINDS:
        raise AsrError(f"unknown pruning schedule {kind!r}; there are {', '.join(_KINDS)}")
    known = {f.name for f in fields(_KINDS[kind])}  # type: ignore[arg-type]
    if unknown := set(values) - known:
        raise AsrError(
            f"pruning schedule {kind} has no field {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    return _KINDS[kind](**values)
