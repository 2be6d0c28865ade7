"""Names and shapes of a network's tensors from its dimensions alone; no torch.

What builds a network from a file, with torch or without, compares the file with these first: the
dimensions are a stranger's numbers.
"""

from collections.abc import Mapping
from typing import Any

from asr.errors import AsrError
from asr.model.dimensions import Cell, Model

GATES: dict[Cell, int] = {"gru": 3, "lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}
"""Matrices of `hidden` rows that torch stacks in one weight of each cell."""

Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(dimensions: Model) -> Shapes:
    """Names and shapes of the trainable parameters, without building the network.

    In the order of `named_parameters()`; a tied matrix appears once, under `forward_cell`.
    """
    d, shapes = dimensions, Shapes()

    def norm(prefix: str, features: int) -> None:
        if d.batch_norm:
            shapes[f"{prefix}.norm.weight"] = shapes[f"{prefix}.norm.bias"] = (features,)

    channels_in = 1
    for i, (channels, kernel) in enumerate(zip(d.conv_channels, d.conv_kernels, strict=True)):
        shapes[f"conv.{i}.convolution.weight"] = (channels, channels_in, kernel[0], kernel[1])
        if not d.batch_norm:
            shapes[f"conv.{i}.convolution.bias"] = (channels,)
        norm(f"conv.{i}", channels)
        channels_in = channels
    inputs, rows = d.conv_features, GATES[d.cell] * d.hidden
    for i in range(d.layers):
        norm(f"rnn.{i}", inputs)
        for direction in ("forward", "backward")[: 1 + d.bidirectional]:
            cell = f"rnn.{i}.{direction}_cell"
            if direction == "forward" or not d.shared_input:
                shapes[f"{cell}.weight_ih_l0"] = (rows, inputs)
            shapes[f"{cell}.weight_hh_l0"] = (rows, d.hidden)
            shapes[f"{cell}.bias_ih_l0"] = shapes[f"{cell}.bias_hh_l0"] = (rows,)
        inputs = d.layer_outputs
    norm("output", inputs)
    shapes["output.linear.weight"] = (d.outputs, inputs)
    shapes["output.linear.bias"] = (d.outputs,)
    return shapes


def statistics_shapes(dimensions: Model) -> Shapes:
    """Names and shapes of what the batch norms measured in training."""
    shapes = Shapes()
    for name, shape in parameter_shapes(dimensions).items():
        if name.endswith(".norm.weight"):
            prefix = name.removesuffix("weight")
            shapes[f"{prefix}running_mean"] = shapes[f"{prefix}running_var"] = shape
    return shapes


def compare(name: str, found: Any, expected: Any) -> None:
    """Raise AsrError unless what a file holds, shape and type, is what its dimensions ask for."""
    if found != expected:
        found, expected = (f"{v[1]} {v[0]}" if v else "nothing" for v in (found, expected))
        raise AsrError(
            f"its weights do not fit its dimensions: {name!r} is {found}, needed is {expected}; "
            "get the file again, or save it again with this version of asr"
        )


def check_layers(dimensions: Model, tensors: Mapping[str, Any]) -> None:
    """Raise AsrError for dimensions with more layers than there are tensors.

    Before anything else: to list the shapes of a billion layers is a harm of its own.
    """
    if dimensions.layers > len(tensors):
        raise AsrError(f"its dimensions claim {dimensions.layers} layers; get the file again")
