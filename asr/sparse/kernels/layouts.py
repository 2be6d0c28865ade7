"""A CSR matrix as the arrays that a C kernel reads; asr/sparse/kernels/c says what they mean."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError
from asr.sparse.csr import BANK, BLOCK, CsrMatrix
from asr.sparse.kernels.library import ARM

FP16 = (1e-2, 65504.0)
"""The range of a matrix's largest weight in which fp16 has about 11 bits for the large weights."""

SHARED = 1.25
"""Runs of vectors that read the same columns are used if they are at most this many times more."""

RUNS = {1: 1, 2: 2, 3: 3, 4: 4, 6: 3, 8: 4, 12: 4, 16: 4}
"""Number of vectors in a run, by the elements of a row in a bank; two banks fill whole runs."""

TWO_PAIRS = 1.4
"""Time of a vector of perm8 that reads two pairs of stretches, in those that read one."""

UNSORTED = 0.85
"""Rows are sorted by count if at most this fraction of the vectors remains: their sums must then be
scattered, which costs a little."""


@dataclass(frozen=True)
class KernelLayout:
    """One matrix in memory: the arrays of `asr_matrix` in c/sparse.h, aligned to 64 bytes."""

    groups: int
    starts: NDArray[np.int32]
    words: NDArray[Any]
    index: NDArray[np.uint16] | None = None
    wide: NDArray[np.int32] | None = None
    sums: NDArray[np.int32] | None = None
    scales: NDArray[np.float32] | None = None
    blocks: NDArray[np.int32] | None = None
    order: NDArray[np.int32] | None = None
    run: int = 1
    lanes: int = 0
    pairs: int = 1

    @property
    def bytes(self) -> int:
        """Of all arrays."""
        return sum(a.nbytes for a in vars(self).values() if isinstance(a, np.ndarray))


def widest(kernel: str) -> int:
    """Most columns that the indices of a kernel's layout can distinguish."""
    return {"csr": 2**31 - 1, "perm16": 256 * 32}.get(kernel, 2**16 - 8)


def lay_out(rows: CsrMatrix, kernel: str, level: str, library: ctypes.CDLL) -> KernelLayout:
    """The layout of a checked matrix. Raises AsrError if it has too many columns."""
    most = widest(kernel)
    if rows.shape[1] > most:
        raise AsrError(f"{kernel} takes at most {most} columns, not {rows.shape[1]}: use csr")
    if kernel == "csr":
        return KernelLayout(
            rows.shape[0],
            aligned(rows.starts, np.int32),
            aligned(rows.values, np.float32),
            wide=aligned(rows.columns, np.int32),
        )
    if kernel.startswith("block16"):
        return _block(rows, kernel.removeprefix("block16-"), 4 if level in ARM else 2)
    if kernel == "perm8":
        return _perm8(rows, library, level in ARM)
    if kernel == "perm16":
        return _perm(rows, library, lanes=16, slots=2, width=32)
    if level in ("avx2", "avx2vnni"):
        return _perm(rows, library, lanes=8, slots=1, width=8)
    return _perm(rows, library, lanes=16, slots=1, width=16)


