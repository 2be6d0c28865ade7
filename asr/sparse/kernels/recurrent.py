"""One recurrent layer with one or two directions on sparse matrices."""

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError
from asr.sparse.kernels import reference
from asr.sparse.kernels.layouts import pointer
from asr.sparse.kernels.library import LEVELS, library
from asr.sparse.kernels.matrix import Matrix, MatrixStruct, check_array

Array = NDArray[np.float32]
CellKind = Literal["gru", "lstm", "rnn_tanh", "rnn_relu"]

GATES: dict[CellKind, int] = {"gru": 3, "lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}
"""Number of gates, whose matrices of `hidden` rows are stacked in the weights of each cell."""

State = Array | tuple[Array, Array]


@dataclass(frozen=True)
class Cell:
    """One direction, with torch's gate order and equations. Raises AsrError if sizes disagree."""

    kind: CellKind
    weight_ih: Matrix
    """`(gates x hidden, inputs)`."""
    weight_hh: Matrix
    """`(gates x hidden, hidden)`."""
    bias_ih: Array
    bias_hh: Array
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.kind not in GATES:
            raise AsrError(f"recurrent cell {self.kind!r}: there are {', '.join(GATES)}")
        rows = GATES[self.kind] * self.hidden
        for name, matrix in (("input", self.weight_ih), ("recurrent", self.weight_hh)):
            if matrix.shape[0] != rows:
                raise AsrError(
                    f"the {name} matrix of a {self.kind} of {self.hidden} units has "
                    f"{matrix.shape[0]} rows, not {rows}"
                )
        check_array("bias_ih", self.bias_ih, (rows,))
        check_array("bias_hh", self.bias_hh, (rows,))
        for name in ("bias_ih", "bias_hh"):  # C reads contiguous numbers
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name)))

    @property
    def inputs(self) -> int:
        """Features of the input."""
        return self.weight_ih.shape[1]

    @property
    def hidden(self) -> int:
        """Size of the state."""
        return self.weight_hh.shape[1]


