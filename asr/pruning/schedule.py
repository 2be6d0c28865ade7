"""When masks change: pure functions of the optimiser step.

A step is one step of the optimiser, counted from 1; step n is `current_itr` = n of Algorithm 1 of
the paper. A `ThresholdSchedule` says how large a weight must be to stay (`threshold_schedule`), a
`SparsitySchedule` which fraction is dropped (`sparsity_schedules`, `rigl`): two types, so that a
threshold cannot be taken for a fraction. Each schedule has a `method`, the name by which settings
and checkpoints know it.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.checks import is_number, is_whole, plain_number

ENOUGH_UPDATES = 30


class FewUpdates(UserWarning):
    """So few updates that pruning comes in coarse steps."""


class Unfinished(UserWarning):
    """Training ends before pruning does, so fewer weights are dropped than were asked for."""


class Schedule(ABC):
    """When masks are updated; what the update compares is up to the subclass.

    A subclass is a frozen dataclass of plain values. For settings it has a class method
    `from_fractions(total_steps, ...)` whose further arguments are fractions and plain numbers.
    """

    method: ClassVar[str] = ""
    """Name in settings and checkpoints; the name of the class if a subclass gives none."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.method = cls.__dict__.get("method", cls.__name__)
        _METHODS.setdefault(cls.method, cls)

    @property
    @abstractmethod
    def update_steps(self) -> Sequence[int]:
        """The steps after which masks are computed anew, ascending; best a `range`."""

    @property
    def mask_updates(self) -> int:
        """How many updates there are."""
        return len(self.update_steps)

    def is_update(self, step: int) -> bool:
        """Whether masks are computed anew after optimiser step number `step`."""
        return step in self.update_steps

    def is_finished(self, step: int) -> bool:
        """Whether no update comes after `step`: the masks are final."""
        return not self.update_steps or step >= self.update_steps[-1]

    def to_plain(self) -> dict[str, Any]:
        """Plain values that `schedule_from_plain` makes an equal schedule of."""
        values = asdict(self)  # type: ignore[call-overload]
        return {"method": self.method, **{k: plain_number(v) for k, v in values.items()}}


_METHODS: dict[str, type[Schedule]] = {}


class ThresholdSchedule(Schedule):
    """A schedule whose masks keep the weights at or above a threshold."""

    target: float | None = None
    """Sparsity to end at, 0 to 1: the thresholds are corrected on the way. None: they are not."""

    @abstractmethod
    def relative_threshold(self, step: int) -> float:
        """eps / q at `step`: the threshold in units of the tensor's q."""

    @property
    def final_height(self) -> float:
        """eps / q at the last update, which a ramp may make a little before its `end`."""
        return self.relative_threshold(self.update_steps[-1])

    def threshold(self, step: int, q: float) -> float:
        """eps at `step` for a tensor with this q."""
        return q * self.relative_threshold(step)


class SparsitySchedule(Schedule):
    """A schedule whose masks drop a fraction of the weights: the smallest ones, counted exactly.

    A criterion other than magnitude is a subclass with `scores` of its own, of `Cubic` for example.
    """

    regrows: ClassVar[bool] = False
    """Whether a dropped weight may come back, at zero, if its score is large at an update; the
    gradients of the step before an update are then left dense."""
    target: float
    """Fraction dropped from the last update on, 0 to 1."""

    @abstractmethod
    def sparsity(self, step: int) -> float:
        """Fraction dropped at `step`, 0 to 1; what an update at that step compares with."""

    def scores(
        self, step: int, name: str, weight: nn.Parameter, keep: Tensor | None
    ) -> Tensor | None:
        """Scores of the weight's shape, of which the largest stay at `step`; None: magnitudes.

        keep: the tensor's mask before this update, None while it has lost nothing.
        """
        return None


@dataclass(frozen=True)
class FixedMask(Schedule):
    """Keeps the zeros that the weights have when the Pruner is made: for fine-tuning."""

    method: ClassVar[str] = "fixed_mask"

    @classmethod
    def from_fractions(cls, total_steps: int) -> "FixedMask":
        """The same for any number of steps."""
        return cls()

    @property
    def update_steps(self) -> range:
        """None: the masks are those of the beginning."""
        return range(0)


