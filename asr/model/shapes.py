"""Names and shapes of a network's tensors from its dimensions alone; no torch.

Whoever builds a network from a file, with torch or without, compares the file with these first: a
file may come from a stranger, and its dimensions decide how much memory is taken.
"""

import math
from collections.abc import Mapping
from typing import Any

from asr.errors import AsrError
from asr.model.dimensions import GATES, Model
from asr.sparse.csr import CsrMatrix

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
    inputs, rows = d.conv_features, len(GATES[d.cell]) * d.hidden
    for i in range(d.layers):
        norm(f"rnn.{i}", inputs)
        for cell in d.cells(i):
            shapes[d.input_matrix(cell)] = (rows, inputs)
            shapes[f"{cell}.weight_hh_l0"] = (rows, d.hidden)
            shapes[f"{cell}.bias_ih_l0"] = shapes[f"{cell}.bias_hh_l0"] = (rows,)
        inputs = d.layer_outputs
    norm("output", inputs)
    shapes["output.linear.weight"] = (d.outputs, inputs)
    shapes["output.linear.bias"] = (d.outputs,)
    return shapes


def count_parameters(dimensions: Model) -> int:
    """Trainable parameters of a network of these dimensions; a tied matrix counts once."""
    return sum(math.prod(shape) for shape in parameter_shapes(dimensions).values())


def statistics_shapes(dimensions: Model) -> Shapes:
    """Names and shapes of the running means and variances of the batch norms."""
    shapes = Shapes()
    for name, shape in parameter_shapes(dimensions).items():
        if name.endswith(".norm.weight"):
            prefix = name.removesuffix("weight")
            shapes[f"{prefix}running_mean"] = shapes[f"{prefix}running_var"] = shape
    return shapes


def check_shapes(tensors: Mapping[str, Any], dimensions: Model) -> None:
    """Raise AsrError unless there is each tensor of the dimensions, in its shape, and no other.

    Tensors are numpy arrays or `CsrMatrix`. A tied matrix may be there once, under its first name.
    """
    check_layers(dimensions, tensors)
    expected = parameter_shapes(dimensions) | statistics_shapes(dimensions)
    for name in [*expected, *(name for name in tensors if name not in expected)]:
        tensor = tensors.get(name)
        if name.endswith(".num_batches_tracked") and dimensions.batch_norm:
            continue
        tied = dimensions.shared_input and name.endswith("backward_cell.weight_ih_l0")
        shape = expected.get(name.replace("backward", "forward") if tied else name)
        kind = "float32" if tensor is None or isinstance(tensor, CsrMatrix) else tensor.dtype.name
        found = None if tensor is None else (tuple(tensor.shape), kind)
        check_tensor(name, found, None if shape is None else (shape, "float32"))


def check_tensor(name: str, found: Any, expected: Any) -> None:
    """Raise AsrError unless a tensor of a file, `(shape, type)`, is what its dimensions ask for."""
    if found != expected:
        found, expected = (f"{v[1]} {v[0]}" if v else "nothing" for v in (found, expected))
        raise AsrError(
            f"its weights do not fit its dimensions: {name!r} is {found}, needed is {expected}; "
            "get the file again, or save it again with this version of asr"
        )


def check_layers(dimensions: Model, tensors: Mapping[str, Any]) -> None:
    """Raise AsrError for dimensions with more layers than there are tensors.

    Called before `parameter_shapes`, which would list the shapes of a billion layers.
    """
    if dimensions.layers > len(tensors):
        raise AsrError(f"its dimensions claim {dimensions.layers} layers; get the file again")
