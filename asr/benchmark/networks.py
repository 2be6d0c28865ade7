"""Whole networks, features to log-probabilities: dense alternatives and our own engine."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.benchmark.dense import (
    NAMES,
    NO_INT8,
    TORCH,
    Alternatives,
    Contestant,
    make_session,
    torch_int8,
)
from asr.benchmark.weights import prune_layer, random_layer
from asr.errors import AsrError
from asr.model.dimensions import Model
from asr.sparse.csr import Pattern

if TYPE_CHECKING:
    from asr.model.torch_network import DeepSpeech


class DenseNetwork:
    """The dense alternatives of a network whose batch norms are folded."""

    def __init__(self, tensors: Mapping[str, np.ndarray], dimensions: Model, threads: int) -> None:
        self.tensors, self.dimensions, self.threads = tensors, dimensions, threads
        self._graph: Any = None

    def alternatives(self, features: np.ndarray, names: Sequence[str] = NAMES) -> Alternatives:
        """For `features (N, T, mels)` of one length; outputs are `(N, T', outputs)`."""
        result = Alternatives()
        for name in names:
            maker = self._torch if name in TORCH else self._runtime
            result.offer(name, lambda name=name, maker=maker: maker(name, features))  # type: ignore[misc]
        return result

    def _torch(self, name: str, features: np.ndarray) -> Contestant:
        import torch

        torch.set_num_threads(self.threads)
        model: Any = torch_network(self.tensors, self.dimensions)
        x = torch.from_numpy(features)
        if name == "torch int8":
            model = torch_int8(model, self.dimensions.cell)
        if name == "torch bf16":
            model, x = model.bfloat16(), x.bfloat16()
        lengths = torch.full((len(features),), features.shape[1])

        def run() -> Any:
            with torch.inference_mode():
                return model(x, lengths)[0]

        return Contestant(run, lambda: run().float().numpy())

    def _runtime(self, name: str, features: np.ndarray) -> Contestant:
        if name == "ONNX Runtime int8" and self.dimensions.cell != "lstm":
            raise NotImplementedError(NO_INT8)
        from asr.model.onnx import build_network

        if self._graph is None:
            self._graph = build_network(self.tensors, self.dimensions, padded=False)
        run = make_session(name, self._graph, self.threads)(np.ascontiguousarray(features))
        return Contestant(run, lambda: np.array(run(), np.float32))


def random_tensors(
    dimensions: Model, pattern: Pattern | None = None, sparsity: float = 0.0
) -> dict[str, np.ndarray]:
    """Weights of an untrained network without batch norm, its recurrent matrices pruned.

    Named and shaped as in `DeepSpeech`. Raises AsrError for a batch norm or a shared
    input matrix, which these weights do not have.
    """
    d, generator = dimensions, np.random.default_rng(1)
    if d.batch_norm or d.shared_input:
        raise AsrError("random networks are made without batch_norm and shared_input")
    tensors: dict[str, np.ndarray] = {}
    channels = [1, *d.conv_channels]
    for i, (bands, frames) in enumerate(d.conv_kernels):
        shape = (channels[i + 1], channels[i], bands, frames)
        scale = np.float32((2 / math.prod(shape[1:])) ** 0.5)
        tensors[f"conv.{i}.convolution.weight"] = scale * generator.standard_normal(
            shape, np.float32
        )
        tensors[f"conv.{i}.convolution.bias"] = np.zeros(shape[0], np.float32)
    for i in range(d.layers):
        inputs = d.layer_outputs if i else d.conv_features
        layer = random_layer(d.cell, inputs, d.hidden, 1 + d.bidirectional, seed=10 + i)
        if pattern is not None:
            layer = prune_layer(layer, pattern, sparsity)
        for direction, cell in zip(("forward", "backward"), layer.cells, strict=False):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                tensors[f"rnn.{i}.{direction}_cell.{name}_l0"] = getattr(cell, name)
    weight = generator.standard_normal((d.outputs, d.layer_outputs), np.float32)
    tensors["output.linear.weight"] = weight / d.layer_outputs**0.5
    tensors["output.linear.bias"] = np.zeros(d.outputs, np.float32)
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def torch_network(tensors: Mapping[str, np.ndarray], dimensions: Model) -> "DeepSpeech":
    """The torch network of these weights, in evaluation mode."""
    import torch

    from asr.model.torch_network import DeepSpeech

    model = DeepSpeech(dimensions)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    return model.eval()
