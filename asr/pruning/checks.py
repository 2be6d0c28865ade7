"""What counts as a number in rules, schedules and patterns."""

import math
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from asr.errors import AsrError


def is_whole(value: object, least: int | None = None) -> bool:
    """Whether it is an int, not a truth value, and at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return least is None or value >= least


def is_number(value: object) -> bool:
    """Whether it is a finite number, of Python, numpy or torch, and not a truth value."""
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def plain_number(value: Any) -> Any:
    """A number of numpy or torch as Python's, which loads with weights_only; others as they are."""
    if isinstance(value, bool) or not is_number(value):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def check_fraction(what: str, value: float | None) -> None:
    """Raise AsrError unless 0 < value < 1."""
    if not (is_number(value) and 0 < value < 1):  # type: ignore[operator]
        raise AsrError(f"{what}={value!r}: a fraction above 0 and below 1, such as 0.9 for 90 %")
