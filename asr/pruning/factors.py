"""The masks of a model in training, in the form in which they are multiplied with its weights."""

from collections.abc import Iterator

import torch
from torch import Tensor


class Factors:
    """The mask of each tensor that has lost weights; a tensor without one has lost nothing.

    Stored as 1.0 and 0.0 in the weight's own type, so as large as the weights: multiplying by a
    bool mask takes tens of times as long.
    """

    def __init__(self) -> None:
        self._factors: dict[str, Tensor] = {}
        self._kept: dict[str, int] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._factors

    def __iter__(self) -> Iterator[str]:
        return iter(self._factors)

    def set(self, name: str, weight: Tensor, keep: Tensor) -> None:
        """The mask of this weight is now `keep`, bool of its shape."""
        self._kept[name] = int(keep.count_nonzero())
        if self._kept[name] < keep.numel():
            self._factors[name] = keep.to(weight.device, weight.dtype)
        else:  # all that was dropped has come back
            self._factors.pop(name, None)

    def of(self, name: str, like: Tensor) -> Tensor:
        """1.0 and 0.0 on the device and in the type of `like`, for a tensor that has a mask."""
        factor = self._factors[name]
        if factor.device != like.device:  # the model was moved after the mask was made
            self._factors[name] = factor = factor.to(like.device)
        return factor if factor.dtype == like.dtype else factor.to(like.dtype)

    def keep(self, name: str, weight: Tensor) -> Tensor:
        """The boolean mask of this weight, True where it is kept."""
        if name not in self._factors:
            return torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
        return self.of(name, weight) != 0

    def kept(self, name: str, shape: torch.Size) -> int:
        """How many weights of a tensor of this shape are kept."""
        return self._kept.get(name, shape.numel())
