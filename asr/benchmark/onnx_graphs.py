"""Recurrent layers and whole networks as ONNX graphs, for the runtimes to compare with.

Built node by node with the operator that a runtime is quickest at (one bidirectional GRU or LSTM
node a layer), for utterances of one length: what a careful user of these runtimes would write.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from asr.benchmark.layers import CellWeights, LayerWeights, layer_of
from asr.sparse.kernels import CellKind

OPSET = 17
_OPERATORS: dict[CellKind, str] = {
    "gru": "GRU", "lstm": "LSTM", "rnn_tanh": "RNN", "rnn_relu": "RNN",
}  # fmt: skip
_ORDER: dict[CellKind, tuple[int, ...]] = {
    "gru": (1, 0, 2), "lstm": (0, 3, 1, 2), "rnn_tanh": (0,), "rnn_relu": (0,),
}  # fmt: skip
"""Which of torch's gates stands where in ONNX: GRU z r h, LSTM i o f c."""


class Graph:
    """Nodes and weights in the making; names are made up as needed."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, array: np.ndarray) -> str:
        """A constant of the graph."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output that is used."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def recurrent(self, x: str, layer: LayerWeights) -> str:
        """`x (T, N, inputs)` to `(T, directions, N, hidden)`."""
        attributes: dict[str, Any] = {
            "hidden_size": layer.hidden,
            "direction": "bidirectional" if len(layer.cells) == 2 else "forward",
        }
        if layer.cell == "gru":
            attributes["linear_before_reset"] = 1  # torch resets after the product
        if layer.cell == "rnn_relu":
            attributes["activations"] = ["Relu"] * len(layer.cells)
        return self.add(_OPERATORS[layer.cell], x, *self._stacked(layer), **attributes)

    def _stacked(self, layer: LayerWeights) -> list[str]:
        def gates(array: np.ndarray) -> np.ndarray:
            parts = np.split(array, len(_ORDER[layer.cell]))
            return np.concatenate([parts[i] for i in _ORDER[layer.cell]])

        def bias(cell: CellWeights) -> np.ndarray:
            return np.concatenate([gates(cell.bias_ih), gates(cell.bias_hh)])

        return [
            self.weight(np.stack([gates(c.weight_ih) for c in layer.cells])),
            self.weight(np.stack([gates(c.weight_hh) for c in layer.cells])),
            self.weight(np.stack([bias(c) for c in layer.cells])),
        ]

    def model(self, x_shape: list[int | str], y: str, y_shape: list[int | str]) -> Any:
        """The finished ModelProto from input `x` to output `y`, both float32."""
        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            "asr",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, y_shape)],
            self.weights,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        made.ir_version = 8
        return made


def layer_model(layer: LayerWeights) -> Any:
    """A layer alone: `x (T, N, inputs)` to `y (T, directions, N, hidden)`."""
    graph = Graph()
    y = graph.recurrent("x", layer)
    return graph.model(["T", "N", layer.inputs], y, ["T", len(layer.cells), "N", layer.hidden])


def network_model(tensors: Mapping[str, np.ndarray], dimensions: Any) -> Any:
    """A whole network without batch norm (folded): `x (N, T, mels)` to log-probabilities `y`.

    `tensors` are named as in `DeepSpeech`, `dimensions` is an
    `asr.model.dimensions.Model`.
    """
    d, graph = dimensions, Graph()
    x = graph.add("Transpose", "x", perm=[0, 2, 1])
    x = graph.add("Unsqueeze", x, graph.weight(np.array([1])))
    low, high = (graph.weight(np.array(v, np.float32)) for v in (0, 20))
    for i, (kernel, stride) in enumerate(zip(d.conv_kernels, d.conv_strides, strict=True)):
        names = (f"conv.{i}.convolution.weight", f"conv.{i}.convolution.bias")
        pads = [(k - 1) // 2 for k in kernel] * 2
        x = graph.add(
            "Conv", x, *(graph.weight(tensors[n]) for n in names), strides=list(stride), pads=pads
        )
        x = graph.add("Clip", x, low, high)
    x = graph.add("Transpose", x, perm=[3, 0, 1, 2])  # (T, N, channels, bands)
    x = graph.add("Reshape", x, graph.weight(np.array([0, 0, -1])))
    for i in range(d.layers):
        y = graph.recurrent(x, layer_of(tensors, d, i))  # (T, directions, N, hidden)
        if d.combine == "sum" or not d.bidirectional:
            x = graph.add("ReduceSum", y, graph.weight(np.array([1])), keepdims=0)
        else:
            x = graph.add("Transpose", y, perm=[0, 2, 1, 3])
            x = graph.add("Reshape", x, graph.weight(np.array([0, 0, -1])))
    x = graph.add("MatMul", x, graph.weight(tensors["output.linear.weight"].T))
    x = graph.add("Add", x, graph.weight(tensors["output.linear.bias"]))
    x = graph.add("Transpose", graph.add("LogSoftmax", x, axis=-1), perm=[1, 0, 2])
    return graph.model(["N", "T", d.mels], x, ["N", "frames", d.outputs])
