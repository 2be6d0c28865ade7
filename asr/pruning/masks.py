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


def sparsity(keep: Tensor) -> float:
    """Share of elements that the mask drops, 0 to 1."""
    return 1.0 - int(keep.count_nonzero()) / keep.numel()


def check_density(
    name: str, keep: Tensor, eps: float | None = None, min_density: float = MIN_DENSITY
) -> None:
    """Raise PrunedTooFar if less than `min_density` of the elements, or none at all, would stay."""
    kept = int(keep.count_nonzero())
    if kept and kept >= min_density * keep.numel():
        return
    at = "" if eps is None else f" at the threshold eps={eps:.6g}"
    raise PrunedTooFar(
        f"{name} {list(keep.shape)} would be {sparsity(keep):.2%} sparse{at}: {kept} of "
        f"{keep.numel()} weights left, below min_density={min_density:g}. Usually its q does not "
        "belong to this network: calibrate on a trained dense model of the same dimensions, with "
        "a lower percentile, a smaller ramp ratio or an earlier end; or leave the tensor out"
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
