"""Batch norm over the frames of all processes of a training (torch.distributed).

`nn.SyncBatchNorm` does this on GPUs only, and over padding too.
"""

from typing import Any, cast

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable


def batch_norm(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> Tensor:
    """What `torch.batch_norm` returns in training for the `rows (n, features)` of all ranks.

    Every rank must call it at the same time, with at least one row; the running statistics become
    the same on all of them. The gradients of weight and bias are those of the rank's own rows, as
    DistributedDataParallel expects.
    """
    mean, variance, count = _statistics(rows.detach().float())
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(variance * (count / (count - 1)), momentum)
    inverse = (variance + eps).rsqrt()
    return cast(Tensor, _Normalise.apply(rows, weight, bias, mean, inverse, count))


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and biased variance of each feature over the rows of all ranks, and their number.

    Means and squares about them are joined as by Chan et al. (1979): a sum of plain squares would
    cancel. Every rank computes with the same numbers in the same order.
    """
    mean = rows.mean(0)
    own = torch.cat(
        [rows.new_tensor([len(rows)]).double(), mean.double(), (rows - mean).square().sum(0)]
    )
    every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(every, own)
    table = torch.stack(every)
    counts, (means, squares) = table[:, :1], table[:, 1:].chunk(2, dim=1)
    count = float(counts.sum())
    joined = (counts * means).sum(0) / count
    variance = (squares + counts * (means - joined).square()).sum(0) / count
    return joined.to(rows.dtype), variance.to(rows.dtype), count


class _Normalise(torch.autograd.Function):
    """`(rows - mean) * inverse * weight + bias`, where mean and inverse depend on all rows."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        inverse: Tensor,
        count: float,
    ) -> Tensor:
        ctx.save_for_backward(rows, weight, mean, inverse)
        ctx.count = count
        return ((rows.float() - mean) * (inverse * weight) + bias).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, mean, inverse = ctx.saved_tensors
        gradient, normalised = grad.float(), (rows.float() - mean) * inverse
        own = torch.stack([gradient.sum(0), (gradient * normalised).sum(0)])
        sums = own.clone()
        distributed.all_reduce(sums)
        inputs = gradient - sums[0] / ctx.count - normalised * (sums[1] / ctx.count)
        return (inputs * (inverse * weight)).to(rows.dtype), own[1], own[0], None, None, None
