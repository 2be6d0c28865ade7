"""`nn.Conv1d` and `nn.Conv2d` on sparse kernels: a product with the patches of the input."""

from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.errors import AsrError
from asr.sparse.torch_layers import SparseLayer, check_input, optional_array, uncompiled
from asr.sparse.weight import AUTO, Options

CHUNK_BYTES = 2**19
"""Size of the patches that are copied at once: they stay in the cache of one processor core."""


class _SparseConv(SparseLayer):
    """What both share. Arguments and attributes are those of torch's convolutions."""

    dimensions: ClassVar[int]
    """Of the kernel: a size, stride or padding may be one number or one for each."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        options: Options = AUTO,
    ) -> None:
        if groups != 1:
            raise AsrError(f"a sparse convolution has one group, not {groups}")
        sizes = [self._each(value) for value in (kernel_size, stride, dilation)]
        shapes: dict[str, tuple[int, ...]] = {"weight": (out_channels, in_channels, *sizes[0])}
        super().__init__(shapes | ({"bias": (out_channels,)} if bias else {}), options)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.dilation = sizes
        self.padding = padding if isinstance(padding, str) else self._each(padding)
        self.groups, self.padding_mode = groups, padding_mode
        self._edges = _edges(self.padding, self.kernel_size, self.stride, self.dilation)
        if not bias:
            self.bias = None

    @classmethod
    def from_dense(cls, layer: nn.Conv1d | nn.Conv2d, options: Options = AUTO) -> Self:
        """The same layer without the zeros."""
        return cls(**_arguments(layer), options=options).load(layer)

    @classmethod
    def _each(cls, value: int | tuple[int, ...]) -> tuple[int, ...]:
        return (value,) * cls.dimensions if isinstance(value, int) else tuple(value)

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """As the dense layer, with or without a batch. Raises AsrError if gradients are on."""
        dimensions = self.dimensions
        if x.dim() not in (dimensions + 1, dimensions + 2) or x.shape[-1 - dimensions] != (
            self.in_channels
        ):
            raise AsrError(
                f"{type(self).__name__} takes {self.in_channels} channels and {dimensions} more "
                f"dimensions, with or without a batch before them, not {list(x.shape)}"
            )
        check_input(self, x)
        batched = x if x.dim() == dimensions + 2 else x[None]
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        if any(self._edges):
            batched = F.pad(batched, self._edges, mode)
        kernel = (1, 1, *self.kernel_size)[-2:]
        stride, dilation = (1, *self.stride)[-2:], (1, *self.dilation)[-2:]
        as_image = batched if dimensions == 2 else batched[:, :, None]
        y = self._convolve(as_image, kernel, stride, dilation)
        y = y if dimensions == 2 else y[:, :, 0]
        return y if x.dim() == dimensions + 2 else y[0]

    def _convolve(
        self, x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
    ) -> Tensor:
        """`x (N, channels, height, width)`, padded, to `(N, out_channels, height', width')`.

        Channels go last, so that one row of the kernel is one stretch of memory. The patches are a
        strided view; only a few of their rows at a time are copied to where the product reads them.
        """
        extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        sizes = [(n - e) // s + 1 for n, e, s in zip(x.shape[2:], extent, stride, strict=True)]
        if min(sizes) < 1:
            raise AsrError(
                f"the input of {list(x.shape[2:])} (padded) is smaller than the kernel, {extent}"
            )
        x = x.permute(0, 2, 3, 1).contiguous()
        batch, down, along, channels = x.stride()
        height, width = sizes
        patches = x.as_strided(
            (len(x), height, width, *kernel, x.shape[3]),
            (
                *(batch, down * stride[0], along * stride[1]),
                *(down * dilation[0], along * dilation[1], channels),
            ),
        )
        matrix, bias = self._weights["weight"].matrix, optional_array(self.bias)
        y = np.empty((len(x), height * width, self.out_channels), np.float32)
        chunk = max(1, CHUNK_BYTES // max(1, 4 * width * matrix.shape[1]))
        for n in range(len(x)):
            for top in range(0, height, chunk):
                part = patches[n, top : top + chunk].reshape(-1, matrix.shape[1]).contiguous()
                first = top * width
                matrix(part.detach().numpy(), bias, y[n, first : first + len(part)])
        image = torch.from_numpy(y).view(len(x), height, width, self.out_channels)
        return image.permute(0, 3, 1, 2).contiguous()


class SparseConv1d(_SparseConv):
    """`nn.Conv1d` of one group on a sparse kernel, inference only."""

    dimensions = 1


class SparseConv2d(_SparseConv):
    """`nn.Conv2d` of one group on a sparse kernel, inference only."""

    dimensions = 2


def _edges(
    padding: tuple[int, ...] | str,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """The argument of `F.pad`: (before, after) for each dimension, the last one first."""
    if padding == "valid":
        padding = (0,) * len(kernel)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise AsrError("padding='same' goes with stride 1 only")
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        pairs = [(n // 2, n - n // 2) for n in total]
    elif isinstance(padding, str):
        raise AsrError(f"padding {padding!r}: there are 'same' and 'valid', and numbers")
    else:
        pairs = [(n, n) for n in padding]
    return tuple(n for pair in reversed(pairs) for n in pair)


def _arguments(layer: Any) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    given = {name: getattr(layer, name) for name in (*names, "groups", "padding_mode")}
    return given | {"bias": layer.bias is not None}
