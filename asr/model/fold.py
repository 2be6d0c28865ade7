"""Batch norms after training are a scale and a shift: multiplied into the weights beside them.

A norm of this network comes after a convolution and before a recurrent or the output layer, so
there are two ways to fold one: `fold_after` for the former, `fold_before` for the latter. The
native network folds layer by layer while it lays them out; packing, the ONNX graph and
benchmarks fold a whole network with `fold_tensors`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError
from asr.model.dimensions import NORM_EPSILON, Model
from asr.sparse.csr import CsrMatrix

Affine = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Scale and shift of each feature."""

Matrix = TypeVar("Matrix", CsrMatrix, NDArray[Any])


def fold_tensors(
    tensors: Mapping[str, NDArray[Any]], dimensions: Model
) -> tuple[dict[str, NDArray[Any]], Model]:
    """Tensors and dimensions of an equal network whose batch norms are folded into its weights.

    `tensors` are dense, by their names in a model file. Weights that are zero stay zero. A tied
    input matrix may be given once, under its first name; it comes back as one array under both.
    Raises AsrError for a variance below zero.
    """
    d, folded = dimensions, dict[str, NDArray[Any]]()
    for i, channels in enumerate(d.conv_channels):
        weight_name, bias_name = f"conv.{i}.convolution.weight", f"conv.{i}.convolution.bias"
        # A convolution before a norm has no bias of its own.
        own = np.zeros(channels, np.float32) if d.batch_norm else tensors[bias_name]
        norm = norm_of(tensors, f"conv.{i}", d)
        folded[weight_name], folded[bias_name] = fold_after(tensors[weight_name], own, norm)
    for i in range(d.layers):
        norm = norm_of(tensors, f"rnn.{i}", d)
        for cell in d.cells(i):
            weight_ih, weight_hh, bias_ih, bias_hh = (
                f"{cell}.{part}_l0" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            first = d.input_matrix(cell)
            matrix, bias = fold_before(tensors[first], tensors[bias_ih], norm)
            folded[weight_ih] = folded.get(first, matrix)
            folded[weight_hh], folded[bias_ih] = tensors[weight_hh], bias
            folded[bias_hh] = tensors[bias_hh]
    weight_name, bias_name = "output.linear.weight", "output.linear.bias"
    norm = norm_of(tensors, "output", d)
    folded[weight_name], folded[bias_name] = fold_before(
        tensors[weight_name], tensors[bias_name], norm
    )
    return folded, dataclasses.replace(d, batch_norm=False)


def norm_of(tensors: Mapping[str, Any], prefix: str, dimensions: Model) -> Affine | None:
    """The batch norm of the layer `prefix`, float64; None for a network that has none.

    Raises AsrError for a variance below zero, which no training writes.
    """
    if not dimensions.batch_norm:
        return None
    weight, bias, mean, variance = (
        np.asarray(tensors[f"{prefix}.norm.{name}"], np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    if variance.size and not variance.min() >= 0:
        raise AsrError(f"{prefix}.norm.running_var: a variance below zero; get the file again")
    scale = weight / np.sqrt(variance + NORM_EPSILON)
    return scale, bias - mean * scale


def fold_before(
    weight: Matrix, bias: NDArray[Any], norm: Affine | None
) -> tuple[Matrix, NDArray[np.float32]]:
    """Matrix `(outputs, inputs)` and bias of a layer that follows the norm: W (s x + t) + b.

    The kept elements stay where they are.
    """
    bias = np.ascontiguousarray(bias, np.float32)
    if norm is None:
        return weight, bias
    scale, shift = norm
    if not isinstance(weight, CsrMatrix):
        wide = weight.astype(np.float64)
        return (wide * scale).astype(np.float32), (bias + wide @ shift).astype(np.float32)
    wide = weight.values.astype(np.float64)
    row = np.repeat(np.arange(weight.shape[0]), np.diff(weight.starts))
    shifted = np.bincount(row, wide * shift[weight.columns], weight.shape[0])
    values = (wide * scale[weight.columns]).astype(np.float32)
    return dataclasses.replace(weight, values=values), (bias + shifted).astype(np.float32)


def fold_after(
    weight: NDArray[Any], bias: NDArray[Any], norm: Affine | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernels `(channels, ...)` and bias of a layer that the norm follows: s (W x + b) + t."""
    if norm is None:
        return weight.astype(np.float32), bias.astype(np.float32)
    scale, shift = norm
    wide = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return (weight * wide).astype(np.float32), (bias * scale + shift).astype(np.float32)
