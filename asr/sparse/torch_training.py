"""GRU and RNN layers that train on the remaining weights only, with fp32 kernels on a CPU.

Once the masks of a training are final, the weights that they drop need no product and no gradient.
A layer then has six sparse products for each frame: two of the step, two that carry the gradient
back, and two for the gradients of the weights that are left. `keeps` is made once from the masks;
`run` takes the layer's own parameters at every step, and gives gradients of their shape.
"""

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.errors import AsrError
from asr.sparse.kernels import GATES, CellKind, level, library

WIDEST = 1024
"""Most utterances of a batch: `WIDEST` of c/training.c."""
DENSEST = 0.2
"""Largest fraction of weights left for which `run` is used: an estimate of where dense products in
bfloat16 become faster. Measured at 6 and 9 %."""
_PARTS = {"gru": 4, "rnn_tanh": 1, "rnn_relu": 1}


class _Rows(ctypes.Structure):
    """Must equal `asr_rows` in asr/sparse/kernels/c/training.c."""

    _fields_ = (
        ("starts", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
    )


class _Direction(ctypes.Structure):
    """Must equal `asr_training` in asr/sparse/kernels/c/training.c."""

    _fields_ = (
        *((n, ctypes.c_int32) for n in ("kind", "level", "inputs", "hidden")),
        *((n, ctypes.c_int32) for n in ("gates", "parts", "width")),
        ("frames", ctypes.c_int64),
        *((n, _Rows) for n in ("ih", "hh", "ih_t", "hh_t")),
        *((n, ctypes.c_void_p) for n in ("bias_ih", "bias_hh")),
        *((n, ctypes.c_void_p) for n in ("grad_ih", "grad_hh", "grad_bias_ih", "grad_bias_hh")),
    )


@dataclass(frozen=True)
class _Places:
    """Where the weights of a matrix that stay are, row by row."""

    starts: Tensor
    """`(rows + 1)` int32: the first weight of each row."""
    index: Tensor
    """`(weights)` int32: the column of each."""
    flat: Tensor
    """`(weights)` int64: the place of each in the whole matrix."""

    @classmethod
    def of(cls, keep: Tensor) -> "_Places":
        """keep: `(rows, columns)` bool, True for a weight that stays."""
        places = keep.nonzero()
        starts = torch.zeros(len(keep) + 1, dtype=torch.int32)
        starts[1:] = keep.sum(1).cumsum(0)
        flat = places[:, 0] * keep.shape[1] + places[:, 1]
        return cls(starts, places[:, 1].to(torch.int32).contiguous(), flat.contiguous())

    def rows(self, values: Tensor) -> _Rows:
        """For C; the tensors must outlive it."""
        return _Rows(self.starts.data_ptr(), self.index.data_ptr(), values.data_ptr())


class Keeps:
    """Which weights of one direction stay. Raises AsrError for masks that do not fit each other.

    kind: the cell. keep_ih, keep_hh: `(gates x hidden, inputs)` and `(gates x hidden, hidden)`
    bool, True for a weight that stays.
    """

    def __init__(self, kind: CellKind, keep_ih: Tensor, keep_hh: Tensor) -> None:
        self.kind: CellKind = kind
        self.hidden, self.inputs = keep_hh.shape[1], keep_ih.shape[1]
        rows = GATES[kind] * self.hidden
        if kind not in _PARTS or len(keep_ih) != rows or len(keep_hh) != rows:
            raise AsrError(
                f"masks of {list(keep_ih.shape)} and {list(keep_hh.shape)} for a {kind}: a GRU has "
                "three rows for each unit, an RNN one; an LSTM cannot train on sparse kernels"
            )
        self.density = (int(keep_ih.sum()) + int(keep_hh.sum())) / (
            keep_ih.numel() + keep_hh.numel()
        )
        self.ih, self.hh = _Places.of(keep_ih), _Places.of(keep_hh)
        self.ih_t, self.hh_t = self._transposed(keep_ih), self._transposed(keep_hh)
        if kind == "gru":  # the gradient of its third gate is one part further (c/training.c)
            self.hh_t.index[self.hh_t.index >= 2 * self.hidden] += self.hidden

    @staticmethod
    def _transposed(keep: Tensor) -> _Places:
        places = _Places.of(keep.t())
        row = places.flat // len(keep)
        flat = places.index.long() * keep.shape[1] + row
        return _Places(places.starts, places.index, flat)


def supports(kind: str) -> bool:
    """Whether `run` can be used: for a GRU or RNN, and with the C library."""
    return kind in _PARTS and library() is not None


def run(x: Tensor, keeps: Sequence[Keeps], cells: Sequence[nn.RNNBase]) -> Tensor:
    """`x (directions, time, batch, inputs)` -> states `(directions, time, batch, hidden)`.

    Each direction runs from the first time step to the last. Computes in float32; the states have
    the type of autocast if it is on, else that of x. With two threads each runs a direction; the
    result is the same. Raises AsrError for more than WIDEST utterances, and where inputs, cells and
    `keeps` do not fit each other.
    """
    _check(x, keeps, cells)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    parameters = [cast(Tensor, getattr(cell, name)) for cell in cells for name in names]
    return cast(Tensor, _Layer.apply(tuple(keeps), x, *parameters))


def _check(x: Tensor, keeps: Sequence[Keeps], cells: Sequence[nn.RNNBase]) -> None:
    """C reads and writes where these shapes say."""
    directions, _, batch, inputs = x.shape
    if batch > WIDEST:
        raise AsrError(f"{batch} utterances in a batch: sparse layers take at most {WIDEST}")
    if not len(keeps) == len(cells) == directions:
        raise AsrError(f"{directions} directions, {len(keeps)} masks and {len(cells)} cells")
    for kept, cell in zip(keeps, cells, strict=True):
        there = (cell.mode.lower(), cell.input_size, cell.hidden_size)
        if there != (kept.kind, inputs, kept.hidden) or kept.inputs != inputs:
            raise AsrError(
                f"a {there[0]} of {there[1]} inputs and {there[2]} units, masks of a {kept.kind} "
                f"of {kept.inputs} and {kept.hidden}, and {inputs} inputs: must be the same"
            )


class _Layer(torch.autograd.Function):
    """All directions of a layer."""

    @staticmethod
    def forward(ctx: Any, keeps: tuple[Keeps, ...], x: Tensor, *parameters: Tensor) -> Tensor:
        n, frames, batch, _ = x.shape
        width = 8 if batch <= 8 else -(-batch // 16) * 16
        hidden, parts = keeps[0].hidden, _PARTS[keeps[0].kind]
        given = _columns(x, width)
        states = torch.empty(n, frames + 1, hidden, width)
        states[:, 0] = 0.0
        saved = torch.empty(n, frames, parts * hidden, width)
        calls = [
            _Call(k, parameters[4 * d : 4 * d + 4], frames, width) for d, k in enumerate(keeps)
        ]
        _each(n, lambda d: calls[d].forward(given[d], states[d], saved[d]))
        states[..., batch:] = 0.0  # of no utterance: an RNN with ReLU may be infinite there
        ctx.calls, ctx.batch, ctx.type = calls, batch, x.dtype
        ctx.save_for_backward(given, states, saved)
        output = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        return states[:, 1:, :, :batch].transpose(2, 3).to(output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        given, states, saved = ctx.saved_tensors
        grad_x = torch.empty_like(given)
        columns = _columns(grad, given.shape[3])
        results: list[tuple[Tensor, ...]] = [()] * len(given)

        def direction(d: int) -> None:
            results[d] = ctx.calls[d].backward(given[d], states[d], saved[d], columns[d], grad_x[d])

        _each(len(given), direction)
        back = grad_x[..., : ctx.batch].transpose(2, 3).to(ctx.type)
        return None, back, *(part for result in results for part in result)


class _Call:
    """One direction in one training step: what both passes need."""

    def __init__(self, keeps: Keeps, weights: Sequence[Tensor], frames: int, width: int) -> None:
        self.keeps, self.done = keeps, False
        ih, hh, self.bias_ih, self.bias_hh = (w.detach().float().contiguous() for w in weights)
        self.shapes = [w.shape for w in weights[:2]]
        self.types = [w.dtype for w in weights]
        places = (keeps.ih, keeps.hh, keeps.ih_t, keeps.hh_t)
        self.values = [
            w.flatten().index_select(0, p.flat)
            for w, p in zip((ih, hh, ih, hh), places, strict=True)
        ]
        self.struct = _Direction(
            list(GATES).index(keeps.kind),
            level(),
            keeps.inputs,
            keeps.hidden,
            GATES[keeps.kind],
            _PARTS[keeps.kind],
            width,
            frames,
            *(p.rows(v) for p, v in zip(places, self.values, strict=True)),
            self.bias_ih.data_ptr(),
            self.bias_hh.data_ptr(),
        )

    def forward(self, x: Tensor, states: Tensor, saved: Tensor) -> None:
        """Fill `states` and `saved`."""
        _library().asr_training_forward(ctypes.byref(self.struct), *_pointers(x, states, saved))

    def backward(
        self, x: Tensor, states: Tensor, saved: Tensor, grad: Tensor, grad_x: Tensor
    ) -> tuple[Tensor, ...]:
        """Fill `grad_x`; the gradients of the parameters. `saved` is overwritten."""
        if self.done:
            raise RuntimeError("a sparse layer has no second backward pass: run it forward again")
        self.done = True
        sparse = [torch.zeros_like(values) for values in self.values[:2]]
        biases = [torch.zeros_like(self.bias_ih), torch.zeros_like(self.bias_hh)]
        for name, made in zip(
            ("grad_ih", "grad_hh", "grad_bias_ih", "grad_bias_hh"), (*sparse, *biases), strict=True
        ):
            setattr(self.struct, name, made.data_ptr())
        carry = torch.zeros_like(states[0])
        span = _library().asr_training_span(carry.shape[1])
        beside = torch.empty(max(self.keeps.inputs, self.keeps.hidden), span)
        _library().asr_training_backward(
            ctypes.byref(self.struct), *_pointers(x, states, saved, grad, carry, grad_x, beside)
        )
        whole = [
            torch.zeros(shape.numel()).index_copy_(0, p.flat, g).view(shape)
            for shape, p, g in zip(self.shapes, (self.keeps.ih, self.keeps.hh), sparse, strict=True)
        ]
        return tuple(g.to(t) for g, t in zip((*whole, *biases), self.types, strict=True))


def _library() -> ctypes.CDLL:
    found = library()
    assert found is not None
    return found


def _pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
    assert all(t.is_contiguous() and t.dtype == torch.float32 for t in tensors)
    return [ctypes.c_void_p(t.data_ptr()) for t in tensors]


def _columns(x: Tensor, width: int) -> Tensor:
    """`(n, time, batch, features)` -> `(n, time, features, width)` float32, zeros at the end."""
    out = torch.zeros(*x.shape[:2], x.shape[3], width)
    out[..., : x.shape[2]] = x.transpose(2, 3)
    return out


def _each(directions: int, work: Any) -> None:
    """Run both directions, the second in a thread of its own if torch may use two."""
    if directions == 2 and torch.get_num_threads() > 1:
        with ThreadPoolExecutor(1) as other:
            second = other.submit(work, 1)
            work(0)
            second.result()
    else:
        for d in range(directions):
            work(d)
