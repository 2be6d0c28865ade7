"""Group lasso: a penalty that makes whole blocks of a matrix small, before pruning drops them.

The penalty of the block paper (Narang et al. 2017, arXiv 1711.02782): `weight * sum_g ||W_g||_2`,
one group for each block, the same weight all through training. It shrinks blocks towards zero but
gives no exact zeros: those come from pruning in blocks.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.checks import is_number, is_whole
from asr.pruning.patterns import tiles
from asr.pruning.prunable import find, owner


class GroupLasso:
    """`weight * sum ||W_g||_2` over blocks of rows x columns, as gradients or as a number.

    model: its parameters may be moved or replaced later. weight: lambda, above 0; with Adam, which
    divides by the size of gradients, it works more strongly than with SGD. rows, columns: the
    blocks, counted from the first row and column; those at the edges may be smaller, and tensors
    of more than two dimensions are read as (first dimension, the rest), as by `Block`. tensors:
    patterns of names, as in `find`; None takes all. Raises AsrError.
    """

    def __init__(
        self,
        model: nn.Module,
        weight: float,
        rows: int,
        columns: int,
        tensors: Iterable[str] | None = None,
    ) -> None:
        if not (is_number(weight) and weight > 0):
            raise AsrError(f"group lasso: weight={weight!r} must be a number above 0")
        if not (is_whole(rows, 1) and is_whole(columns, 1)):
            raise AsrError(
                f"group lasso: blocks of {rows} x {columns}: whole numbers, at least 1 x 1"
            )
        self.weight = weight
        self.rows = rows
        self.columns = columns
        self._owners = {name: owner(model, name) for name in find(model, tensors)}

    @property
    def names(self) -> list[str]:
        """The tensors, in the model's order."""
        return list(self._owners)

    def penalty(self) -> Tensor:
        """The penalty, a scalar with a gradient (zero for blocks that are zero)."""
        blocks = (self._blocks(weight) for _, weight in self._weights())
        norms = [torch.linalg.vector_norm(b, dim=(1, 3)).sum() for b in blocks]
        return self.weight * torch.stack(norms).sum()

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the penalty's gradients to those of the loss.

        Call it once for each optimiser step: after the last `backward()`, before gradients are
        clipped. It is then what adding the penalty to the loss is, without its graph, and not
        divided by the number of accumulated batches. Parameters without a gradient are left out:
        the optimiser does not move them.
        """
        for _, weight in self._weights():
            if weight.grad is not None:
                weight.grad.add_(self._direction(weight).to(weight.grad.dtype), alpha=self.weight)

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        # Looked up anew, so that a parameter replaced by load_state_dict(assign=True) is found.
        for name, (module, leaf) in self._owners.items():
            yield name, getattr(module, leaf)

    def _blocks(self, weight: Tensor) -> Tensor:
        """The matrix as blocks, zeros at the edges: (blocks down, rows, blocks across, columns)."""
        return tiles(weight.float(), self.rows, self.columns)

    def _direction(self, weight: Tensor) -> Tensor:
        """W_g / ||W_g||_2, in the weight's own shape; zero where a block is zero."""
        blocks = self._blocks(weight)
        norms = torch.linalg.vector_norm(blocks, dim=(1, 3), keepdim=True)
        # A block of zeros divided by anything stays zero; the smallest number only avoids 0 / 0.
        scaled = blocks / norms.clamp_min(torch.finfo(norms.dtype).tiny)
        rows, rest = weight.shape[0], weight[0].numel()
        return scaled.reshape(-1, scaled.shape[2] * self.columns)[:rows, :rest].reshape(
            weight.shape
        )
