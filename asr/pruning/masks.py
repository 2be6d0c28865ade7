"""Which elements of a tensor stay: boolean masks, True where a weight is kept."""

import torch
from torch import Tensor

from asr.errors import AsrError

MIN_DENSITY = 0.005


class PrunedTooFar(AsrError):
    """An update would leave a tensor nearly empty; nothing was zeroed."""


def keep_at_or_above(weight: Tensor, eps: float, previous: Tensor | None = None) -> Tensor:
    """Keep |w| >= eps, compared in float32; never again what `previous` had dropped.

    Algorithm 1 prints the mask the other way round (`abs(param) < eps`), a slip of notation.
    With `previous` the mask can only lose elements: the paper's exact, monotone mode.
    """
    keep = weight.detach().float().abs() >= eps
    return keep if previous is None else keep & previous


def from_zeros(weight: Tensor) -> Tensor:
    """Keep what is not exactly zero."""
    return weight.detach() != 0


def keep_largest(scores: Tensor, count: int) -> Tensor:
    """Keep exactly `count` of the scores (n,), the largest; of equal ones those of lower index."""
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    limit = nth_largest(scores, count)
    keep = scores >= limit
    too_many = int(keep.count_nonzero()) - count
    if too_many:
        ties = (scores == limit).nonzero().flatten()
        keep[ties[len(ties) - too_many :]] = False
    return keep


def nth_largest(scores: Tensor, count: int) -> Tensor:
    """The smallest of the `count` largest scores (n,): a scalar on their device."""
    if scores.device.type == "cpu":
        return scores.kthvalue(scores.numel() - count + 1).values
    # Elsewhere torch refuses kthvalue under `use_deterministic_algorithms`, and sorting is quick.
    return scores.sort(descending=True).values[count - 1]


def count_for(
    scores: Tensor, sizes: Tensor | None, sparsity: float, elements: int | None = None
) -> int:
    """How many of the units (n,) stay when this share of elements is dropped.

    sizes: elements of each unit; None: all have as many, and the number dropped is
    `round(sparsity * n)`, as in `torch.nn.utils.prune`. Otherwise the smallest scores are dropped
    until the elements dropped are as near to the share as whole units come. elements: what the
    share is of, if more than the units hold, because some were dropped before.
    """
    n = scores.numel()
    if sizes is None:
        return n - round(sparsity * n)
    order = scores.argsort(descending=True, stable=True).flip(0).to(sizes.device)
    total = int(sizes.sum())
    elements = total if elements is None else elements
    dropped = torch.cat([sizes.new_zeros(1), sizes[order].cumsum(0)]) + (elements - total)
    return n - int((dropped - sparsity * float(elements)).abs().argmin())


def sparsity(keep: Tensor) -> float:
    """Share of elements that the mask drops, 0 to 1."""
    return 1.0 - int(keep.count_nonzero()) / keep.numel()


def check_density(
    name: str, keep: Tensor, eps: float | None = None, min_density: float = MIN_DENSITY
) -> None:
    """Raise PrunedTooFar if less than `min_density` of the elements, or none at all, would stay.

    eps: the threshold that made the mask, None if a share did.
    """
    kept = int(keep.count_nonzero())
    if kept and kept >= min_density * keep.numel():
        return
    at = "" if eps is None else f" at the threshold eps={eps:.6g}"
    remedy = (
        "Ask for a lower sparsity, give its rule a floor (the share every tensor keeps), or leave "
        "the tensor out"
        if eps is None
        else "Usually its q does not belong to this network: calibrate on a trained dense model of "
        "the same dimensions, with a lower percentile, a smaller ramp ratio or an earlier end; or "
        "leave the tensor out"
    )
    raise PrunedTooFar(
        f"{name} {list(keep.shape)} would be {sparsity(keep):.2%} sparse{at}: {kept} of "
        f"{keep.numel()} weights left, below min_density={min_density:g}. {remedy}"
    )


def pack(keep: Tensor) -> Tensor:
    """The mask as bits, eight to a byte, row-major, lowest bit first: uint8 (ceil(n / 8),), CPU."""
    bits = keep.detach().to("cpu", torch.uint8).flatten()
    bits = torch.nn.functional.pad(bits, (0, -bits.numel() % 8)).view(-1, 8)
    packed = torch.zeros(bits.shape[0], dtype=torch.uint8)
    for position in range(8):
        packed |= bits[:, position] << position
    return packed


def unpack(packed: Tensor, shape: torch.Size | tuple[int, ...] | list[int]) -> Tensor:
    """The mask of this shape that `pack` made bits of. Raises AsrError if their number differs."""
    size = torch.Size(shape)
    if packed.dtype != torch.uint8 or packed.shape != (-(-size.numel() // 8),):
        raise AsrError(
            f"mask of shape {list(size)} needs {-(-size.numel() // 8)} bytes of uint8, found "
            f"{list(packed.shape)} of {packed.dtype}: the checkpoint is damaged"
        )
    bits = torch.stack([(packed >> position) & 1 for position in range(8)], dim=1)
    return bits.flatten()[: size.numel()].view(size).bool()
