"""Weights of recurrent layers, as the dense runtimes of a benchmark take them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from asr.model.dimensions import Model
from asr.sparse.kernels import CellKind


@dataclass(frozen=True)
class CellWeights:
    """One direction, in torch's layout and order of gates."""

    weight_ih: np.ndarray
    """`(gates * hidden, inputs)`."""
    weight_hh: np.ndarray
    """`(gates * hidden, hidden)`."""
    bias_ih: np.ndarray
    """`(gates * hidden,)`."""
    bias_hh: np.ndarray
    """`(gates * hidden,)`."""


@dataclass(frozen=True)
class LayerWeights:
    """One recurrent layer; the second of two cells runs backwards."""

    cell: CellKind
    cells: tuple[CellWeights, ...]

    @property
    def hidden(self) -> int:
        """Hidden units of one direction."""
        return int(self.cells[0].weight_hh.shape[1])

    @property
    def inputs(self) -> int:
        """Features that go into the layer."""
        return int(self.cells[0].weight_ih.shape[1])

    def tensors(self) -> list[tuple[np.ndarray, ...]]:
        """Both matrices and both biases of each cell."""
        return [(c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh) for c in self.cells]


def layer_of(tensors: Mapping[str, np.ndarray], dimensions: Model, index: int) -> LayerWeights:
    """The weights of one recurrent layer of a network, named as in `DeepSpeech`.

    A matrix that both directions share may be there once, under the name of the first.
    """
    cells = []
    for cell in dimensions.cells(index):
        rest = (tensors[f"{cell}.{name}_l0"] for name in ("weight_hh", "bias_ih", "bias_hh"))
        cells.append(CellWeights(tensors[dimensions.input_matrix(cell)], *rest))
    return LayerWeights(dimensions.cell, tuple(cells))
