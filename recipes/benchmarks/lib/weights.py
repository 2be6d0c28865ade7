"""Random weights for measurements, pruned by magnitude in each of the three patterns.

The weights are independent and Gaussian, so the positions that remain are uniformly random, and
their values are distributed as pruning leaves them.
"""

import math
from collections.abc import Sequence

import numpy as np

from asr.errors import AsrError
from asr.model.dimensions import Model
from asr.sparse.csr import BANK, BLOCK, Pattern
from asr.sparse.kernels import GATES, CellKind
from lib.layers import CellWeights, LayerWeights


def random_layer(
    cell: CellKind, inputs: int, hidden: int, directions: int = 2, seed: int = 1
) -> LayerWeights:
    """A dense layer with rows of length 1 (0.5 for `rnn_relu`, whose state must not grow)."""
    generator = np.random.default_rng(seed)
    rows, gain = GATES[cell] * hidden, 0.5 if cell == "rnn_relu" else 1.0

    def matrix(columns: int) -> np.ndarray:
        return gain * _unit_rows(generator.standard_normal((rows, columns), np.float32))

    def bias() -> np.ndarray:
        return 0.1 * generator.standard_normal(rows, np.float32)

    return LayerWeights(
        cell,
        tuple(
            CellWeights(matrix(inputs), matrix(hidden), bias(), bias()) for _ in range(directions)
        ),
    )


def prune_layer(layer: LayerWeights, pattern: Pattern, sparsity: float) -> LayerWeights:
    """The layer with both matrices of each cell pruned; rows are scaled to their old length."""
    gain = 0.5 if layer.cell == "rnn_relu" else 1.0

    def zeroed(matrix: np.ndarray) -> np.ndarray:
        return gain * _unit_rows(matrix * keep(matrix, pattern, sparsity))

    return LayerWeights(
        layer.cell,
        tuple(
            CellWeights(zeroed(c.weight_ih), zeroed(c.weight_hh), c.bias_ih, c.bias_hh)
            for c in layer.cells
        ),
    )


def keep(matrix: np.ndarray, pattern: Pattern, sparsity: float) -> np.ndarray:
    """Bool matrix of the elements that a pattern keeps at about this sparsity: the largest ones.

    `bank` keeps the same whole number in each bank of `BANK` columns, so that the sparsity is
    rounded to 32nds. Raises AsrError for a sparsity outside 0 to 1.
    """
    if not 0 <= sparsity < 1:
        raise AsrError(f"sparsity={sparsity}: from 0 to below 1")
    rows, columns = matrix.shape
    if pattern == "element":
        return _largest(np.abs(matrix), 1 - sparsity)
    if pattern == "block":
        padded = np.pad(matrix, ((0, -rows % BLOCK), (0, 0)))
        norms = np.square(padded.reshape(-1, BLOCK, columns)).sum(axis=1)
        return np.repeat(_largest(norms, 1 - sparsity), BLOCK, axis=0)[:rows]
    kept = np.zeros(matrix.shape, bool)
    for start in range(0, columns, BANK):
        bank = np.abs(matrix[:, start : start + BANK])
        count = max(1, round((1 - sparsity) * bank.shape[1]))
        chosen = np.argpartition(-bank, count - 1, axis=1)[:, :count]
        np.put_along_axis(kept[:, start : start + BANK], chosen, True, axis=1)
    return kept


def random_tensors(
    dimensions: Model, pattern: Pattern | None = None, sparsity: float = 0.0
) -> dict[str, np.ndarray]:
    """Weights of an untrained network without batch norm, with pruned recurrent matrices.

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


def sparsity_of(matrices: Sequence[np.ndarray]) -> float:
    """Zeros over elements of all matrices together."""
    return 1 - sum(map(np.count_nonzero, matrices)) / sum(m.size for m in matrices)


def _largest(scores: np.ndarray, fraction: float) -> np.ndarray:
    count = max(1, round(fraction * scores.size))
    threshold = np.partition(scores, scores.size - count, axis=None)[scores.size - count]
    return scores >= threshold


def _unit_rows(matrix: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.maximum(length, 1e-6)).astype(np.float32)
