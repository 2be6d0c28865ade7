"""When masks change: pure functions of the optimiser step, of two types that cannot be mixed up.

A step is one step of the optimiser, counted from 1; step n is `current_itr` = n of Algorithm 1 of
the paper. A `ThresholdSchedule` says how large a weight must be to stay (`threshold_schedule`),
a `SparsitySchedule` which share is dropped (`asr.pruning.sparsity_schedules`).
"""

import inspect
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Self

from torch import Tensor, nn

from asr.errors import AsrError

ENOUGH_UPDATES = 30


class FewUpdates(UserWarning):
    """So few updates that pruning comes in coarse steps."""


class Unfinished(UserWarning):
    """Training ends before pruning does, so less is dropped than was asked for."""


class Schedule(ABC):
    """When masks are updated; what the update compares is up to the subclass.

    A subclass is a frozen dataclass of plain values.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if not cls.__name__.startswith("_"):
            _KINDS.setdefault(cls.__name__, cls)

    @property
    @abstractmethod
    def update_steps(self) -> Sequence[int]:
        """The steps after which masks are computed anew, ascending; best a `range`."""

    @property
    def updates(self) -> int:
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
        return {"kind": type(self).__name__, **{k: plain_number(v) for k, v in values.items()}}


_KINDS: dict[str, type[Schedule]] = {}


class ThresholdSchedule(Schedule):
    """A schedule whose masks keep the weights at or above a threshold."""

    @abstractmethod
    def relative_threshold(self, step: int) -> float:
        """eps / q at `step`: the threshold in units of the tensor's q."""

    def threshold(self, step: int, q: float) -> float:
        """eps at `step` for a tensor with this q."""
        return q * self.relative_threshold(step)


class SparsitySchedule(Schedule):
    """A schedule whose masks drop a share of the weights: the smallest ones, counted exactly."""

    final: float
    """Share dropped from the last update on, 0 to 1."""

    @abstractmethod
    def sparsity(self, step: int) -> float:
        """Share dropped at `step`, 0 to 1; what an update at that step compares with."""

    def scores(
        self, step: int, name: str, weight: nn.Parameter, keep: Tensor | None
    ) -> Tensor | None:
        """What an update at `step` compares, the large ones stay: of the weight's shape; None
        for what the rule says, magnitude by default.

        keep: the tensor's mask before this update, None while it has lost nothing.
        """
        return None

    def with_final(self, final: float) -> Self:
        """The same schedule with another final share."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewUpdates)  # said once, of the schedule given
            return replace(self, final=final)  # type: ignore[type-var]


@dataclass(frozen=True)
class Frozen(Schedule):
    """Keeps the zeros that the weights have when the Pruner is made: for fine-tuning."""

    @property
    def update_steps(self) -> range:
        """None: the masks are those of the beginning."""
        return range(0)


def schedule_from_plain(plain: Mapping[str, Any]) -> Schedule:
    """The schedule that `Schedule.to_plain` described. Raises AsrError for an unknown kind."""
    kinds = {name: kind for name, kind in _KINDS.items() if not inspect.isabstract(kind)}
    values = dict(plain)
    kind = values.pop("kind", None)
    if kind not in kinds:
        raise AsrError(f"unknown pruning schedule {kind!r}; there are {', '.join(kinds)}")
    known = {f.name for f in fields(kinds[kind])}  # type: ignore[arg-type]
    if unknown := set(values) - known:
        raise AsrError(
            f"pruning schedule {kind} has no field {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    try:
        return kinds[kind](**values)
    except TypeError as error:
        raise AsrError(f"pruning schedule {kind}: {error}") from None


def given(schedule: Schedule) -> str:
    """The fields of a schedule as an error message quotes them."""
    return ", ".join(f"{f.name}={getattr(schedule, f.name)!r}" for f in fields(schedule))  # type: ignore[arg-type]


def check_steps(schedule: Schedule, *names: str) -> None:
    """Raise AsrError unless each of these fields is a whole number of steps."""
    kind = type(schedule).__name__
    for name in names:
        value = getattr(schedule, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise AsrError(
                f"{kind}: {name}={value!r} must be a whole number of optimiser steps "
                f"(given {given(schedule)}); from_fractions takes shares"
            )


def is_number(value: object) -> bool:
    """Whether it is a finite number, of Python, numpy or torch, and no truth value."""
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def plain_number(value: Any) -> Any:
    """A number of numpy or torch as Python's, which loads with weights_only; others as they are."""
    if isinstance(value, bool) or not is_number(value):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def check_share(what: str, value: float) -> None:
    """Raise AsrError unless 0 < value < 1."""
    if not (is_number(value) and 0 < value < 1):
        raise AsrError(f"{what}={value!r}: a share above 0 and below 1, such as 0.9 for 90 %")


def steps_of(total_steps: int, **shares: float) -> list[int]:
    """Shares of all optimiser steps, rounded to steps. Raises AsrError unless 0 <= a < b < ... <= 1
    and `total_steps` is a number of steps."""
    if isinstance(total_steps, bool) or not isinstance(total_steps, int) or total_steps < 1:
        raise AsrError(
            f"total_steps={total_steps!r}: the number of all optimiser steps, at least 1"
        )
    values = list(shares.values())
    if wrong := [f"{name}={share!r}" for name, share in shares.items() if not is_number(share)]:
        raise AsrError(f"{', '.join(wrong)}: no share of all steps, such as 0.25")
    if values != sorted(set(values)) or min(values) < 0 or max(values) > 1:
        raise AsrError(
            f"need shares 0 <= {' < '.join(shares)} <= 1, got "
            + ", ".join(f"{name}={value}" for name, value in shares.items())
        )
    return [round(total_steps * value) for value in values]


def check_room(total_steps: int, start: int, end: int, room: int, updates: int) -> None:
    """Raise AsrError if fewer than `updates` updates fit between the steps start and end."""
    if isinstance(updates, bool) or not isinstance(updates, int) or updates < 1:
        raise AsrError(f"updates={updates!r}: a whole number, at least 1")
    if room < updates:
        raise AsrError(
            f"{updates} updates do not fit: of {total_steps} optimiser steps there are only "
            f"{max(0, room)} between start (step {start}) and end (step {end}); train longer, "
            "widen the window or ask for fewer updates"
        )
