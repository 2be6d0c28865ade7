"""The recurrent layer of `torch_layers` on sparse kernels, registered with `asr.sparse.sparsify`.

`RecurrentLayer` may share one input matrix between its directions, and may sum them, as in the
paper. `asr.sparse` replaces only torch's own layers, so the sparse version is defined here.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from asr.model.torch_layers import RecurrentLayer
from asr.model.torch_recurrence import FrameOrder
from asr.sparse.convert import TORCH_SPARSE, KeepDense, Request, register
from asr.sparse.kernels import Recurrent
from asr.sparse.torch_layers import to_array, uncompiled
from asr.sparse.torch_recurrent import SparseGRU, SparseLSTM, SparseRNN
from asr.sparse.weight import Options


class SparseRecurrentLayer(nn.Module):
    """`RecurrentLayer` without the zeros, for inference; `state_dict` is that of the dense one."""

    def __init__(self, dense: RecurrentLayer, options: Options) -> None:
        super().__init__()
        self.norm = dense.norm
        self.dropout = dense.dropout
        self.concat, self.shared_input = dense.concat, dense.shared_input
        self.forward_cell = _sparse_cell(dense.forward_cell, options)
        back = dense.backward_cell
        self.backward_cell = None if back is None else _sparse_cell(back, options)
        self._tie()
        self.register_load_state_dict_pre_hook(RecurrentLayer._complete)
        self.register_load_state_dict_post_hook(RecurrentLayer._completed)
        self.train(dense.training)

    def _tie(self) -> None:
        if self.shared_input and self.backward_cell is not None:
            self.backward_cell.tie("weight_ih_l0", self.forward_cell)

    @uncompiled
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """As in `RecurrentLayer`."""
        return RecurrentLayer.step(cast(RecurrentLayer, self), x, state)

    @uncompiled
    def forward(self, x: Tensor, mask: Tensor, order: FrameOrder) -> Tensor:
        """`x (batch, frames, inputs)`, `mask (batch, frames)`; zeros outside the mask."""
        if self.norm is not None:
            x = self.norm(x, mask)
        return self._cells(self.dropout(x), mask.sum(dim=1))

    def _cells(self, x: Tensor, lengths: Tensor) -> Tensor:
        cells = [self.forward_cell.cell()]
        if self.backward_cell is not None:
            cells.append(self.backward_cell.cell(backwards=True))
        layer = Recurrent(cells, "concat" if self.concat else "sum")
        threads = min(2, torch.get_num_threads())
        y, _ = layer(to_array(self, x), lengths.numpy(), threads=threads)
        return torch.from_numpy(y)


class CsrRecurrentLayer(SparseRecurrentLayer):
    """The same by `torch.sparse`, on a GPU."""

    def _cells(self, x: Tensor, lengths: Tensor) -> Tensor:
        forward: Tensor = self.forward_cell(x, lengths=lengths)[0]
        if self.backward_cell is None:
            return forward
        zero = x.new_zeros(len(x), self.backward_cell.hidden_size)
        start = (zero,) * (2 if self.backward_cell.kind == "lstm" else 1)
        backward, _ = self.backward_cell.direction(x, start, lengths, backwards=True)
        return torch.cat([forward, backward], dim=-1) if self.concat else forward + backward


def _sparse_cell(cell: nn.RNNBase, options: Options) -> Any:
    kinds: dict[type[nn.RNNBase], Any]
    if options.kernel == TORCH_SPARSE:
        from asr.sparse.cuda import CsrGRU, CsrLSTM, CsrRNN

        kinds = {nn.GRU: CsrGRU, nn.LSTM: CsrLSTM, nn.RNN: CsrRNN}
    else:
        kinds = {nn.GRU: SparseGRU, nn.LSTM: SparseLSTM, nn.RNN: SparseRNN}
    return kinds[type(cell)].from_dense(cell, options)


def _factory(layer: RecurrentLayer, request: Request) -> nn.Module:
    cells = [cell for cell in (layer.forward_cell, layer.backward_cell) if cell is not None]
    if any(cell._forward_hooks or cell._forward_pre_hooks for cell in cells):
        raise KeepDense("its cells have hooks, which would be lost")
    if any(type(cell) not in (nn.GRU, nn.LSTM, nn.RNN) for cell in cells):
        raise KeepDense("its cells are not plain nn.GRU, nn.LSTM or nn.RNN")
    request.require_sparse(
        {
            f"{i}.{name}": tensor
            for i, cell in enumerate(cells)
            for name, tensor in cell.named_parameters()
            if tensor.dim() == 2
        }
    )
    csr = request.options.kernel == TORCH_SPARSE
    return (CsrRecurrentLayer if csr else SparseRecurrentLayer)(layer, request.options)


register(RecurrentLayer, _factory)
register(RecurrentLayer, _factory, csr=True)
