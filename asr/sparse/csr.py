"""Sparse matrices in compressed rows (CSR): what files are read into and kernels are made from.

The pattern of the zeros is a part of the matrix, because files and kernels exploit it. Drawn with
banks of 4 columns and blocks of 2 rows (the real ones have 32 and 16):

    element        bank               block
    x . . x . .    x . . x | . x x .  x . . x
    . . x . . .    . x x . | x . . x  x . . x
    x x x . . x    x x . . | . . x x  . x . .
    . . . . x .    . x . x | x x . .  . x . .
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError

Pattern = Literal["element", "bank", "block"]
"""`element`: anywhere. `bank`: in every row each bank of `BANK` columns keeps the same number.
`block`: `BLOCK` consecutive rows keep the same columns."""

BANK = 32
BLOCK = 16


@dataclass(frozen=True)
class CsrMatrix:
    """A sparse matrix `(rows, columns)` in compressed rows.

    The columns of a row ascend. A stored value may be zero (in a block that is kept whole).
    """

    shape: tuple[int, int]
    starts: NDArray[np.int64]
    """`(rows + 1,)`: the elements of row r are `starts[r]` to `starts[r + 1]`."""
    columns: NDArray[np.int32]
    """`(kept,)`."""
    values: NDArray[np.float32]
    """`(kept,)`."""
    pattern: Pattern = "element"

    @property
    def kept(self) -> int:
        """Number of stored elements."""
        return len(self.values)

    @property
    def sparsity(self) -> float:
        """Fraction of elements that are not stored, 0 to 1; 0 for a matrix without elements."""
        size = self.shape[0] * self.shape[1]
        return 1.0 - self.kept / size if size else 0.0

    def to_dense(self) -> NDArray[np.float32]:
        """The matrix with its zeros."""
        dense = np.zeros(self.shape, np.float32)
        dense[np.repeat(np.arange(self.shape[0]), np.diff(self.starts)), self.columns] = self.values
        return dense


def from_dense(matrix: NDArray[np.float32], pattern: Pattern | None = None) -> CsrMatrix:
    """The non-zeros of a matrix; `pattern=None` finds their pattern.

    Raises AsrError for another number of dimensions, and for non-zeros that do not have the given
    pattern.
    """
    if matrix.ndim != 2:
        raise AsrError(f"a sparse matrix has two dimensions, this tensor is {list(matrix.shape)}")
    keep = matrix != 0
    found = pattern_of(keep)
    if pattern is not None and pattern not in (found, "element"):
        raise AsrError(f"the zeros of this {list(matrix.shape)} tensor have no {pattern} pattern")
    pattern = pattern or found
    if pattern == "block":  # a zero inside a block is kept with it
        keep = by_block(keep).any(axis=1).repeat(BLOCK, axis=0)[: matrix.shape[0]]
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(keep, axis=1))])
    columns = np.nonzero(keep)[1].astype(np.int32)
    return CsrMatrix(
        (matrix.shape[0], matrix.shape[1]),
        starts.astype(np.int64),
        columns,
        matrix[keep].astype(np.float32),
        pattern,
    )


def pattern_of(keep: NDArray[np.bool_]) -> Pattern:
    """The pattern of a mask; `element` where it is dense, empty or too small for another.

    Blocks may hold single zeros: a mask is `block` if whole blocks store at most a twentieth more
    elements than it keeps, and less than half of all.
    """
    rows, columns = keep.shape
    kept = int(np.count_nonzero(keep))
    if not kept or kept == keep.size:
        return "element"
    if rows % BLOCK == 0:
        whole = BLOCK * int(np.count_nonzero(by_block(keep).any(axis=1)))
        if whole <= 1.05 * kept and 2 * whole < keep.size:
            return "block"
    return "bank" if columns >= BANK and keeps_banks(keep) else "element"


def keeps_banks(keep: NDArray[np.bool_]) -> bool:
    """Whether all full banks keep the same number, not 0, and all incomplete last banks too.

    `keep` is `(rows, columns)` with at least one row and `BANK` columns.
    """
    counts = np.add.reduceat(keep, np.arange(0, keep.shape[1], BANK), axis=1, dtype=np.int32)
    full = counts[:, : keep.shape[1] // BANK]
    ends = counts[:, -1]
    return bool(full[0, 0] and (full == full[0, 0]).all() and (ends == ends[0]).all())


def by_block(keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`(blocks, BLOCK, columns)`; missing rows are False."""
    missing = -len(keep) % BLOCK
    return np.pad(keep, ((0, missing), (0, 0))).reshape(-1, BLOCK, keep.shape[1])