class _Packer:
    """Calls `asr_perm_layout` for one matrix and one kind of vector.

    A vector reads `pairs` pairs of stretches; `banked`: always the two halves of a bank.
    """

    def __init__(
        self,
        rows: CsrMatrix,
        library: ctypes.CDLL,
        lanes: int,
        slots: int,
        width: int,
        pairs: int = 1,
        banked: bool = False,
    ) -> None:
        self.library, self.lanes, self.slots, self.width = library, lanes, slots, width
        self.pairs, self.banked = pairs, banked
        self.shape = rows.shape
        self.groups = -(-rows.shape[0] // lanes)
        self.starts = np.ascontiguousarray(rows.starts, np.int64)
        self.columns = np.ascontiguousarray(rows.columns, np.int32)
        self.values = np.ascontiguousarray(rows.values, np.float32)

    def natural(self) -> NDArray[np.int32]:
        """The rows of the lanes, one after the other; -1: none."""
        order = np.full(self.groups * self.lanes, -1, np.int32)
        order[: self.shape[0]] = np.arange(self.shape[0])
        return order

    def count(self, order: NDArray[np.int32], run: int) -> tuple[int, NDArray[np.int32]]:
        """The number of vectors, and the first of each group."""
        firsts = np.empty(self.groups + 1, np.int32)
        return self._layout(order, run, firsts, None, None), firsts

    def fill(
        self, order: NDArray[np.int32], run: int, firsts: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """The element of each word, -1: none, and the two stretches of each run of vectors."""
        vectors = int(firsts[-1])
        elements = np.empty(max(vectors, 1) * self.pairs * self.lanes * self.slots, np.int32)
        index = np.zeros((vectors // run * self.pairs, 2), np.uint16)
        self._layout(order, run, firsts, elements, index)
        return elements, index

    def _layout(
        self, order: NDArray[np.int32], run: int, firsts: Any, elements: Any, index: Any
    ) -> int:
        found = self.library.asr_perm_layout(
            *(self.groups, self.shape[1]),
            *(pointer(self.starts), pointer(self.columns), pointer(order)),
            *(self.lanes, self.slots, self.width, run, self.pairs, self.banked),
            *(pointer(firsts), pointer(elements), pointer(index)),
        )
        if found < 0:
            raise MemoryError(f"laying out a matrix of {self.shape[0]} x {self.shape[1]}")
        return int(found)

    def words(
        self, run: int, firsts: NDArray[Any], elements: NDArray[Any], index: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """The words, and the scales of perm16."""
        vectors = int(firsts[-1])
        arguments = (pointer(elements), pointer(index), pointer(self.columns), pointer(self.values))
        if self.slots == 2:
            words = aligned(np.empty(vectors * 32, np.int16), np.int16)
            scales = aligned(np.empty(self.groups * self.lanes, np.float32), np.float32)
            self.library.asr_perm16_words(
                self.groups, run, pointer(firsts), *arguments, pointer(words), pointer(scales)
            )
            return words, scales
        words = aligned(np.empty(vectors * self.lanes, np.uint32), np.uint32)
        self.library.asr_perm32_words(
            ctypes.c_int64(vectors), run, self.lanes, self.width, *arguments, pointer(words)
        )
        return words, None


def _perm(
    rows: CsrMatrix, library: ctypes.CDLL, lanes: int, slots: int, width: int
) -> KernelLayout:
    packer = _Packer(rows, library, lanes, slots, width)
    order = packer.natural()
    run, (vectors, firsts) = 1, packer.count(order, 1)
    shared = _run_of(rows) if lanes == 16 else 1  # the registers of AVX2 are too few
    if shared > 1:
        more, other = packer.count(order, shared)
        if more <= SHARED * vectors:
            run, vectors, firsts = shared, more, other
    order, firsts, blocks = _arrange(rows, packer, run, order, vectors, firsts)
    elements, index = packer.fill(order, run, firsts)
    words, scales = packer.words(run, firsts, elements, index)
    pairs = _pairs(index, firsts, run) if slots == 2 else aligned((index * 8).ravel(), np.uint16)
    return KernelLayout(
        packer.groups,
        aligned(firsts, np.int32),
        words,
        index=pairs,
        scales=scales,
        blocks=blocks,
        order=aligned(order, np.int32) if blocks is None else None,
        run=run,
    )


def _arrange(
    rows: CsrMatrix,
    packer: _Packer,
    run: int,
    order: NDArray[np.int32],
    vectors: int,
    firsts: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32] | None]:
    """The rows of the lanes, the first vector of each group, and `blocks` of the layout; None where
    rows are sorted by count because that pays."""
    by_count = _by_count(rows, order, packer.lanes, packer.slots * packer.pairs, vectors)
    if by_count is not None:
        fewer, other = packer.count(by_count, run)
        if fewer < UNSORTED * vectors:
            firsts, order = other, by_count
        else:
            by_count = None
    # Groups with as many vectors follow one another: the processor predicts the end of a loop that
    # ends as the last one did.
    blocks = np.argsort(np.diff(firsts), kind="stable").astype(np.int32)
    order = np.ascontiguousarray(order.reshape(packer.groups, packer.lanes)[blocks]).ravel()
    _, firsts = packer.count(order, run)
    return order, firsts, aligned(blocks, np.int32) if by_count is None else None


def _perm8(rows: CsrMatrix, library: ctypes.CDLL, arm: bool) -> KernelLayout:
    """Groups of 8 rows with one pair of stretches a vector. All rows of a bank pattern need the
    same stretches: groups of 32 rows, and two banks a vector where that saves enough vectors."""
    banked = rows.pattern == "bank"
    lanes = 32 if banked else 8
    packer = _Packer(rows, library, lanes, slots=4, width=16, banked=banked)
    order = packer.natural()
    vectors, firsts = packer.count(order, 1)
    if banked:
        two = _Packer(rows, library, lanes, slots=2, width=16, pairs=2, banked=True)
        fewer, other = two.count(order, 1)
        if TWO_PAIRS * fewer < vectors:
            packer, vectors, firsts = two, fewer, other
    order, firsts, blocks = _arrange(rows, packer, 1, order, vectors, firsts)
    elements, index = packer.fill(order, 1, firsts)
    words = aligned(np.empty(int(firsts[-1]) * lanes * 8, np.int8), np.int8)
    scales = aligned(np.empty(len(order), np.float32), np.float32)
    sums = aligned(np.empty(len(order), np.int32), np.int32)
    library.asr_perm8_words(
        *(packer.groups, lanes, packer.pairs, pointer(firsts), pointer(elements), pointer(index)),
        *(pointer(packer.columns), pointer(packer.values)),
        *(pointer(words), pointer(scales), pointer(sums)),
    )
    if arm:
        _one_table(words.view(np.uint8), packer.pairs)
    return KernelLayout(
        packer.groups,
        aligned(firsts, np.int32),
        words,
        index=aligned((index * 16).ravel(), np.uint16),
        sums=sums,
        scales=scales,
        blocks=blocks,
        order=aligned(order, np.int32) if blocks is None else None,
        lanes=lanes,
        pairs=packer.pairs,
    )


def _one_table(words: NDArray[np.uint8], pairs: int) -> None:
    """Make the columns of perm8 positions among all stretches of a vector: ARM looks them up in a
    table of 32 or 64 bytes, where x86 has two of 16 (and the top bit means the second)."""
    columns = words.reshape(-1, 2, 8, 2, 2)[:, 1]  # [vector][row][pair, if there are two][slot]
    columns[...] = columns & 15 | columns >> 7 << 4
    if pairs == 2:
        columns[:, :, 1] += 32


def _pairs(index: NDArray[np.uint16], firsts: NDArray[np.int32], run: int) -> NDArray[np.uint16]:
    """Two bytes for each run. Without runs each group begins at a multiple of 4, because the kernel
    reads the stretches of four vectors at once."""
    pairs = index[:, 0] | index[:, 1] << 8
    if run > 1:
        return aligned(pairs, np.uint16)
    counts = np.diff(firsts)
    room = -(-counts // 4) * 4
    result = np.zeros(int(room.sum()), np.uint16)
    result[
        np.arange(len(pairs)) + np.repeat(np.cumsum(room - counts) - (room - counts), counts)
    ] = pairs
    return aligned(result, np.uint16)


def _run_of(rows: CsrMatrix) -> int:
    """Number of vectors in a run that would suit a matrix."""
    if rows.pattern != "bank" or not rows.kept:
        return 2
    first = rows.columns[: rows.starts[1]]
    count = int(np.count_nonzero(first < BANK))
    return RUNS.get(count, 2)


def _by_count(
    rows: CsrMatrix, order: NDArray[np.int32], lanes: int, slots: int, vectors: int
) -> NDArray[np.int32] | None:
    """The rows of the lanes, sorted by count; None where that cannot save enough.

    The longest row of each group gives the fewest vectors it can have.
    """
    counts = np.diff(rows.starts)
    by_count = order.copy()
    by_count[: len(counts)] = np.argsort(-counts, kind="stable")
    longest = counts[by_count[::lanes][: -(-len(counts) // lanes)]] if len(counts) else counts
    return by_count if (-(-longest // slots)).sum() < UNSORTED * UNSORTED * vectors else None


def _block(rows: CsrMatrix, values: str, joined: int) -> KernelLayout:
    """Every block of 16 rows and one column in which a row has an element; of int8 values `joined`
    blocks go together."""
    groups, width = -(-rows.shape[0] // BLOCK), rows.shape[1]
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.starts))
    key = (row // BLOCK) * width + rows.columns
    used = np.zeros(groups * width, np.bool_)
    used[key] = True
    kept = used.reshape(groups, width)
    group, column = np.nonzero(kept)
    counts = np.count_nonzero(kept, axis=1)
    place = np.arange(len(group))
    if values == "int8":  # blocks of zeros complete the last pair or four
        missing = -counts % joined
        place = place + np.repeat(np.cumsum(missing) - missing, counts)
        counts = counts + missing
    total = int(counts.sum())
    starts = np.concatenate([[0], np.cumsum(counts)])
    index = np.zeros(total, np.uint16)
    index[place] = column
    where = np.zeros(groups * width, np.int64)
    where[used] = place
    scales = None
    if values == "int8":
        scale = np.zeros(groups * BLOCK, np.float32)
        np.maximum.at(scale, row, np.abs(rows.values))
        scale /= 127
        whole = np.rint(rows.values / np.where(scale > 0, scale, 1)[row])
        words = np.zeros((total // joined, BLOCK, joined), np.int8)
        at = where[key]
        words[at // joined, row % BLOCK, at % joined] = np.clip(whole, -127, 127)
        scales = aligned(scale, np.float32)
    else:
        if values == "fp16" and rows.kept and np.abs(rows.values).max() > FP16[1]:
            raise AsrError("a weight of this matrix is too large for fp16: use fp32")
        words = np.zeros((total, BLOCK), np.float16 if values == "fp16" else np.float32)
        words[where[key], row % BLOCK] = rows.values
    return KernelLayout(
        groups,
        aligned(starts, np.int32),
        aligned(words.ravel(), words.dtype),
        index=aligned(index, np.uint16),
        scales=scales,
    )


def aligned(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """A copy that begins at a multiple of 64 bytes."""
    result = scratch(array.size * np.dtype(dtype).itemsize).view(dtype)
    result[:] = array
    return result


def scratch(size: int) -> NDArray[np.uint8]:
    """This many bytes, beginning at a multiple of 64."""
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def pointer(array: NDArray[Any] | None) -> ctypes.c_void_p:
    """Where the array begins, for C; null for None. The caller keeps the array alive."""
    return ctypes.c_void_p(array.ctypes.data if array is not None else None)
