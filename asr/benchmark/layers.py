"""Weights of recurrent layers, as the dense runtimes of a benchmark take them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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


def layer_of(tensors: Mapping[str, np.ndarray], dimensions: Any, index: int) -> LayerWeights:
    """The weights of one recurrent layer of a network, named as in `DeepSpeech`.

    A matrix that both directions share may be there once, under the name of the first.
    """
    cells = []
    for direction in ("forward", "backward")[: 1 + dimensions.bidirectional]:
        prefix = f"rnn.{index}.{direction}_cell"
        weight_ih = tensors.get(f"{prefix}.weight_ih_l0")
        if weight_ih is None:
            weight_ih = tensors[f"rnn.{index}.forward_cell.weight_ih_l0"]
        rest = (tensors[f"{prefix}.{name}_l0"] for name in ("weight_hh", "bias_ih", "bias_hh"))
        cells.append(CellWeights(weight_ih, *rest))
    return LayerWeights(dimensions.cell, tuple(cells))
