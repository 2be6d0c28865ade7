"""The paper's q: how large the weights of a trained dense network are, tensor by tensor.

"Sort by absolute value, q is the value at the 90th percentile" of an earlier dense model.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.prunable import group_of_shape


def calibrate(
    dense: nn.Module | Mapping[str, Tensor],
    tensors: Mapping[str, Tensor] | Iterable[str],
    percentile: float = 0.90,
    by: Literal["tensor", "group"] = "tensor",
) -> dict[str, float]:
    """q for each name: the `percentile` quantile of the dense model's absolute weights.

    dense: a trained model, or its weights by name. tensors: what will be pruned, best as
    `find(model)` gives it, because shapes are then compared; names alone do as well. by: "group"
    takes the weights of all recurrent, all input, all linear or all convolution tensors together.
    Convention: of n weights sorted by absolute value, zeros included, q is the one with exactly
    floor(percentile * n) before it, so pruning the dense tensor below q drops exactly these.
    Raises AsrError for a missing tensor, another shape, or more than half zeros.
    """
    if not 0 < percentile < 1:
        raise AsrError(f"percentile={percentile}: a fraction between 0 and 1; the paper has 0.90")
    if by not in ("tensor", "group"):
        raise AsrError(f'by={by!r}: "tensor" or "group"')
    weights = dense.state_dict() if isinstance(dense, nn.Module) else dense
    shapes = {n: t.shape for n, t in tensors.items()} if isinstance(tensors, Mapping) else {}
    names = list(tensors)
    sizes = {name: _magnitudes(weights, name, shapes.get(name)) for name in names}
    if by == "tensor":
        return {name: _quantile(name, size, percentile) for name, size in sizes.items()}
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(group_of_shape(name, weights[name].dim()), []).append(name)
    q = {
        group: _quantile(group, torch.cat([sizes[name] for name in members]), percentile)
        for group, members in groups.items()
    }
    return {name: q[group_of_shape(name, weights[name].dim())] for name in names}


def _magnitudes(weights: Mapping[str, Tensor], name: str, shape: torch.Size | None) -> Tensor:
    """|w| of one dense tensor, float32, flat, checked."""
    if name not in weights:
        raise AsrError(
            f"the dense model has no {name!r}; it has:\n  " + "\n  ".join(sorted(weights))
        )
    weight = weights[name].detach()
    if shape is not None and weight.shape != shape:
        raise AsrError(
            f"{name} is {list(shape)} here but {list(weight.shape)} in the dense model: "
            "q must come from a dense model of the same dimensions"
        )
    if not torch.isfinite(weight).all():
        raise AsrError(f"{name} of the dense model holds NaN or infinite weights")
    zeros = weight.numel() - int(weight.count_nonzero())
    if 2 * zeros > weight.numel():
        raise AsrError(
            f"{name} has {zeros} zeros in {weight.numel()} weights: this is not a dense model; "
            "calibrate on the one that was trained before pruning"
        )
    return weight.float().abs().flatten()


def _quantile(name: str, sizes: Tensor, percentile: float) -> float:
    # Not torch.quantile, which refuses more than 16 M elements. 1e-9: 0.29 * 100 is 28.999...
    below = min(math.floor(percentile * sizes.numel() + 1e-9), sizes.numel() - 1)
    q = sizes.kthvalue(below + 1).values.item()
    if q == 0:
        raise AsrError(f"{name}: q is 0 at percentile={percentile}, so nothing would be pruned")
    return float(q)
