"""A network, or one recurrent layer, as an ONNX graph: made from its tensors without torch.

Batch and time are dynamic. The recurrent layers become ONNX's own GRU, LSTM and RNN operators.
These know lengths: their reverse direction begins at each utterance's end, as ours does. Batch
norms are folded into the weights beside them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from asr.model.dimensions import CLIP, GATES, CellKind, Model
from asr.model.fold import fold_tensors

OPSET = 17
IR_VERSION = 8

# ONNX stacks the gates of a cell in another order than torch.
_GATES: dict[CellKind, tuple[str, ...]] = {
    "gru": ("update", "reset", "new"),
    "lstm": ("input", "output", "forget", "cell"),
    "rnn_tanh": ("state",),
    "rnn_relu": ("state",),
}
_OPERATORS: dict[CellKind, str] = {
    "gru": "GRU",
    "lstm": "LSTM",
    "rnn_tanh": "RNN",
    "rnn_relu": "RNN",
}

Array = NDArray[Any]
CellTensors = Sequence[Array]
"""`weight_ih`, `weight_hh`, `bias_ih`, `bias_hh` of one direction, shapes and gates as in torch."""
Value = tuple[str, Any, list[Any]]
"""Name, type and shape of an input or output."""


def build_network(
    tensors: Mapping[str, Array],
    dimensions: Model,
    metadata: Mapping[str, str] | None = None,
    padded: bool = True,
) -> Any:
    """The ONNX model of a network's dense tensors, by their names in a model file.

    Inputs `features (batch, time, mels)` float32 and `lengths (batch,)` int64 in frames; outputs
    `log_probs (batch, time', outputs)` float32, zero beyond a length, and `output_lengths`.
    `padded=False` is for utterances of one length: without lengths, and without the masks that
    they need.
    """
    tensors, d = fold_tensors(tensors, dimensions)
    graph = _Graph()
    lengths = mask = ""
    x, zero = "features", graph.constant(np.float32(0))
    if padded:
        lengths, mask = "lengths", graph.mask("lengths", x, time_axis=1)
        x = graph.node("Where", graph.unsqueezed(mask, 2), x, zero)
    x = graph.unsqueezed(graph.node("Transpose", x, perm=[0, 2, 1]), 1)
    for i in range(len(d.conv_channels)):
        x = _convolution(graph, tensors, d, i, x)
        if padded:
            lengths = graph.divided(lengths, d.conv_strides[i][1])
            mask = graph.mask(lengths, x, time_axis=3)
            x = graph.node("Where", graph.unsqueezed(mask, 1, 2), x, zero)
    # Channel by channel, its bands side by side; ONNX's recurrent operators take time first.
    x = graph.flattened(graph.node("Transpose", x, perm=[3, 0, 1, 2]))
    steps = graph.node("Cast", lengths, to=TensorProto.INT32) if padded else ""
    for i in range(d.layers):
        y = _recurrent(graph, d.cell, [_cell(tensors, name) for name in d.cells(i)], x, steps)
        if d.combine == "sum" or not d.bidirectional:
            x = graph.node("ReduceSum", y, graph.constant(np.array([1], np.int64)), keepdims=0)
        else:
            x = graph.flattened(graph.node("Transpose", y, perm=[0, 2, 1, 3]))
    x = graph.node("MatMul", x, graph.constant(tensors["output.linear.weight"].T))
    x = graph.node("Add", x, graph.constant(tensors["output.linear.bias"]))
    x = graph.node("Transpose", graph.node("LogSoftmax", x, axis=-1), perm=[1, 0, 2])
    log_probs: Value = ("log_probs", TensorProto.FLOAT, ["batch", "output_time", d.outputs])
    features: Value = ("features", TensorProto.FLOAT, ["batch", "time", d.mels])
    if not padded:
        graph.node("Identity", x, output="log_probs")
        return graph.model([features], [log_probs], metadata)
    graph.node("Where", graph.unsqueezed(mask, 2), x, zero, output="log_probs")
    graph.node("Identity", lengths, output="output_lengths")
    inputs: list[Value] = [features, ("lengths", TensorProto.INT64, ["batch"])]
    outputs: list[Value] = [log_probs, ("output_lengths", TensorProto.INT64, ["batch"])]
    return graph.model(inputs, outputs, metadata)


def build_layer(cell: CellKind, cells: Sequence[CellTensors]) -> Any:
    """The ONNX model of one recurrent layer, the second of two cells running backwards.

    Input `x (time, batch, inputs)`, output `y (time, directions, batch, hidden)`, both float32,
    for utterances of one length.
    """
    graph = _Graph()
    graph.node("Identity", _recurrent(graph, cell, cells, "x"), output="y")
    inputs, hidden = cells[0][0].shape[1], cells[0][1].shape[1]
    return graph.model(
        [("x", TensorProto.FLOAT, ["time", "batch", inputs])],
        [("y", TensorProto.FLOAT, ["time", len(cells), "batch", hidden])],
    )


class _Graph:
    """Nodes and constants under numbered names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        plain = np.ascontiguousarray(array).reshape(np.shape(array))
        self.constants.append(numpy_helper.from_array(plain, name))
        return name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def unsqueezed(self, x: str, *axes: int) -> str:
        return self.node("Unsqueeze", x, self.constant(np.array(axes, np.int64)))

    def flattened(self, x: str) -> str:
        """Dimensions 0 and 1 as they are, all others as one."""
        return self.node("Reshape", x, self.constant(np.array([0, 0, -1], np.int64)))

    def divided(self, lengths: str, stride: int) -> str:
        """Integers divided by `stride`, rounded up."""
        rounded = self.node("Add", lengths, self.constant(np.int64(stride - 1)))
        return self.node("Div", rounded, self.constant(np.int64(stride)))

    def mask(self, lengths: str, x: str, time_axis: int) -> str:
        """Which frames of `x` lie inside their utterance: `(batch, time)` bool."""
        shape = self.node("Shape", x)
        frames = self.node("Gather", shape, self.constant(np.int64(time_axis)), axis=0)
        zero, one = self.constant(np.int64(0)), self.constant(np.int64(1))
        time = self.unsqueezed(self.node("Range", zero, frames, one), 0)
        return self.node("Less", time, self.unsqueezed(lengths, 1))

    def model(
        self,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        metadata: Mapping[str, str] | None = None,
    ) -> Any:
        """The finished model, checked."""
        given, made = (
            [helper.make_tensor_value_info(*value) for value in values]
            for values in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "asr", given, made, self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model)
        return model


