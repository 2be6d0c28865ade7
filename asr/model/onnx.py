"""The network of a model file as an ONNX graph, made from its tensors without torch.

Batch and time are dynamic. The recurrent layers become ONNX's own GRU, LSTM and RNN, which know
lengths: their reverse direction begins at each utterance's end, as ours does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from asr.model.dimensions import Cell, Model

OPSET = 17
CLIP = 20.0
NORM_EPSILON = 1e-5

# Which of torch's gates comes where: (r, z, n) to (z, r, n), (i, f, g, o) to (i, o, f, g).
_GATES: dict[Cell, tuple[int, ...]] = {
    "gru": (1, 0, 2),
    "lstm": (0, 3, 1, 2),
    "rnn_tanh": (0,),
    "rnn_relu": (0,),
}
_OPERATORS: dict[Cell, str] = {"gru": "GRU", "lstm": "LSTM", "rnn_tanh": "RNN", "rnn_relu": "RNN"}

Array = NDArray[Any]


def build(tensors: Mapping[str, Array], model: Model, metadata: Mapping[str, str]) -> Any:
    """The ONNX model of a network's dense tensors, by their names in a model file.

    Inputs `features (batch, time, mels)` float32 and `lengths (batch,)` int64 in frames; outputs
    `log_probs (batch, time', outputs)` float32, zero beyond a length, and `output_lengths`.
    """
    graph = _Graph(tensors)
    lengths = "lengths"
    mask = graph.mask(lengths, "features", time_axis=1)
    x = graph.node("Where", graph.unsqueezed(mask, 2), "features", graph.constant(np.float32(0)))
    x = graph.unsqueezed(graph.node("Transpose", x, perm=[0, 2, 1]), 1)
    for i in range(len(model.conv_channels)):
        x, lengths, mask = _convolution(graph, model, i, x, lengths)
    # Channel by channel, its bands side by side; time first, as ONNX's recurrent operators want.
    x = graph.node("Transpose", x, perm=[3, 0, 1, 2])
    x = graph.node("Reshape", x, graph.constant(np.array([0, 0, -1], np.int64)))
    steps = graph.node("Cast", lengths, to=TensorProto.INT32)
    for i in range(model.layers):
        x = _recurrent(graph, model, f"rnn.{i}", x, steps)
    x = _norm(graph, model, "output", x, -1)
    x = graph.node("MatMul", x, graph.constant(graph.tensors["output.linear.weight"].T))
    x = graph.node("Add", x, graph.constant(graph.tensors["output.linear.bias"]))
    x = graph.node("Transpose", graph.node("LogSoftmax", x, axis=-1), perm=[1, 0, 2])
    zero = graph.constant(np.float32(0))
    graph.node("Where", graph.unsqueezed(mask, 2), x, zero, output="log_probs")
    graph.node("Identity", lengths, output="output_lengths")
    made = helper.make_graph(
        graph.nodes,
        "asr",
        [
            helper.make_tensor_value_info(
                "features", TensorProto.FLOAT, ["batch", "time", model.mels]
            ),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info(
                "log_probs", TensorProto.FLOAT, ["batch", "output_time", model.outputs]
            ),
            helper.make_tensor_value_info("output_lengths", TensorProto.INT64, ["batch"]),
        ],
        graph.initialisers,
    )
    result = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    helper.set_model_props(result, dict(metadata))
    onnx.checker.check_model(result)
    return result


class _Graph:
    """Nodes and constants under numbered names."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.tensors = tensors
        self.nodes: list[Any] = []
        self.initialisers: list[Any] = []

    def constant(self, array: Any) -> str:
        name = f"c{len(self.initialisers)}"
        plain = np.ascontiguousarray(array).reshape(np.shape(array))
        self.initialisers.append(numpy_helper.from_array(plain, name))
        return name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def unsqueezed(self, x: str, *axes: int) -> str:
        return self.node("Unsqueeze", x, self.constant(np.array(axes, np.int64)))

    def mask(self, lengths: str, x: str, time_axis: int) -> str:
        """Which frames of `x` lie inside their utterance: `(batch, time)` bool."""
        shape = self.node("Shape", x)
        frames = self.node("Gather", shape, self.constant(np.int64(time_axis)), axis=0)
        zero, one = self.constant(np.int64(0)), self.constant(np.int64(1))
        time = self.unsqueezed(self.node("Range", zero, frames, one), 0)
        return self.node("Less", time, self.unsqueezed(lengths, 1))


