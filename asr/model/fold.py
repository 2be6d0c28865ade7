"""Batch norms in evaluation are a scale and a shift: multiplied into the weights beside them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError
from asr.model.dimensions import Model
from asr.sparse.csr import CsrMatrix

EPS = 1e-5
"""Added to the variance, as in `asr.model.torch_layers.MaskedBatchNorm`."""

Affine = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Scale and shift of each feature."""


def norm_of(tensors: Mapping[str, Any], prefix: str, dimensions: Model) -> Affine | None:
    """The batch norm of the layer `prefix`; None for a network that has none."""
    if not dimensions.batch_norm:
        return None
    weight, bias, mean, variance = (
        np.asarray(tensors[f"{prefix}.norm.{name}"], np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    if variance.size and not variance.min() >= 0:
        raise AsrError(f"{prefix}.norm.running_var: a variance below zero; get the file again")
    scale = weight / np.sqrt(variance + EPS)
    return scale, bias - mean * scale


def fold_before(
    rows: CsrMatrix, bias: NDArray[Any], norm: Affine | None
) -> tuple[CsrMatrix, NDArray[np.float32]]:
    """Matrix and bias that do what the norm and then these do; the pattern stays."""
    bias = np.ascontiguousarray(bias, np.float32)
    if norm is None:
        return rows, bias
    scale, shift = norm
    weights = rows.values.astype(np.float64)
    place = np.repeat(np.arange(rows.shape[0]), np.diff(rows.starts))
    shifted = np.bincount(place, weights * shift[rows.columns], rows.shape[0])
    values = (weights * scale[rows.columns]).astype(np.float32)
    return dataclasses.replace(rows, values=values), (bias + shifted).astype(np.float32)


def fold_after(
    weight: NDArray[Any], bias: NDArray[Any], norm: Affine | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernels `(channels, ...)` and bias that do what these and then the norm do."""
    if norm is None:
        return weight.astype(np.float32), bias.astype(np.float32)
    scale, shift = norm
    wide = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return (weight * wide).astype(np.float32), (bias * scale + shift).astype(np.float32)
