"""Torch modules with zeros, for the tests of the sparse layers."""

from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def pruned(module: nn.Module, sparsity: float = 0.9, pattern: str = "element") -> nn.Module:
    """The module with this fraction of each matrix set to zero, by the pattern."""
    for tensor in module.parameters():
        if tensor.dim() >= 2:
            matrix = tensor.view(len(tensor), -1)
            matrix.mul_(mask(matrix, sparsity, pattern))
    return module.eval()


def mask(matrix: Tensor, sparsity: float, pattern: str) -> Tensor:
    rows, columns = matrix.shape
    if pattern == "element":
        return matrix.abs() >= matrix.abs().flatten().quantile(sparsity)
    if pattern == "block":
        norms = matrix.view(rows // 16, 16, columns).norm(dim=1)
        return (norms >= norms.flatten().quantile(sparsity)).repeat_interleave(16, dim=0)
    kept = round(32 * (1 - sparsity))
    keep = torch.zeros_like(matrix, dtype=torch.bool)
    for start in range(0, columns, 32):
        bank = matrix[:, start : start + 32].abs()
        best = bank.topk(min(kept, bank.shape[1]), dim=1).indices
        keep[:, start : start + 32].scatter_(1, best, True)
    return keep


KINDS = [
    (nn.GRU, {}),
    (nn.LSTM, {}),
    (nn.RNN, {"nonlinearity": "tanh"}),
    (nn.RNN, {"nonlinearity": "relu"}),
]


def states(dense: Any, batch: int | None) -> Any:
    count = dense.num_layers * (1 + dense.bidirectional)
    shape = (count, dense.hidden_size) if batch is None else (count, batch, dense.hidden_size)
    h, c = torch.randn(2, *shape).tanh()
    return (h, c) if isinstance(dense, nn.LSTM) else h
