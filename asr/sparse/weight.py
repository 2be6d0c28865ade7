"""One pruned weight: its kept elements, and the same laid out for this processor."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.sparse.kernels import Matrix, Values, prepare
from asr.sparse.rows import Rows, from_dense


@dataclass(frozen=True)
class Options:
    """How weights are laid out; see `asr.sparse.kernels.prepare`."""

    values: Values = "auto"
    exact: bool = False
    level: str | None = None
    kernel: str | None = None


AUTO = Options()


class Weight:
    """A tensor of one or more dimensions as a matrix of its first; immutable, so copies share it.

    It is stored by its kept elements, in full precision whatever the kernel keeps of them, and
    laid out anew wherever it is unpickled.
    """

    def __init__(self, rows: Rows, shape: tuple[int, ...], options: Options) -> None:
        self.rows, self.shape, self.options = rows, shape, options
        self.matrix: Matrix = prepare(
            rows, options.values, options.exact, options.level, options.kernel
        )

    @classmethod
    def of(cls, tensor: NDArray[Any], options: Options) -> "Weight":
        """The weight of a dense tensor. Raises AsrError for NaN and infinity."""
        matrix = np.ascontiguousarray(tensor, np.float32).reshape(len(tensor), -1)
        return cls(from_dense(matrix), tensor.shape, options)

    def dense(self) -> NDArray[np.float32]:
        """The tensor with its zeros, a new one each time."""
        return self.rows.to_dense().reshape(self.shape)

    def __copy__(self) -> "Weight":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Weight":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Weight, (self.rows, self.shape, self.options)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{size}, {self.rows.sparsity:.1%} zeros, {self.matrix.kernel}"