def schedule_class(method: str) -> type[Schedule]:
    """The schedule of this name. Raises AsrError, with the names that there are, for another."""
    known = {name: kind for name, kind in _METHODS.items() if not inspect.isabstract(kind)}
    if method not in known:
        raise AsrError(f"unknown pruning method {method!r}; there are {', '.join(known)}")
    return known[method]


def schedule_from_plain(plain: Mapping[str, Any]) -> Schedule:
    """The schedule that `Schedule.to_plain` described. Raises AsrError for an unknown method."""
    values = dict(plain)
    kind = schedule_class(values.pop("method", ""))
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := set(values) - known:
        raise AsrError(
            f"pruning method {kind.method} has no field {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise AsrError(f"pruning method {kind.method}: {error}") from None


def schedule_from_fractions(method: str, total_steps: int, options: Mapping[str, Any]) -> Schedule:
    """The schedule of this name for a training of `total_steps` optimiser steps.

    options: arguments of its `from_fractions` by name; those that it does not take are left out,
    so that one set of options serves for all methods. Raises AsrError as that does.
    """
    make: Any = schedule_class(method).from_fractions  # type: ignore[attr-defined]
    taken = options_of(method)
    schedule: Schedule = make(total_steps, **{k: v for k, v in options.items() if k in taken})
    return schedule


def options_of(method: str) -> list[str]:
    """Names of the options that `schedule_from_fractions` takes for this method."""
    make: Any = schedule_class(method).from_fractions  # type: ignore[attr-defined]
    return [name for name in inspect.signature(make).parameters if name != "total_steps"]


def given(schedule: Schedule) -> str:
    """The fields of a schedule as an error message quotes them."""
    return ", ".join(f"{f.name}={getattr(schedule, f.name)!r}" for f in fields(schedule))  # type: ignore[arg-type]


def check_steps(schedule: Schedule, *names: str) -> None:
    """Raise AsrError unless each of these fields is a whole number of steps."""
    kind = type(schedule).__name__
    for name in names:
        value = getattr(schedule, name)
        if not is_whole(value):
            raise AsrError(
                f"{kind}: {name}={value!r} must be a whole number of optimiser steps "
                f"(given {given(schedule)}); from_fractions takes fractions of all steps"
            )


def steps_of(total_steps: int, **fractions: float) -> list[int]:
    """Fractions of all optimiser steps, rounded to steps.

    Raises AsrError unless 0 <= a < b < ... <= 1 and `total_steps` is a number of steps.
    """
    if not is_whole(total_steps, 1):
        raise AsrError(
            f"total_steps={total_steps!r}: the number of all optimiser steps, at least 1"
        )
    values = list(fractions.values())
    if wrong := [f"{name}={value!r}" for name, value in fractions.items() if not is_number(value)]:
        raise AsrError(f"{', '.join(wrong)}: not a fraction of all steps, such as 0.25")
    if values != sorted(set(values)) or min(values) < 0 or max(values) > 1:
        raise AsrError(
            f"need fractions 0 <= {' < '.join(fractions)} <= 1, got "
            + ", ".join(f"{name}={value}" for name, value in fractions.items())
        )
    return [round(total_steps * value) for value in values]


def check_room(total_steps: int, start: int, end: int, room: int, mask_updates: int) -> None:
    """Raise AsrError if fewer than `mask_updates` updates fit between the steps start and end."""
    if not is_whole(mask_updates, 1):
        raise AsrError(f"mask_updates={mask_updates!r}: a whole number, at least 1")
    if room < mask_updates:
        raise AsrError(
            f"{mask_updates} updates do not fit: of {total_steps} optimiser steps there are only "
            f"{max(0, room)} between start (step {start}) and end (step {end}); train longer, "
            "widen the window or ask for fewer updates"
        )
