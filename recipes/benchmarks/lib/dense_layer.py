"""The dense alternatives to one recurrent layer, in every runtime that is installed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from asr.benchmark.dense import (
    NAMES,
    NO_INT8,
    TORCH,
    Computation,
    DenseAlternatives,
    make_session,
    torch_int8,
)
from asr.sparse.kernels import CellKind
from lib.layers import LayerWeights


class DenseLayer:
    """The dense alternatives to one layer, with a number of threads."""

    def __init__(self, layer: LayerWeights, threads: int) -> None:
        self.layer, self.threads = layer, threads
        self._made: dict[str, Any] = {}

    def alternatives(self, x: np.ndarray, names: Sequence[str] = NAMES) -> DenseAlternatives:
        """For `x (N, T, inputs)`; outputs are `(N, T, directions * hidden)`."""
        result = DenseAlternatives()
        for name in names:
            maker = self._torch if name in TORCH else self._runtime
            result.offer(name, lambda name=name, maker=maker: maker(name, x))
        return result

    def _torch(self, name: str, x: np.ndarray) -> Computation:
        import torch

        torch.set_num_threads(self.threads)
        if name not in self._made:
            self._made[name] = _torch_layer(self.layer, name)
        module = self._made[name]
        kind = torch.bfloat16 if name == "torch bf16" else torch.float32
        rows = torch.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1))).to(kind)

        def run() -> Any:
            with torch.inference_mode():
                return module(rows)[0]

        return Computation(run, lambda: run().float().transpose(0, 1).numpy())

    def _runtime(self, name: str, x: np.ndarray) -> Computation:
        rows = np.ascontiguousarray(x.swapaxes(0, 1))
        if name not in self._made:
            if name == "ONNX Runtime int8" and self.layer.cell != "lstm":
                raise NotImplementedError(NO_INT8)
            from asr.model.onnx import build_layer

            if "graph" not in self._made:
                self._made["graph"] = build_layer(self.layer.cell, self.layer.tensors())
            self._made[name] = make_session(name, self._made["graph"], self.threads)
        run = self._made[name](rows)

        def output() -> np.ndarray:
            # The graph's output is (T, directions, N, hidden).
            y = np.asarray(run(), np.float32).transpose(2, 0, 1, 3)
            return np.ascontiguousarray(y).reshape(*y.shape[:2], -1)

        return Computation(run, output)


def _torch_layer(layer: LayerWeights, name: str) -> Any:
    """An `nn` layer with these weights, `(T, N, inputs)` to `(T, N, directions * hidden)`."""
    import torch
    from torch import nn

    kinds: dict[CellKind, Any] = {"gru": nn.GRU, "lstm": nn.LSTM}
    extra = {} if layer.cell in kinds else {"nonlinearity": layer.cell.removeprefix("rnn_")}
    module = kinds.get(layer.cell, nn.RNN)(
        layer.inputs, layer.hidden, bidirectional=len(layer.cells) == 2, **extra
    )
    state = {}
    for cell, suffix in zip(layer.cells, ("", "_reverse"), strict=False):
        for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            state[f"{key}_l0{suffix}"] = torch.from_numpy(getattr(cell, key))
    module.load_state_dict(state)
    module.eval()
    if name == "torch bf16":
        return module.bfloat16()
    return torch_int8(module, layer.cell) if name == "torch int8" else module
