"""One pruned weight of a layer: its kept elements, and their layout for this processor."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.sparse.csr import CsrMatrix, Pattern, from_dense
from asr.sparse.kernels import Matrix, Values, prepare


@dataclass(frozen=True)
class Options:
    """How weights are laid out; see `asr.sparse.kernels.prepare`."""

    values: Values = "auto"
    exact: bool = False
    level: str | None = None
    kernel: str | None = None
    device: str = "cpu"
    """A torch device; only the layers of `asr.sparse.cuda` run elsewhere than on the CPU."""


AUTO = Options()


class Weight:
    """A tensor of two or more dimensions as a matrix: rows are its first dimension.

    Immutable, so copies share it. It stores the kept elements in full precision, whatever the
    kernel uses, and is laid out again where it is unpickled. The kernel of a convolution gets its
    columns in the order of `channels_last`.
    """

    def __init__(self, rows: CsrMatrix, shape: tuple[int, ...], options: Options) -> None:
        self.rows, self.shape, self.options = rows, shape, options
        self.lay_out()

    def lay_out(self) -> None:
        """Prepare the elements for this processor, or as the options say."""
        o = self.options
        rows = channels_last(self.rows, self.shape) if len(self.shape) > 2 else self.rows
        self.matrix: Matrix = prepare(rows, o.values, o.exact, o.level, o.kernel)

    @property
    def kernel(self) -> str:
        """Name of the kernel that multiplies with it."""
        return self.matrix.kernel

    @property
    def bytes(self) -> int:
        """Of the layout in memory, with its padding."""
        return self.matrix.bytes

    @classmethod
    def of(cls, tensor: NDArray[Any], options: Options) -> "Weight":
        """The weight of a dense tensor. Raises AsrError for NaN and infinity."""
        matrix = np.ascontiguousarray(tensor, np.float32).reshape(len(tensor), -1)
        return cls(from_dense(matrix), tensor.shape, options)

    def dense(self) -> NDArray[np.float32]:
        """The tensor with its zeros, a new array on each call."""
        return self.rows.to_dense().reshape(self.shape)

    def __copy__(self) -> "Weight":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Weight":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rows, self.shape, self.options)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{size}, {self.rows.sparsity:.1%} zeros, {self.kernel}"


def channels_last(rows: CsrMatrix, shape: tuple[int, ...]) -> CsrMatrix:
    """`(out, channels, *kernel)` to `(out, *kernel, channels)`: then a patch is few long copies."""
    channels, places = shape[1], math.prod(shape[2:])
    columns = rows.columns % places * channels + rows.columns // places
    of_row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.starts))
    order = np.lexsort((columns, of_row))
    # Blocks stay blocks in any order of columns, banks do not stay banks.
    pattern: Pattern = "block" if rows.pattern == "block" else "element"
    return CsrMatrix(rows.shape, rows.starts, columns[order], rows.values[order], pattern)
