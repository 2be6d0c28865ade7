"""`nn.Linear` on sparse kernels, and the base class of all sparse layers.

They run on the CPU in float32 and have no gradients. `state_dict()` is that of the dense layer,
with the zeros, and a dense layer's state can be loaded: each kind of model reads the other's files.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from asr.errors import AsrError
from asr.sparse.csr import CsrMatrix
from asr.sparse.weight import AUTO, Options, Weight

Layer = TypeVar("Layer", bound="SparseLayer")

_SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]  # a descriptor written in C


class ReadOnlyTensor(Tensor):
    """A dense copy of a sparse layer's weight that can be read but not changed in place.

    Views of it are read-only too; results of computations are ordinary tensors.
    """

    @classmethod
    def of(cls, weight: Weight) -> Tensor:
        """The weight with its zeros."""
        with torch.inference_mode(False):  # inference tensors do not count their changes
            return torch.from_numpy(weight.dense()).as_subclass(cls)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        ours = [x for x in tree_leaves((args, kwargs)) if isinstance(x, cls)]
        with torch._C.DisableTorchFunctionSubclass():
            # torch counts the changes of a tensor and of its views, whichever function made them.
            before = [x._version for x in ours]
            result = func(*args, **kwargs)
            if func == _SET_DATA or before != [x._version for x in ours]:
                raise AsrError(
                    "the weight of a sparse layer cannot be changed in place, its kernel would not "
                    "see it: assign a tensor instead, layer.weight = ..."
                )
            memory = {x.untyped_storage().data_ptr() for x in ours}

            def guarded(part: Any) -> Any:
                if isinstance(part, np.ndarray):
                    part.flags.writeable = False
                elif _strided(part) and part.untyped_storage().data_ptr() in memory:
                    return part.as_subclass(cls)
                return part

            return tree_map(guarded, result)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.clone()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.clone().__reduce_ex__(protocol)


class SparseLayer(nn.Module):
    """A layer whose weights are `Weight`s and whose biases are buffers, under torch's names.

    Reading `layer.weight` returns a dense copy that refuses to be changed in place, because the
    kernel would not see the change. Assigning a tensor to it replaces the weight. `state_dict()`
    holds ordinary copies of the weights. Biases are ordinary buffers.
    """

    weight_type = Weight

    def __init__(self, shapes: dict[str, tuple[int, ...]], options: Options) -> None:
        """All zero until a state is loaded. `shapes`: of all tensors, in torch's order."""
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

    def made(self, name: str, values: CsrMatrix | NDArray[np.float32]) -> Weight:
        """A weight for `replace_weight`, laid out as this layer's options say.

        Raises AsrError for a matrix of another shape, and for NaN and infinity in a dense one.
        """
        if not isinstance(values, CsrMatrix):
            return self.weight_type.of(values, self.options)
        shape = self._shapes[name]
        if values.shape != (shape[0], int(np.prod(shape[1:]))):
            raise AsrError(f"{name} is {list(values.shape)}, this layer needs {list(shape)}")
        return self.weight_type(values, shape, self.options)

    def replace_weight(self, name: str, weight: Weight) -> None:
        """Use a weight that `made` has made."""
        self._weights[name] = weight

    def tie(self, name: str, other: "SparseLayer") -> None:
        """Use the weight that another layer has under this name, stored and laid out once."""
        self._weights[name] = other._weights[name]

    def load(self: Layer, dense: nn.Module) -> Layer:
        """Take over the tensors and the training mode of the dense layer."""
        self.load_state_dict(dense.state_dict())
        return self.train(dense.training).to(self.options.device)

    def __getattr__(self, name: str) -> Any:
        weights = self.__dict__.get("_weights", {})
        if name in weights:
            return ReadOnlyTensor.of(weights[name])
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__.get("_weights", {}):
            super().__setattr__(name, value)
            return
        if not isinstance(value, Tensor) or tuple(value.shape) != self._shapes[name]:
            found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise AsrError(f"{name} is {found}, this layer needs {list(self._shapes[name])}")
        array = value.detach().to("cpu", torch.float32).numpy()
        self.replace_weight(name, self.made(name, array))

    def extra_repr(self) -> str:
        return "; ".join(f"{name} {weight!r}" for name, weight in self.weights())

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name in self._shapes:
            if name in self._weights:
                value = torch.from_numpy(self._weights[name].dense())
            else:
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
                    self.replace_weight(name, self.made(name, tensor))
                except AsrError as error:
                    error_msgs.append(f"{key}: {error}")


def uncompiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A method that torch.compile calls as it is, with the graph broken before and behind it.

    Otherwise it would compile the Python around the kernels and take their arrays for tensors,
    which fails in inference mode. `torch.compiler.disable` alone takes seconds to import.
    """

    @functools.wraps(forward)
    def called(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            return torch.compiler.disable(forward)(*args, **kwargs)
        return forward(*args, **kwargs)

    return called


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
    def from_dense(cls, layer: nn.Linear, options: Options = AUTO) -> "SparseLinear":
        """The same layer without the zeros."""
        bias = layer.bias is not None
        return cls(layer.in_features, layer.out_features, bias, options).load(layer)

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """`x (..., in_features)` -> `(..., out_features)`. Raises AsrError if gradients are on."""
        rows = to_array(self, x).reshape(-1, x.shape[-1])
        y = self._weights["weight"].matrix(rows, optional_array(self.bias))
        return torch.from_numpy(y).view(*x.shape[:-1], self.out_features)


def check_input(layer: nn.Module, x: Tensor, device: str = "cpu") -> None:
    """Raise AsrError for an input that is not float32 on this kind of device, where gradients would
    have to flow back through it, and while torch records a graph."""
    _refuse_recording(layer)
    name, kind = type(layer).__name__, torch.device(device).type
    if x.device.type != kind or x.dtype != torch.float32:
        where, advice = device, ""
        if kind == "cpu":
            where, advice = "the CPU", "; for a GPU there is sparsify(model, device='cuda')"
        raise AsrError(
            f"{name} runs on {where} in float32, its input is {x.dtype} on {x.device}{advice}"
        )
    if torch.is_grad_enabled() and x.requires_grad:
        raise AsrError(
            f"{name} has no gradients: call the model under torch.inference_mode(), and train "
            "the dense model"
        )


def to_array(layer: nn.Module, x: Tensor) -> Any:
    """An input as a contiguous array. Raises AsrError as `check_input` does."""
    check_input(layer, x)
    return x.detach().contiguous().numpy()


def _refuse_recording(layer: nn.Module) -> None:
    """Raise AsrError while torch traces or exports.

    The kernels are not operations of torch: a trace would hold their output for the example as a
    constant, and answer every input with it.
    """
    if torch.jit.is_tracing() or torch.compiler.is_exporting() or _proxied():
        raise AsrError(
            f"{type(layer).__name__} cannot be traced or exported: its kernel is not an operation "
            "of torch, and the graph would answer every input with the output for this example; "
            "export the dense model, before sparsify"
        )


def _proxied() -> bool:
    """Whether `make_fx` records; its module is looked up because importing it takes a while."""
    module = sys.modules.get("torch.fx.experimental.proxy_tensor")
    return module is not None and module.get_proxy_mode() is not None


def _strided(part: Any) -> bool:
    return type(part) is Tensor and part.layout == torch.strided


def optional_array(tensor: Tensor | None) -> Any:
    """A bias as an array, if there is one."""
    return None if tensor is None else tensor.detach().numpy()


def _zeros(shape: tuple[int, ...]) -> CsrMatrix:
    starts = np.zeros(shape[0] + 1, np.int64)
    nothing = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return CsrMatrix((shape[0], int(np.prod(shape[1:]))), starts, *nothing)
