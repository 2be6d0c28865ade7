"""A sparse matrix laid out for this processor, and products with it."""

import ctypes
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError
from asr.sparse.csr import CsrMatrix
from asr.sparse.kernels import reference
from asr.sparse.kernels.choice import KERNELS, Values, choose
from asr.sparse.kernels.layouts import FP16, KernelLayout, lay_out, pointer, scratch, widest
from asr.sparse.kernels.library import ARM, LEVELS, library
from asr.sparse.kernels.library import level as level_of

Array = NDArray[np.float32]

LIMIT = 2**24
"""Most rows and columns of a matrix, so that offsets of 32 bits never overflow."""

KERNEL_CODES = (
    *("csr", "perm16", "perm32"),
    *("block16-fp32", "block16-fp16", "block16-int8", "perm8"),
)
"""Their indices are the numbers in asr/sparse/kernels/c/sparse.h."""


class MatrixStruct(ctypes.Structure):
    """Must equal `asr_matrix` in asr/sparse/kernels/c/sparse.h."""

    _fields_ = (
        ("kernel", ctypes.c_int32),
        ("level", ctypes.c_int32),
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("groups", ctypes.c_int32),
        ("run", ctypes.c_int32),
        ("lanes", ctypes.c_int32),
        ("pairs", ctypes.c_int32),
        ("starts", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("wide", ctypes.c_void_p),
        ("words", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("blocks", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
    )


class Matrix:
    """A matrix in the layout of one kernel, made by `prepare`.

    Immutable, so threads may share it, and a copy is the object itself.
    """

    def __init__(
        self,
        rows: CsrMatrix,
        kernel: str,
        level: str,
        native: tuple[KernelLayout, ctypes.CDLL] | None,
    ) -> None:
        self.shape = rows.shape
        self.kernel = kernel
        self.level = level
        """Instruction set that it was laid out for."""
        self.nnz = rows.kept
        """Stored elements of the `CsrMatrix` it was made from."""
        self._dense: Array | None = None
        self.struct: MatrixStruct | None = None
        """What C reads; None with the numpy kernel."""
        if native is None:
            self._dense = rows.to_dense()
            self.bytes = self._dense.nbytes
            """Of the layout in memory, with its padding."""
            return
        layout, self._library = native
        self._layout = layout
        self.bytes = layout.bytes
        self.struct = MatrixStruct(
            *(KERNEL_CODES.index(kernel), LEVELS.index(level), *rows.shape),
            *(layout.groups, layout.run, layout.lanes, layout.pairs),
        )
        for name in ("starts", "index", "wide", "words", "sums", "scales", "blocks", "order"):
            array = getattr(layout, name)
            setattr(self.struct, name, array.ctypes.data if array is not None else None)
        self._scratch = int(self._library.asr_scratch(ctypes.byref(self.struct)))

    def __call__(self, x: Array, bias: Array | None = None, out: Array | None = None) -> Array:
        """`x (n, columns)` float32 -> `(n, rows)` float32, with the bias `(rows,)` if there is one.

        Raises AsrError for other shapes and types, and for an `out` of another shape or type.
        """
        check_array("input", x, (None, self.shape[1]))
        if bias is not None:
            check_array("bias", bias, (self.shape[0],))
            bias = np.ascontiguousarray(bias)
        if out is None:
            out = np.empty((len(x), self.shape[0]), np.float32)
        check_array("out", out, (len(x), self.shape[0]))
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise AsrError("out must be contiguous and writable")
        if any(a is not None and np.may_share_memory(a, out) for a in (x, bias)):
            raise AsrError("out must not overlap input or bias: they are read after it is written")
        if self._dense is not None:
            out[:] = reference.product(self._dense, x, bias)
            return out
        assert self.struct is not None
        x = np.ascontiguousarray(x)
        table = scratch(self._scratch)
        failed = self._library.asr_product(
            ctypes.byref(self.struct),
            pointer(x),
            ctypes.c_int64(self.shape[1]),
            ctypes.c_int64(len(x)),
            pointer(bias),
            pointer(out),
            ctypes.c_int64(self.shape[0]),
            pointer(table),
        )
        if failed:
            raise AsrError(f"the C library has no kernel for the layout {self.kernel}")
        return out

    def __repr__(self) -> str:
        return f"Matrix({self.shape[0]} x {self.shape[1]}, {self.nnz} kept, {self.kernel})"

    def __copy__(self) -> "Matrix":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Matrix":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Matrix is laid out for one processor: store its CsrMatrix and prepare again"
        )


_BITS = {"int8": 8, "fp16": 16, "fp32": 32}


def prepare(
    rows: CsrMatrix,
    values: Values = "auto",
    exact: bool = False,
    level: str | None = None,
    kernel: str | None = None,
) -> Matrix:
    """Lay out a matrix for the fastest kernel of this processor, or for the named one.

    `values` is the precision of the weights (`auto`: see `choose`), `exact` requires fp32, `level`
    forces an instruction set. Every index is checked, because C would read wherever it points.

    Raises AsrError for invalid arrays, and for a kernel that cannot run here, or is less precise
    than `values`.
    """
    check_csr(rows)
    if kernel is not None and kernel not in KERNELS:
        raise AsrError(f"kernel {kernel!r}: there are {', '.join(KERNELS)}")
    found = library()
    name = LEVELS[level_of(level)]
    fastest = choose(rows.pattern, rows.sparsity, name if found else None, values, exact)
    chosen = kernel or fastest
    if values != "auto" and _BITS[KERNELS[chosen].values] < _BITS[values] and found:
        raise AsrError(f"kernel {chosen} computes in {KERNELS[chosen].values}, not in {values}")
    if not kernel and chosen == "block16-fp16" and values == "auto" and not _fits_fp16(rows):
        chosen = "block16-fp32"
    if not kernel and chosen == "perm16" and rows.shape[1] > widest(chosen):
        chosen = "perm32"
    if not kernel and chosen != "numpy" and rows.shape[1] > widest(chosen):
        chosen = "csr"
    if chosen == "numpy":
        return Matrix(rows, chosen, "plain", None)
    if found is None:
        raise AsrError(f"kernel {chosen} needs the C library, which was not built")
    if exact and KERNELS[chosen].values != "fp32":
        raise AsrError(f"kernel {chosen} is not exact")
    if not KERNELS[chosen].runs_on(name):
        needed = [KERNELS[chosen].levels[0], *(n for n in KERNELS[chosen].levels if n in ARM)][:2]
        raise AsrError(f"kernel {chosen} needs {' or '.join(needed)}, this is {name}")
    return Matrix(rows, chosen, name, (lay_out(rows, chosen, name, found), found))


PASS = 8
"""Columns that a kernel multiplies at once, ASR_PASS in sparse.h."""


def whole_passes(x: Array) -> Array:
    """`x (n, columns)` with rows of zeros behind it, so that kernels have whole passes only.

    With fewer columns of a pass they add in another order. So without these zeros the last bits of
    a product would depend on how many rows there are.
    """
    missing = -len(x) % PASS
    return np.pad(x, ((0, missing), (0, 0))) if missing else x


def _fits_fp16(rows: CsrMatrix) -> bool:
    top = float(np.abs(rows.values).max(initial=0))
    return not top or FP16[0] <= top <= FP16[1]


def check_csr(rows: CsrMatrix) -> None:
    """Raise AsrError unless the arrays are a matrix whose columns ascend in each row."""
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
            raise AsrError(f"{name} of a sparse matrix must be a one-dimensional array of numbers")
    if len(columns) >= 2**31:
        raise AsrError(f"a sparse matrix of {len(columns)} elements: at most {2**31 - 1}")
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
    if not (np.abs(values) <= np.finfo(np.float32).max).all():
        raise AsrError("a sparse matrix has a weight that is not finite in float32")


def check_array(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    """Raise AsrError unless the array is float32 of this shape (None: any length)."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise AsrError(f"{name} must be a float32 array, not {kind}")
    expected = tuple(n if n is not None else m for n, m in zip(shape, array.shape, strict=False))
    if array.ndim != len(shape) or array.shape != expected:
        raise AsrError(
            f"{name} is {list(array.shape)}, it must be "
            f"[{', '.join('any' if n is None else str(n) for n in shape)}]"
        )