def _convolution(
    graph: _Graph, tensors: Mapping[str, Array], dimensions: Model, i: int, x: str
) -> str:
    """`x (batch, channels, bands, time)` through a convolution and its clipped ReLU."""
    kernel, strides = dimensions.conv_kernels[i], dimensions.conv_strides[i]
    weight, bias = (
        graph.constant(tensors[f"conv.{i}.convolution.{part}"]) for part in ("weight", "bias")
    )
    pads = [(k - 1) // 2 for k in kernel]
    x = graph.node(
        "Conv", x, weight, bias, kernel_shape=kernel, strides=strides, pads=[*pads, *pads]
    )
    low, high = (graph.constant(np.float32(bound)) for bound in (0, CLIP))
    return graph.node("Clip", x, low, high)


def _recurrent(
    graph: _Graph, kind: CellKind, cells: Sequence[CellTensors], x: str, lengths: str = ""
) -> str:
    """`x (time, batch, inputs)` to `(time, directions, batch, hidden)`; `lengths` are int32."""
    hidden = cells[0][1].shape[1]
    attributes: dict[str, Any] = {
        "hidden_size": hidden,
        "direction": "bidirectional" if len(cells) == 2 else "forward",
    }
    if kind == "gru":
        attributes["linear_before_reset"] = 1  # torch resets after the product
    if kind == "rnn_relu":
        attributes["activations"] = ["Relu"] * len(cells)
    ordered = [[_reordered(tensor, kind, hidden) for tensor in cell] for cell in cells]
    inputs = [
        np.stack([cell[0] for cell in ordered]),
        np.stack([cell[1] for cell in ordered]),
        np.stack([np.concatenate(cell[2:]) for cell in ordered]),
    ]
    constants = [graph.constant(array) for array in inputs]
    return graph.node(
        _OPERATORS[kind], x, *constants, *([lengths] if lengths else []), **attributes
    )


def _reordered(tensor: Array, kind: CellKind, hidden: int) -> Array:
    """A weight or bias of a cell with its gates in ONNX's order."""
    gates = tensor.reshape(-1, hidden, *tensor.shape[1:])
    return gates[[GATES[kind].index(gate) for gate in _GATES[kind]]].reshape(tensor.shape)


def _cell(tensors: Mapping[str, Array], prefix: str) -> CellTensors:
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [tensors[f"{prefix}.{part}_l0"] for part in parts]
