"""A sparse matrix laid out for this processor, and its product."""

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError
from asr.sparse.kernels import reference
from asr.sparse.kernels.choice import KERNELS, Values, choose
from asr.sparse.kernels.library import LEVELS, library
from asr.sparse.kernels.library import level as level_of
from asr.sparse.rows import BLOCK, Rows

Array = NDArray[np.float32]

LIMIT = 2**24
"""Most rows and most columns of a matrix: offsets of 32 bits never overflow below."""


class Matrix:
    """A matrix in the layout of one kernel. Immutable: threads may share it, copies are itself."""

    def __init__(self, shape: tuple[int, int], kernel: str, level: str, nnz: int) -> None:
        self.shape = shape
        self.kernel = kernel
        self.level = level
        """Instruction set that it was laid out for."""
        self.nnz = nnz
        """Elements of the rows it was made from."""
        self._dense: Array | None = None

    @property
    def bytes(self) -> int:
        """Of the layout in memory; padding shows here."""
        return self._dense.nbytes if self._dense is not None else 0

    def __call__(self, x: Array, bias: Array | None = None, out: Array | None = None) -> Array:
        """`x (n, columns)` float32 -> `(n, rows)` float32, with the bias `(rows,)` if there is one.

        Raises AsrError for other shapes and types, and for an `out` of another shape or type.
        """
        check_array("input", x, (None, self.shape[1]))
        if bias is not None:
            check_array("bias", bias, (self.shape[0],))
        if out is not None:
            check_array("out", out, (len(x), self.shape[0]))
            if not out.flags.c_contiguous:
                raise AsrError("out must be contiguous")
        assert self._dense is not None
        y = reference.product(self._dense, x, bias)
        if out is None:
            return y
        out[:] = y
        return out

    def __repr__(self) -> str:
        return f"Matrix({self.shape[0]} x {self.shape[1]}, {self.nnz} kept, {self.kernel})"

    def __copy__(self) -> "Matrix":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Matrix":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Matrix is laid out for one processor: store its Rows and prepare again")


def prepare(
    rows: Rows,
    values: Values = "auto",
    exact: bool = False,
    level: str | None = None,
    kernel: str | None = None,
) -> Matrix:
    """Lay out a matrix for the quickest kernel of this processor, or for the one that is named.

    `values` is the precision kept (`auto`: about fp16), `exact` means fp32, `level` forces an
    instruction set. Every index is checked, so that no rows make C read where it must not.

    Raises AsrError for rows that are no matrix, and for a kernel that cannot run here.
    """
    check_rows(rows)
    native = library() is not None and kernel != "numpy"
    name = LEVELS[level_of(level)] if native else None
    chosen = kernel or choose(rows.pattern, rows.sparsity, name, values, exact)
    if chosen not in KERNELS:
        raise AsrError(f"kernel {chosen!r}: there are {', '.join(KERNELS)}")
    if chosen != "numpy":
        chosen = "numpy"  # until C is there
    matrix = Matrix(rows.shape, chosen, name or "plain", rows.kept)
    matrix._dense = rows.to_dense()
    matrix._dense.flags.writeable = False
    return matrix


def check_rows(rows: Rows) -> None:
    """Raise AsrError unless the arrays are those of a matrix whose columns ascend in each row."""
    height, width = rows.shape
    if not (0 <= height <= LIMIT and 0 <= width <= LIMIT):
        raise AsrError(f"a matrix of {height} x {width}: at most {LIMIT} rows and columns")
    starts, columns, values = rows.starts, rows.columns, rows.values
    for name, array, kinds in (
        ("starts", starts, "iu"),
        ("columns", columns, "iu"),
        ("values", values, "f"),
    ):
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in kinds:
            raise AsrError(f"{name} of a sparse matrix must be one row of numbers")
    if len(columns) != len(values) or len(starts) != height + 1:
        raise AsrError(
            f"a sparse matrix of {height} rows has {len(starts)} starts (one more than rows), "
            f"{len(columns)} columns and {len(values)} values"
        )
    if starts[0] != 0 or starts[-1] != len(columns) or (np.diff(starts.astype(np.int64)) < 0).any():
        raise AsrError("the rows of a sparse matrix must follow one another")
    if not len(columns):
        return
    if columns.min() < 0 or columns.max() >= width:
        raise AsrError(f"a sparse matrix of {width} columns has an element outside them")
    step = np.diff(columns.astype(np.int64))
    first = starts[1:-1][(starts[1:-1] > 0) & (starts[1:-1] < len(columns))]
    step[first.astype(np.int64) - 1] = 1  # a new row may begin anywhere
    if (step <= 0).any():
        raise AsrError("the columns of each row of a sparse matrix must ascend")
    if not np.isfinite(values).all():
        raise AsrError("a sparse matrix has a weight that is not finite")
    if rows.pattern == "block" and height % BLOCK:
        raise AsrError(f"blocks of {BLOCK} rows in a matrix of {height} rows")


def check_array(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    """Raise AsrError unless the array is float32 of this shape (None: any length)."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise AsrError(f"{name} must be a float32 array, not {kind}")
    wanted = tuple(n if n is not None else m for n, m in zip(shape, array.shape, strict=False))
    if array.ndim != len(shape) or array.shape != wanted:
        raise AsrError(
            f"{name} is {list(array.shape)}, it must be "
            f"[{', '.join('any' if n is None else str(n) for n in shape)}]"
        )
