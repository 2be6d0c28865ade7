"""Which elements of a tensor stay: boolean masks, True where a weight is kept."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed

from asr.errors import AsrError

MIN_DENSITY = 0.005


class PrunedTooFar(AsrError):
    """An update would leave a tensor nearly empty, or will; nothing was zeroed."""


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
    # Elsewhere torch refuses kthvalue under `use_deterministic_algorithms`, and sorting is fast.
    return scores.sort(descending=True).values[count - 1]


def count_for(
    scores: Tensor, sizes: Tensor | None, sparsity: float, elements: int | None = None
) -> int:
    """How many of the units (n,) stay when the fraction `sparsity` of the elements is dropped.

    sizes: elements of each unit; None: all have equally many, and the number dropped is
    `round(sparsity * n)`, as in `torch.nn.utils.prune`. Otherwise the smallest scores are dropped
    until the elements dropped are as near to the fraction as whole units come. elements: what it
    is a fraction of, if more than the units hold, because some were dropped before.
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
    """Fraction of elements that the mask drops, 0 to 1."""
    return 1.0 - int(keep.count_nonzero()) / keep.numel()


def check_density(
    name: str, keep: Tensor, eps: float | None = None, min_density: float = MIN_DENSITY
) -> None:
    """Raise PrunedTooFar if less than `min_density` of the elements, or none at all, would stay.

    eps: the threshold that made the mask, None if a fraction did.
    """
    at = "" if eps is None else f" at the threshold eps={eps:.6g}"
    remedy = (
        'ask for a lower sparsity, use scope="tensor" if tensors are ranked together'
        if eps is None
        else "usually its q does not belong to this network: calibrate on a trained dense model of "
        "the same dimensions, with a lower percentile, a smaller slope_ratio or an earlier end"
    )
    check_kept(name, keep.shape, int(keep.count_nonzero()), at, remedy, min_density)


def check_kept(
    name: str, shape: torch.Size, kept: int, at: str, remedy: str, min_density: float
) -> None:
    """Raise PrunedTooFar if `kept` weights are none, or fewer than `min_density` of the shape."""
    size = shape.numel()
    if not kept or kept < min_density * size:
        raise PrunedTooFar(
            f"{name} {list(shape)} would be {1 - kept / size:.2%} sparse{at}: {kept} of {size} "
            f"weights left, below min_density={min_density:g}; {remedy}, or leave the tensor out"
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


def check_equal(hash_of: Callable[[], str], device: torch.device) -> None:
    """Compare a hash (hexadecimal) over all ranks of torch.distributed, if that is initialised.

    device: where the weights are, because there the backend of the ranks can gather tensors.
    Raises AsrError, on every rank, that lists which ranks differ.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    world = distributed.get_world_size()
    if world == 1:
        return
    own = torch.tensor(list(bytes.fromhex(hash_of())), dtype=torch.uint8, device=device)
    everyone = [torch.empty_like(own) for _ in range(world)]
    distributed.all_gather(everyone, own)
    hashes = [bytes(h.tolist()).hex() for h in everyone]
    if different := [rank for rank, value in enumerate(hashes) if value != hashes[0]]:
        raise AsrError(
            f"masks of rank {', '.join(map(str, different))} differ from those of rank 0: the "
            "ranks do not train the same weights. Wrap the model in DistributedDataParallel, or "
            "make the Pruner with check_ranks=False if each rank prunes a part of its own"
        )
