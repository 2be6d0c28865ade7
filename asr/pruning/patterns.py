"""Which weights are kept or dropped together: single elements, blocks, or equal counts in banks.

A pattern is data: it turns the scores of a tensor into scores of its units, and the units that are
kept into a mask. Tensors of more than two dimensions are read as (first dimension, the rest).
Half of the weights (#) of a 4 x 8 matrix kept in each pattern:

    Element()          Block(2, 2)        Bank(4)
    # . . # # . # .    # # . . # # . .    # . . # | # . # .
    . . # . . # . .    # # . . # # . .    . # # . | . # . #
    # # # . # . . #    . . # # # # . .    # # . . | # . . #
    . # . # . . # #    . . # # # # . .    . # . # | . . # #

Elements may crowd anywhere, which costs the fewest errors; blocks store one index for many weights;
banks give every row the same work, which a kernel can count on.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from asr.errors import AsrError
from asr.pruning.checks import is_whole

_NEVER = float("-inf")


class Pattern(ABC):
    """A way to divide a tensor into units that are kept or dropped whole."""

    name: ClassVar[str]
    """Name in settings, checkpoints and records."""

    @abstractmethod
    def units(self, scores: Tensor, alive: Tensor | None = None) -> Tensor:
        """Score of each unit (units,) from those of the elements; -inf where nothing is alive.

        scores: float, the tensor's own shape. alive: elements that are not dropped for good.
        """

    @abstractmethod
    def sizes(self, shape: torch.Size) -> Tensor | None:
        """Elements of each unit, int64 (units,), CPU; None if all have equally many."""

    @abstractmethod
    def expand(self, keep: Tensor, shape: torch.Size) -> Tensor:
        """The mask of this shape that keeps just these units (bool, (units,))."""

    @property
    def scale(self) -> float:
        """What a threshold for single weights is multiplied with for units of this pattern."""
        return 1.0

    def to_plain(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Element(Pattern):
    """Every weight by itself, as in the paper."""

    name: ClassVar[str] = "element"

    def units(self, scores: Tensor, alive: Tensor | None = None) -> Tensor:
        """The elements, row by row."""
        return (scores if alive is None else scores.masked_fill(~alive, _NEVER)).flatten()

    def sizes(self, shape: torch.Size) -> Tensor | None:
        """All units are of size 1."""
        return None

    def expand(self, keep: Tensor, shape: torch.Size) -> Tensor:
        """The same in the tensor's shape."""
        return keep.view(shape)


