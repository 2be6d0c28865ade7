"""Linear and convolution layers of torch on sparse kernels, and what all sparse layers share.

They run on the CPU in float32 and have no gradients. `state_dict()` is that of the dense twin,
zeros and all, and a twin's state can be loaded: a pruned model and its sparse one read each other.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from asr.errors import AsrError
from asr.sparse.csr import CsrMatrix
from asr.sparse.weight import AUTO, Options, Weight

CHUNK_BYTES = 2**19
"""Of input patches that a convolution holds at once: they stay in a processor's own cache."""

Layer = TypeVar("Layer", bound="SparseLayer")


class SparseLayer(nn.Module):
    """A layer whose weights are `Weight`s and whose biases are buffers, under torch's names."""

    weight_type = Weight

    def __init__(self, shapes: dict[str, tuple[int, ...]], options: Options) -> None:
        """All zero until a state is loaded. `shapes`: every tensor in the order of the twin's."""
        super().__init__()
        self.options = options
        self._shapes = shapes
        self._weights: dict[str, Weight] = {}
        for name, shape in shapes.items():
            if len(shape) == 1:
                self.register_buffer(name, torch.zeros(shape))
            else:
                self._weights[name] = self.weight_type(_zeros(shape), shape, options)

    def weights(self) -> Iterator[tuple[str, Weight]]:
        """Names and weights, in torch's order."""
        return ((name, self._weights[name]) for name in self._shapes if name in self._weights)

    def set_weight(self, name: str, rows: CsrMatrix) -> None:
        """Put in a weight by its kept elements. Raises AsrError for another number of them."""
        shape = self._shapes[name]
        if rows.shape != (shape[0], int(np.prod(shape[1:]))):
            raise AsrError(f"{name} is {list(rows.shape)}, this layer needs {list(shape)}")
        self._weights[name] = self.weight_type(rows, shape, self.options)

    def set_dense(self, name: str, tensor: NDArray[np.float32]) -> None:
        """Put in a weight of the right shape with its zeros. Raises AsrError for NaN, infinity."""
        self._weights[name] = self.weight_type.of(tensor, self.options)

    def share(self, name: str, other: "SparseLayer") -> None:
        """Have the same weight as another layer under this name, stored and laid out once."""
        self._weights[name] = other._weights[name]

    def load(self: Layer, twin: nn.Module) -> Layer:
        """Take over the tensors, the mode and nothing else of the dense twin."""
        self.load_state_dict(twin.state_dict())
        return self.train(twin.training).to(self.options.device)

    def __getattr__(self, name: str) -> Any:
        weights = self.__dict__.get("_weights", {})
        if name in weights:
            return torch.from_numpy(weights[name].dense())
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        return "; ".join(f"{name} {weight!r}" for name, weight in self.weights())

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name in self._shapes:
            value = getattr(self, name)
            destination[prefix + name] = value if keep_vars else value.detach()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        for name in self._weights:
            key = prefix + name
            if key in unexpected_keys:
                unexpected_keys.remove(key)
            if key not in state_dict:
                missing_keys.append(key)
            elif tuple(state_dict[key].shape) != self._shapes[name]:
                error_msgs.append(
                    f"size mismatch for {key}: it is {list(state_dict[key].shape)}, this layer "
                    f"needs {list(self._shapes[name])}"
                )
            else:
                tensor = state_dict[key].detach().to("cpu", torch.float32).numpy()
                try:
                    self.set_dense(name, tensor)
                except AsrError as error:
                    error_msgs.append(f"{key}: {error}")


