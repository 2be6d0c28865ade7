"""Weights of recurrent layers to measure with: random ones, pruned in each of the three patterns.

Magnitude pruning of independent Gaussian weights keeps positions that are uniformly random, with
the values that pruning leaves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import AsrError
from asr.model.dimensions import Model
from asr.sparse.csr import BANK, BLOCK, Pattern
from asr.sparse.kernels import GATES, CellKind


@dataclass(frozen=True)
class CellWeights:
    """One direction, in torch's layout and order of gates."""

    weight_ih: np.ndarray
    """`(gates * hidden, inputs)`."""
    weight_hh: np.ndarray
    """`(gates * hidden, hidden)`."""
    bias_ih: np.ndarray
    bias_hh: np.ndarray


@dataclass(frozen=True)
class LayerWeights:
    """One recurrent layer; the second of two cells runs backwards."""

    cell: CellKind
    cells: tuple[CellWeights, ...]

    @property
    def hidden(self) -> int:
        return int(self.cells[0].weight_hh.shape[1])

    @property
    def inputs(self) -> int:
        return int(self.cells[0].weight_ih.shape[1])

    def tensors(self) -> list[tuple[np.ndarray, ...]]:
        """Both matrices and both biases of each cell."""
        return [(c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh) for c in self.cells]


def layer_of(tensors: Mapping[str, np.ndarray], dimensions: Model, index: int) -> LayerWeights:
    """The weights of one recurrent layer of a network; a tied matrix may be given once."""
    cells = []
    for cell in dimensions.cells(index):
        rest = (tensors[f"{cell}.{name}_l0"] for name in ("weight_hh", "bias_ih", "bias_hh"))
        cells.append(CellWeights(tensors[dimensions.input_matrix(cell)], *rest))
    return LayerWeights(dimensions.cell, tuple(cells))


def random_layer(
    cell: CellKind, inputs: int, hidden: int, directions: int = 2, seed: int = 1
) -> LayerWeights:
    """A dense layer whose rows have length 1 (0.5 of `rnn_relu`, whose state must not grow)."""
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
    """The same layer with zeros in both matrices of each cell, rows brought back to length."""
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
    """Which elements a pattern keeps at about this sparsity: the largest, as a bool matrix.

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


def sparsity_of(matrices: Sequence[np.ndarray]) -> float:
    """Zeros over elements of all of them."""
    return 1 - sum(map(np.count_nonzero, matrices)) / sum(m.size for m in matrices)


def _largest(scores: np.ndarray, share: float) -> np.ndarray:
    count = max(1, round(share * scores.size))
    threshold = np.partition(scores, scores.size - count, axis=None)[scores.size - count]
    return scores >= threshold


def _unit_rows(matrix: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.maximum(length, 1e-6)).astype(np.float32)