@dataclass(frozen=True)
class Block(Pattern):
    """Tiles of rows x columns (arXiv 1711.02782), counted from the first row and column.

    Tiles at the last row and column may be smaller. Under a threshold schedule the threshold of
    single weights is multiplied by the fourth root of rows * columns, as there, because the
    largest of a block grows with its size. It also varies little from block to block, so that a
    rising threshold drops most of them in its last third; a schedule of sparsities spreads them
    evenly. Raises AsrError for sizes below 1.
    """

    name: ClassVar[str] = "block"

    rows: int
    columns: int
    score: Literal["max", "l2"] = "max"
    """A block's score: its largest element, or the root of the sum of its squares."""

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            value = getattr(self, name)
            if not is_whole(value, 1):
                raise AsrError(f"Block: {name}={value!r}: a whole number, at least 1")
        if self.score not in ("max", "l2"):
            raise AsrError(f'Block: score={self.score!r}: "max" or "l2"')

    @property
    def scale(self) -> float:
        """(rows * columns) ** (1/4)."""
        return float(self.rows * self.columns) ** 0.25

    def units(self, scores: Tensor, alive: Tensor | None = None) -> Tensor:
        """Largest score of each block, or root of the sum of squares, over what is alive."""
        nothing = _NEVER if self.score == "max" else 0.0
        if alive is not None:
            scores = scores.masked_fill(~alive, nothing)
        blocks = self._tiles(scores, nothing)
        if self.score == "max":
            return blocks.amax(dim=(1, 3)).flatten()
        norms = blocks.square().sum(dim=(1, 3)).sqrt().flatten()
        if alive is None:
            return norms
        empty = self._tiles(alive.to(scores.dtype), 0.0).amax(dim=(1, 3)).flatten() == 0
        return norms.masked_fill(empty, _NEVER)

    def sizes(self, shape: torch.Size) -> Tensor | None:
        """Elements of each block, or None if no block is cropped at an edge."""
        rows, columns = shape[0], shape[1:].numel()
        if rows % self.rows == 0 and columns % self.columns == 0:
            return None
        down = _lengths(rows, self.rows)
        across = _lengths(columns, self.columns)
        return (down[:, None] * across).flatten()

    def expand(self, keep: Tensor, shape: torch.Size) -> Tensor:
        """The choice for a block, repeated for each of its elements."""
        rows, columns = shape[0], shape[1:].numel()
        blocks = keep.view(-(-rows // self.rows), 1, -(-columns // self.columns), 1)
        whole = blocks.expand(-1, self.rows, -1, self.columns).reshape(
            blocks.shape[0] * self.rows, blocks.shape[2] * self.columns
        )
        return whole[:rows, :columns].reshape(shape)

    def count(self, mask: Tensor) -> Tensor:
        """Elements of each block that the mask keeps, int64 (blocks,)."""
        return self._tiles(mask.to(torch.int64), 0).sum(dim=(1, 3)).flatten()

    def _tiles(self, matrix: Tensor, filling: float) -> Tensor:
        return tiles(matrix, self.rows, self.columns, filling)


@dataclass(frozen=True)
class Bank(Element):
    """Single weights, equally many in every bank of `columns` columns of every row.

    (Cao et al. 2019.) The fraction kept is rounded to the nearest count of a bank: 3 of 32 for a
    sparsity of 0.9. A shorter bank at the end of the rows keeps proportionally many, but at least
    one: with none in any row, the layer's last inputs would be cut off. Needs a schedule of
    sparsities. Raises AsrError for fewer than 2 columns.
    """

    name: ClassVar[str] = "bank"

    columns: int = 32

    def __post_init__(self) -> None:
        if not is_whole(self.columns, 2):
            raise AsrError(f"Bank: columns={self.columns!r}: a whole number, at least 2")

    def count(self, sparsity: float, width: int | None = None) -> int:
        """Weights that a bank keeps; width: columns of a shorter bank at the end."""
        whole = int((1 - sparsity) * self.columns + 0.5)
        if width is None:
            return whole
        return max(min(whole, 1), int(whole * width / self.columns + 0.5))

    def counts(self, mask: Tensor) -> Tensor:
        """Weights that the mask keeps in each bank, int64 (rows, banks)."""
        matrix = _matrix(mask)
        padded = functional.pad(matrix.to(torch.int64), (0, -matrix.shape[1] % self.columns))
        return padded.unflatten(1, (-1, self.columns)).sum(dim=2)

    def keep(self, scores: Tensor, sparsity: float) -> Tensor:
        """The mask that keeps the largest of every bank; of equal ones those of lower column.

        scores: float, any shape; -inf marks elements that may not be kept.
        """
        matrix = _matrix(scores)
        whole = matrix.shape[1] // self.columns * self.columns
        parts = []
        if whole:
            banks = matrix[:, :whole].unflatten(1, (-1, self.columns))
            parts.append(_largest(banks, self.count(sparsity)).flatten(1))
        if rest := matrix.shape[1] - whole:
            parts.append(_largest(matrix[:, whole:], self.count(sparsity, rest)))
        return (torch.cat(parts, dim=1) & (matrix > _NEVER)).view(scores.shape)


def pattern_from_plain(plain: dict[str, Any]) -> Pattern:
    """The pattern that `Pattern.to_plain` described. Raises AsrError for an unknown name."""
    patterns: dict[str, type[Pattern]] = {p.name: p for p in (Element, Block, Bank)}
    values = dict(plain)
    name = values.pop("name", None)
    if name not in patterns:
        raise AsrError(f"unknown pruning pattern {name!r}; there are {', '.join(patterns)}")
    try:
        return patterns[name](**values)
    except TypeError as error:
        raise AsrError(f"pruning pattern {name}: {error}") from None


def tiles(tensor: Tensor, rows: int, columns: int, filling: float = 0.0) -> Tensor:
    """A tensor as blocks: (blocks down, rows, blocks across, columns), filled up at its edges."""
    matrix = _matrix(tensor)
    missing = (0, -matrix.shape[1] % columns, 0, -matrix.shape[0] % rows)
    if any(missing):
        matrix = functional.pad(matrix, missing, value=filling)
    return matrix.view(matrix.shape[0] // rows, rows, matrix.shape[1] // columns, columns)


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.reshape(tensor.shape[0], -1)


def _lengths(total: int, length: int) -> Tensor:
    """Lengths of the parts that `total` is divided into, the last one maybe shorter."""
    starts = torch.arange(0, total, length)
    return (total - starts).clamp(max=length)


def _largest(scores: Tensor, count: int) -> Tensor:
    """The `count` largest along the last dimension; ties to the lower index."""
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    limit = scores.topk(count, dim=-1).values[..., -1:]
    above, ties = scores > limit, scores == limit
    open_places = count - above.sum(dim=-1, keepdim=True)
    return above | (ties & (ties.cumsum(dim=-1) <= open_places))