class SparseLinear(SparseLayer):
    """`nn.Linear` on a sparse kernel, inference only."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        options: Options = AUTO,
    ) -> None:
        shapes: dict[str, tuple[int, ...]] = {"weight": (out_features, in_features)}
        super().__init__(shapes | ({"bias": (out_features,)} if bias else {}), options)
        self.in_features, self.out_features = in_features, out_features
        if not bias:
            self.bias = None

    @classmethod
    def from_dense(cls, twin: nn.Linear, options: Options = AUTO) -> "SparseLinear":
        """The same layer by its non-zeros."""
        return cls(twin.in_features, twin.out_features, twin.bias is not None, options).load(twin)

    def forward(self, x: Tensor) -> Tensor:
        """`x (..., in_features)` -> `(..., out_features)`. Raises AsrError if gradients are on."""
        rows = to_array(self, x).reshape(-1, x.shape[-1])
        y = self._weights["weight"].matrix(rows, optional_array(self.bias))
        return torch.from_numpy(y).view(*x.shape[:-1], self.out_features)


class _SparseConv(SparseLayer):
    """A convolution as a product with the patches of its input, some of them at a time."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[int, ...] | str,
        dilation: tuple[int, ...],
        groups: int,
        bias: bool,
        padding_mode: str,
        options: Options,
    ) -> None:
        if groups != 1:
            raise AsrError(f"a sparse convolution has one group, not {groups}")
        shapes: dict[str, tuple[int, ...]] = {"weight": (out_channels, in_channels, *kernel_size)}
        super().__init__(shapes | ({"bias": (out_channels,)} if bias else {}), options)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.dilation = kernel_size, stride, dilation
        self.padding, self.groups, self.padding_mode = padding, groups, padding_mode
        self._edges = _edges(padding, kernel_size, stride, dilation)
        if not bias:
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """As the dense twin, batched or not. Raises AsrError if gradients are on."""
        dimensions = len(self.kernel_size)
        if x.dim() not in (dimensions + 1, dimensions + 2) or x.shape[-1 - dimensions] != (
            self.in_channels
        ):
            raise AsrError(
                f"{type(self).__name__} takes {self.in_channels} channels and {dimensions} more "
                f"dimensions, with or without a batch before them, not {list(x.shape)}"
            )
        to_array(self, x[:0])  # refuses what cannot run before anything is padded
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
        """`x (N, channels, height, width)`, padded, to `(N, out_channels, height', width')`."""
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]
        if min(sizes) < 1:
            raise AsrError(
                f"the input of {list(x.shape[2:])} (padded) is smaller than the kernel, {reach}"
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

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] | str = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        options: Options = AUTO,
    ) -> None:
        sizes = [_each(value, 1) for value in (kernel_size, stride, dilation)]
        pad = padding if isinstance(padding, str) else _each(padding, 1)
        super().__init__(
            *(in_channels, out_channels, sizes[0], sizes[1], pad, sizes[2]),
            *(groups, bias, padding_mode, options),
        )

    @classmethod
    def from_dense(cls, twin: nn.Conv1d, options: Options = AUTO) -> "SparseConv1d":
        """The same layer by its non-zeros."""
        return cls(**_arguments(twin), options=options).load(twin)


class SparseConv2d(_SparseConv):
    """`nn.Conv2d` of one group on a sparse kernel, inference only."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        options: Options = AUTO,
    ) -> None:
        sizes = [_each(value, 2) for value in (kernel_size, stride, dilation)]
        pad = padding if isinstance(padding, str) else _each(padding, 2)
        super().__init__(
            *(in_channels, out_channels, sizes[0], sizes[1], pad, sizes[2]),
            *(groups, bias, padding_mode, options),
        )

    @classmethod
    def from_dense(cls, twin: nn.Conv2d, options: Options = AUTO) -> "SparseConv2d":
        """The same layer by its non-zeros."""
        return cls(**_arguments(twin), options=options).load(twin)


def to_array(layer: nn.Module, x: Tensor) -> Any:
    """The numbers of an input, contiguous.

    Raises AsrError for another device or type than float32 on the CPU, and where gradients would
    have to flow back through it.
    """
    name = type(layer).__name__
    if x.device.type != "cpu" or x.dtype != torch.float32:
        raise AsrError(
            f"{name} runs on the CPU in float32, its input is {x.dtype} on {x.device}; for a GPU "
            "there is sparsify(model, device='cuda')"
        )
    if torch.is_grad_enabled() and x.requires_grad:
        raise AsrError(
            f"{name} has no gradients: call the model under torch.inference_mode(), and train "
            "its dense twin"
        )
    return x.detach().contiguous().numpy()


def optional_array(tensor: Tensor | None) -> Any:
    """A bias as numpy, if there is one."""
    return None if tensor is None else tensor.detach().numpy()


def _zeros(shape: tuple[int, ...]) -> CsrMatrix:
    starts = np.zeros(shape[0] + 1, np.int64)
    nothing = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return CsrMatrix((shape[0], int(np.prod(shape[1:]))), starts, *nothing)


def _each(value: Any, count: int) -> Any:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * count


def _edges(
    padding: tuple[int, ...] | str,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """What `F.pad` takes: (before, after) for each dimension, the last dimension first."""
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


def _arguments(twin: Any) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    given = {name: getattr(twin, name) for name in (*names, "groups", "padding_mode")}
    return given | {"bias": twin.bias is not None}
