"""Sparse recurrent layers on our kernels, in the variants that benchmarks compare."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from asr.benchmark.compare import instruction_set
from asr.sparse.csr import Pattern, from_dense
from asr.sparse.kernels import KERNELS, Cell, Matrix, Recurrent, Values, library
from asr.sparse.kernels import prepare as prepare_matrix
from lib.layers import LayerWeights
from lib.weights import sparsity_of


@dataclass(frozen=True)
class Variant:
    """A pattern of zeros, and how the non-zero weights are stored."""

    name: str
    pattern: Pattern
    values: Values = "auto"
    exact: bool = False
    kernel: str | None = None


MAIN = (
    Variant("element", "element"),
    Variant("bank", "bank"),
    Variant("block", "block"),
)
"""The recommended kernel for each pattern."""
OTHERS = (
    Variant("element, exact", "element", exact=True),
    Variant("bank, exact", "bank", exact=True),
    Variant("block, int8", "block", values="int8"),
    Variant("element, plain CSR", "element", kernel="csr"),
)


@dataclass(frozen=True)
class SparseLayer:
    """A layer that is ready to run, with its description for a record."""

    layer: Recurrent
    variant: Variant
    sparsity: float

    def describe(self) -> dict[str, Any]:
        """Kernel, instruction set, sparsity, and bytes per non-zero weight."""
        matrices = self._matrices()
        kept = sum(m.nnz for m in matrices)
        return {
            "pattern": self.variant.pattern,
            "kernel": ", ".join(sorted({m.kernel for m in matrices})),
            "level": instruction_set(),
            "sparsity": self.sparsity,
            "kept": kept,
            "bytes_per_kept": sum(m.bytes for m in matrices) / max(kept, 1),
        }

    def _matrices(self) -> list[Matrix]:
        return [m for c in self.layer.cells for m in (c.weight_ih, c.weight_hh)]


def sparse_layer(weights: LayerWeights, variant: Variant) -> SparseLayer:
    """Prepare a layer of pruned weights; the second of two directions runs backwards."""

    def matrix(array: np.ndarray) -> Matrix:
        # The pattern is known here; from_dense finds blocks only where they clearly pay.
        rows = replace(from_dense(array, "element"), pattern=variant.pattern)
        return prepare_matrix(rows, variant.values, variant.exact, kernel=variant.kernel)

    cells = [
        Cell(
            weights.cell,
            matrix(c.weight_ih),
            matrix(c.weight_hh),
            c.bias_ih,
            c.bias_hh,
            reverse=index == 1,
        )
        for index, c in enumerate(weights.cells)
    ]
    matrices = [m for c in weights.cells for m in (c.weight_ih, c.weight_hh)]
    return SparseLayer(Recurrent(cells), variant, sparsity_of(matrices))


def runs_here(variant: Variant) -> bool:
    """Whether the C library has the kernel and this processor can run it."""
    if library() is None:
        return False
    return variant.kernel is None or bool(KERNELS[variant.kernel].levels)
