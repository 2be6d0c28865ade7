"""A network with its batch norms multiplied into the weights, as the dense runtimes take it."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from asr.model.dimensions import Model
from asr.model.fold import fold_after, fold_before, norm_of
from asr.sparse.csr import Rows, from_dense


def folded(
    tensors: Mapping[str, Rows | np.ndarray], dimensions: Model
) -> tuple[dict[str, np.ndarray], Model]:
    """An equal network, all tensors dense, with its batch norms multiplied into the weights."""

    def array(name: str) -> np.ndarray:
        tensor = tensors[name]
        return tensor.to_dense() if isinstance(tensor, Rows) else np.asarray(tensor)

    d, made = dimensions, dict[str, np.ndarray]()
    for i, channels in enumerate(d.conv_channels):
        name = f"conv.{i}.convolution"
        bias = np.zeros(channels, np.float32) if d.batch_norm else array(f"{name}.bias")
        weight, bias = fold_after(array(f"{name}.weight"), bias, norm_of(tensors, f"conv.{i}", d))
        made |= {f"{name}.weight": weight, f"{name}.bias": bias}

    def fold(matrix: str, bias: str, layer: str, stored: str = "") -> None:
        rows, made[bias] = fold_before(
            from_dense(array(stored or matrix), "element"), array(bias), norm_of(tensors, layer, d)
        )
        made[matrix] = rows.to_dense()

    for i in range(d.layers):
        for direction in ("forward", "backward")[: 1 + d.bidirectional]:
            cell = f"rnn.{i}.{direction}_cell"
            matrix, first = (f"{c}.weight_ih_l0" for c in (cell, f"rnn.{i}.forward_cell"))
            # A file may hold a tied matrix once, under its first name.
            stored = first if d.shared_input else matrix
            fold(matrix, f"{cell}.bias_ih_l0", f"rnn.{i}", stored)
            made |= {f"{cell}.{n}_l0": array(f"{cell}.{n}_l0") for n in ("weight_hh", "bias_hh")}
    fold("output.linear.weight", "output.linear.bias", "output")
    return made, dataclasses.replace(d, batch_norm=False)