class _Cell(ctypes.Structure):
    """Must equal `asr_cell` in asr/sparse/kernels/c/recurrent.c."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("reverse", ctypes.c_int32),
        ("level", ctypes.c_int32),
        ("hidden", ctypes.c_int32),
        ("weight_ih", ctypes.POINTER(MatrixStruct)),
        ("weight_hh", ctypes.POINTER(MatrixStruct)),
        ("bias_ih", ctypes.c_void_p),
        ("bias_hh", ctypes.c_void_p),
    )


class Recurrent:
    """One layer: one cell, or two whose outputs are concatenated (`concat`) or added (`sum`).

    Raises AsrError for cells of different type or size.
    """

    def __init__(self, cells: Sequence[Cell], combine: Literal["concat", "sum"] = "concat") -> None:
        if len(cells) not in (1, 2):
            raise AsrError(f"a recurrent layer has one or two directions, not {len(cells)}")
        if combine not in ("concat", "sum"):
            raise AsrError(f"directions are combined by concat or sum, not {combine!r}")
        if len({(cell.kind, cell.inputs, cell.hidden) for cell in cells}) > 1:
            raise AsrError("the directions of a recurrent layer differ in kind or size")
        self.cells = tuple(cells)
        self.combine = combine
        self._structs = [_struct(cell) for cell in cells if _is_native(cell)]

    @property
    def outputs(self) -> int:
        """Features of the output."""
        directions = len(self.cells) if self.combine == "concat" else 1
        return directions * self.cells[0].hidden

    def __call__(
        self,
        x: Array,
        lengths: NDArray[np.integer[Any]] | None = None,
        state: State | None = None,
        threads: int = 2,
    ) -> tuple[Array, State]:
        """`x (N, T, inputs)` -> outputs `(N, T, D x hidden)`, or `(N, T, hidden)` of a sum.

        `lengths (N,)` are in frames; outputs beyond them are zero, and a reverse cell begins at
        each utterance's own end. The state is h `(D, N, hidden)`, for an LSTM (h, c); the returned
        one is that after each utterance's own last step. With two threads each runs a direction.

        Raises AsrError for shapes, types and lengths that do not fit.
        """
        cell = self.cells[0]
        check_array("input", x, (None, None, cell.inputs))
        frames = _lengths(lengths, x)
        states = self._state(state, len(x))
        if threads < 1:
            raise AsrError(f"threads = {threads}: at least 1 is needed")
        outputs, after = (
            self._in_c(x, frames, states, threads)
            if all(_is_native(cell) for cell in self.cells)
            else self._in_numpy(x, frames, states)
        )
        return outputs, after[0] if cell.kind != "lstm" else (after[0], after[1])

    def _in_c(
        self, x: Array, lengths: NDArray[np.int64], states: tuple[Array, ...], threads: int
    ) -> tuple[Array, tuple[Array, ...]]:
        loaded = library()
        assert loaded is not None
        x = np.ascontiguousarray(x)
        batch, frames = x.shape[:2]
        hidden = self.cells[0].hidden
        states = tuple(np.array(part, np.float32, order="C") for part in states)
        joined = np.empty((batch, frames, self.outputs), np.float32)
        summed = self.combine == "sum" and len(self.cells) == 2
        outputs = [joined, np.empty_like(joined)] if summed else [joined] * len(self.cells)

        def direction(d: int) -> None:
            first = 0 if summed else 4 * d * hidden
            failed = loaded.asr_recurrent(
                ctypes.byref(self._structs[d]),
                ctypes.c_int64(batch),
                ctypes.c_int64(frames),
                pointer(x),
                pointer(lengths),
                pointer(states[0][d]),
                pointer(states[1][d] if len(states) > 1 else None),
                ctypes.c_void_p(outputs[d].ctypes.data + first),
                ctypes.c_int64(self.outputs),
            )
            if failed == 2:
                raise MemoryError("buffers of a recurrent layer")
            if failed:
                raise AsrError("the C library has no kernel for the layout of this recurrent layer")

        other = None
        if len(self.cells) == 2 and threads > 1:
            other = _executor().submit(direction, 1)
        direction(0)
        if other:
            other.result()
        elif len(self.cells) == 2:
            direction(1)
        if summed:
            joined += outputs[1]
        return joined, states

    def _in_numpy(
        self, x: Array, lengths: NDArray[np.int64], states: tuple[Array, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        results = [
            self._reference(d, x, lengths, tuple(part[d] for part in states))
            for d in range(len(self.cells))
        ]
        outputs = [output for output, _ in results]
        after = tuple(np.stack(part) for part in zip(*(s for _, s in results), strict=True))
        if self.combine == "sum":
            return sum(outputs[1:], outputs[0]), after
        return np.concatenate(outputs, axis=2), after

    def _reference(
        self, d: int, x: Array, lengths: NDArray[np.int64], state: tuple[Array, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        cell = self.cells[d]
        given = cell.weight_ih(np.ascontiguousarray(x).reshape(-1, cell.inputs), cell.bias_ih)
        return reference.direction(
            reference.STEPS[cell.kind],
            lambda h: cell.weight_hh(h, cell.bias_hh),
            given.reshape(*x.shape[:2], cell.weight_ih.shape[0]),
            lengths,
            state,
            cell.reverse,
        )

    def _state(self, state: State | None, batch: int) -> tuple[Array, ...]:
        cell = self.cells[0]
        shape = (len(self.cells), batch, cell.hidden)
        parts = 2 if cell.kind == "lstm" else 1
        if state is None:
            given: tuple[Array, ...] = tuple(np.zeros(shape, np.float32) for _ in range(parts))
        else:
            given = state if isinstance(state, tuple) else (state,)
        if len(given) != parts:
            raise AsrError(f"the state of a {cell.kind} has {parts} parts, not {len(given)}")
        for part in given:
            check_array("state", part, shape)
        return given


def _is_native(cell: Cell) -> bool:
    return cell.weight_ih.struct is not None and cell.weight_hh.struct is not None


def _struct(cell: Cell) -> _Cell:
    """The structure for C; the cell keeps alive what it points to."""
    assert cell.weight_ih.struct is not None
    assert cell.weight_hh.struct is not None
    return _Cell(
        list(GATES).index(cell.kind),
        cell.reverse,
        LEVELS.index(cell.weight_hh.level),
        cell.hidden,
        ctypes.pointer(cell.weight_ih.struct),
        ctypes.pointer(cell.weight_hh.struct),
        cell.bias_ih.ctypes.data,
        cell.bias_hh.ctypes.data,
    )


@lru_cache(maxsize=1)
def _executor() -> ThreadPoolExecutor:
    """Runs second directions. A layer uses one of its threads, so layers never wait for each other
    in a circle."""
    return ThreadPoolExecutor(max_workers=8, thread_name_prefix="asr-direction")


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_executor.cache_clear)


def _lengths(lengths: NDArray[np.integer[Any]] | None, x: Array) -> NDArray[np.int64]:
    batch, frames = x.shape[:2]
    if lengths is None:
        return np.full(batch, frames, np.int64)
    found = np.asarray(lengths)
    if found.shape != (batch,) or found.dtype.kind not in "iu":
        raise AsrError(f"lengths must be {batch} whole numbers, one for each utterance")
    if batch and (found.min() < 0 or found.max() > frames):
        raise AsrError(f"a length is outside the {frames} frames of the input")
    return found.astype(np.int64)
