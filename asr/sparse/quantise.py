"""Weights as fp16 or int8 on disk; a kept weight never becomes zero, however small it is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError

INT8_MAX = 127

_HALF_MAX = 65504.0
_HALF_TINY = np.float16(2.0**-24)
# Scales have 16 of the 24 bits of a float32's mantissa: with the 7 bits of an int8 every product
# is exact, so a row that is quantised once more gets the same scale and the same integers.
_SCALE_BITS = 16
_SCALE_MIN = 2.0**-126
# The largest scale of 16 bits that times 127 is still finite in float32.
_SCALE_MAX = 33026 * 2.0**106


def to_half(values: NDArray[Any]) -> NDArray[np.float16]:
    """fp16 values; what would round to zero becomes the smallest number, 6e-8, of its sign.

    Raises AsrError for a value beyond 65504.
    """
    largest = float(np.abs(values).max(initial=0))
    if largest > _HALF_MAX:
        raise AsrError(
            f"has a weight of {largest:g}, beyond {_HALF_MAX:g}: choose fp32 or int8 values"
        )
    half = values.astype(np.float16)
    vanished = (half == 0) & (values != 0)
    half[vanished] = np.copysign(_HALF_TINY, values[vanished])
    return half


def row_scales(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(rows,)`: largest absolute weight of each row over 127, rounded up to 16 bits; 0 if none."""
    largest = np.abs(matrix).max(axis=1, initial=0).astype(np.float64)
    mantissa, exponent = np.frexp(np.clip(largest / INT8_MAX, _SCALE_MIN, _SCALE_MAX))
    scales = np.ldexp(np.ceil(np.ldexp(mantissa, _SCALE_BITS)), exponent - _SCALE_BITS)
    return np.where(largest > 0, scales, 0.0).astype(np.float32)


def to_int8(values: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    """Values over their scales, rounded to -127..127; what would round to zero becomes 1 or -1.

    `scales` broadcasts to `values`; it may be 0 only where the value is.
    """
    ratio = values / np.where(scales > 0, scales, np.float32(1))
    rounded = np.clip(np.rint(ratio), -INT8_MAX, INT8_MAX)
    vanished = (rounded == 0) & (values != 0)
    rounded[vanished] = np.copysign(1, values[vanished])
    return rounded.astype(np.int8)


def from_int8(values: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Integers times their scales; infinite where the scale of a malicious file is too large."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32) * scales
