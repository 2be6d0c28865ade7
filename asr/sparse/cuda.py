"""Sparse layers on a GPU with CSR products of `torch.sparse`, there cuSPARSE, as in the paper.

`sparsify(model, device="cuda")` replaces linear and recurrent layers by these; convolutions stay
dense. A step of a recurrent layer is one sparse product and a few small operations, all started
from Python. The same code runs on a CPU, slowly, so it can be tested without a GPU.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.sparse.convert import TORCH_SPARSE, built_in, register
from asr.sparse.csr import CsrMatrix
from asr.sparse.kernels import CellKind
from asr.sparse.torch_layers import SparseLinear, check_input, uncompiled
from asr.sparse.torch_recurrent import SparseGRU, SparseLSTM, SparseRNN, State, _SparseRecurrent
from asr.sparse.weight import Weight

Parts = tuple[Tensor, ...]


class CsrWeight(Weight):
    """A weight as a CSR tensor on the device of its options."""

    @property
    def kernel(self) -> str:
        return TORCH_SPARSE

    def lay_out(self) -> None:
        self.csr = csr(self.rows, self.options.device)

    @property
    def bytes(self) -> int:
        parts = (self.csr.crow_indices(), self.csr.col_indices(), self.csr.values())
        return sum(part.numel() * part.element_size() for part in parts)


def csr(rows: CsrMatrix, device: str) -> Tensor:
    """A matrix as a float32 CSR tensor, with indices of 32 bits where they suffice."""
    indices = torch.int32 if rows.kept < 2**31 else torch.int64
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(rows.starts).to(indices),
            torch.from_numpy(rows.columns).to(indices),
            torch.from_numpy(rows.values),
            rows.shape,
            device=device,
            check_invariants=False,
        )


def times(matrix: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    """`x (n, columns)` times the transpose of a CSR matrix `(rows, columns)`: `(n, rows)`."""
    y = (matrix @ x.T.contiguous()).T
    return y if bias is None else y + bias


class CsrLinear(SparseLinear):
    """`nn.Linear` on a GPU, inference only."""

    weight_type = CsrWeight

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """`x (..., in_features)` -> `(..., out_features)`. Raises AsrError if gradients are on."""
        check_input(self, x, self.options.device)
        y = times(_csr(self, "weight"), x.reshape(-1, x.shape[-1]), self.bias)
        return y.reshape(*x.shape[:-1], self.out_features)


class _CsrRecurrent(_SparseRecurrent):
    """All steps of all layers and directions, with one sparse product each."""

    weight_type = CsrWeight

    def _run(self, x: Tensor, hx: Any, lengths: Tensor | None) -> tuple[Tensor, State]:
        check_input(self, x, self.options.device)
        given: Parts = self._state(hx)
        self._check_state(list(given), len(x))
        if lengths is not None and int(lengths.max()) > x.shape[1]:
            raise AsrError(f"a length is outside the {x.shape[1]} frames of the input")
        directions = 1 + self.bidirectional
        zero = x.new_zeros(len(x), self.hidden_size)
        ends: list[Parts] = []
        for layer in range(self.num_layers):
            outputs = []
            for d in range(directions):
                start = tuple(part[layer * directions + d] for part in given)
                start = start or (zero,) * (2 if self.kind == "lstm" else 1)
                y, end = self.direction(x, start, lengths, layer, bool(d))
                outputs.append(y)
                ends.append(end)
            x = torch.cat(outputs, dim=2)
        joined = tuple(torch.stack(part) for part in zip(*ends, strict=True))
        return x, joined[0] if self.kind != "lstm" else (joined[0], joined[1])

    def direction(
        self,
        x: Tensor,
        state: Parts,
        lengths: Tensor | None,
        layer: int = 0,
        reverse: bool = False,
        backwards: bool | None = None,
    ) -> tuple[Tensor, Parts]:
        """`x (N, T, inputs)` -> outputs `(N, T, hidden)` and the state after each last step.

        `reverse` selects the weights; `backwards` is the direction in time, by default the same.
        """
        end = f"_l{layer}{'_reverse' if reverse else ''}"
        biases = [getattr(self, f"bias_{p}{end}") if self.bias else None for p in ("ih", "hh")]
        matrix = _csr(self, f"weight_hh{end}")
        flat = times(_csr(self, f"weight_ih{end}"), x.reshape(-1, x.shape[2]), biases[0])
        inputs = flat.reshape(*x.shape[:2], -1).transpose(0, 1).contiguous()  # time first
        outputs = x.new_zeros(x.shape[1], len(x), self.hidden_size)
        last = None if lengths is None else lengths.to(x.device)[:, None]
        order = range(x.shape[1])
        for t in reversed(order) if (reverse if backwards is None else backwards) else order:
            new = step(self.kind, inputs[t], times(matrix, state[0], biases[1]), state)
            if last is None:
                state, outputs[t] = new, new[0]
            else:
                live = last > t
                state = tuple(torch.where(live, a, b) for a, b in zip(new, state, strict=True))
                outputs[t] = torch.where(live, state[0], 0.0)
        return outputs.transpose(0, 1), state


class CsrGRU(_CsrRecurrent, SparseGRU):
    """`nn.GRU` on a GPU, inference only."""


class CsrLSTM(_CsrRecurrent, SparseLSTM):
    """`nn.LSTM` without projection on a GPU, inference only."""


class CsrRNN(_CsrRecurrent, SparseRNN):
    """`nn.RNN` on a GPU, inference only."""


def step(kind: CellKind, given: Tensor, recurrent: Tensor, state: Parts) -> Parts:
    """One step of torch's equations: projections `(N, gates x hidden)` and the state before it."""
    if kind == "gru":
        r_in, z_in, n_in = given.chunk(3, dim=1)
        r_rec, z_rec, n_rec = recurrent.chunk(3, dim=1)
        new = torch.tanh(n_in + torch.sigmoid(r_in + r_rec) * n_rec)
        return (torch.lerp(new, state[0], torch.sigmoid(z_in + z_rec)),)
    if kind == "lstm":
        i, f, g, o = (given + recurrent).chunk(4, dim=1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    total = given + recurrent
    return (torch.tanh(total) if kind == "rnn_tanh" else torch.relu(total),)


def _csr(layer: SparseLinear | _SparseRecurrent, name: str) -> Tensor:
    weight = layer._weights[name]
    assert isinstance(weight, CsrWeight)
    return weight.csr


register(nn.Linear, built_in(CsrLinear), csr=True)
register(nn.GRU, built_in(CsrGRU), csr=True)
register(nn.LSTM, built_in(CsrLSTM), csr=True)
register(nn.RNN, built_in(CsrRNN), csr=True)