def _convolution(graph: _Graph, model: Model, i: int, x: str, lengths: str) -> tuple[str, str, str]:
    """`x (batch, channels, bands, time)` through a convolution; its output, lengths and mask."""
    name, kernel, strides = f"conv.{i}", model.conv_kernels[i], model.conv_strides[i]
    inputs = [x, graph.constant(graph.tensors[f"{name}.convolution.weight"])]
    if not model.batch_norm:
        inputs.append(graph.constant(graph.tensors[f"{name}.convolution.bias"]))
    pads = [(k - 1) // 2 for k in kernel]
    x = graph.node("Conv", *inputs, kernel_shape=kernel, strides=strides, pads=[*pads, *pads])
    x = _norm(graph, model, name, x, 1)
    zero = graph.constant(np.float32(0))
    x = graph.node("Clip", x, zero, graph.constant(np.float32(CLIP)))
    stride = graph.constant(np.int64(strides[1]))
    rounded = graph.node("Add", lengths, graph.constant(np.int64(strides[1] - 1)))
    lengths = graph.node("Div", rounded, stride)
    mask = graph.mask(lengths, x, time_axis=3)
    return graph.node("Where", graph.unsqueezed(mask, 1, 2), x, zero), lengths, mask


def _norm(graph: _Graph, model: Model, name: str, x: str, axis: int) -> str:
    """The batch norm of a layer as the scale and shift that it is after training."""
    if not model.batch_norm:
        return x
    weight, bias, mean, variance = (
        graph.tensors[f"{name}.norm.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / np.sqrt(variance + NORM_EPSILON)
    shape = (1, -1, 1, 1) if axis == 1 else (-1,)
    for operator, values in (("Mul", scale), ("Add", bias - mean * scale)):
        x = graph.node(operator, x, graph.constant(values.astype(np.float32).reshape(shape)))
    return x


def _recurrent(graph: _Graph, model: Model, name: str, x: str, lengths: str) -> str:
    """`x (time, batch, features)` through a recurrent layer."""
    x = _norm(graph, model, name, x, -1)
    directions = ("forward", "backward") if model.bidirectional else ("forward",)
    cells = [f"{name}.{direction}_cell" for direction in directions]
    weights = [
        graph.constant(np.stack([_gates(graph, model, cell, part) for cell in cells]))
        for part in ("weight_ih", "weight_hh")
    ]
    biases = [
        np.concatenate([_gates(graph, model, cell, part) for part in ("bias_ih", "bias_hh")])
        for cell in cells
    ]
    attributes: dict[str, Any] = {
        "hidden_size": model.hidden,
        "direction": "bidirectional" if model.bidirectional else "forward",
    }
    if model.cell == "gru":
        attributes["linear_before_reset"] = 1
    if model.cell == "rnn_relu":
        attributes["activations"] = ["Relu"] * len(directions)
    bias = graph.constant(np.stack(biases))
    y = graph.node(_OPERATORS[model.cell], x, *weights, bias, lengths, **attributes)
    if model.bidirectional and model.combine == "sum":
        return graph.node("ReduceSum", y, graph.constant(np.array([1], np.int64)), keepdims=0)
    y = graph.node("Transpose", y, perm=[0, 2, 1, 3])
    return graph.node("Reshape", y, graph.constant(np.array([0, 0, -1], np.int64)))


def _gates(graph: _Graph, model: Model, cell: str, part: str) -> Array:
    """A weight or bias of a cell with its gates in ONNX's order."""
    tensor = graph.tensors[f"{cell}.{part}_l0"]
    gates = tensor.reshape(-1, model.hidden, *tensor.shape[1:])
    return gates[list(_GATES[model.cell])].reshape(tensor.shape)
