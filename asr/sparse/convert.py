"""`sparsify`: replaces the layers of a torch model by sparse ones where that makes them faster."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.sparse.kernels import Values, library
from asr.sparse.torch_convolution import SparseConv1d, SparseConv2d
from asr.sparse.torch_layers import SparseLayer, SparseLinear
from asr.sparse.torch_recurrent import SparseGRU, SparseLSTM, SparseRNN
from asr.sparse.weight import Options

MIN_SPARSITY = 0.6
"""Fraction of zeros from which a layer of any type is faster than torch in float32."""
MIN_ELEMENTS = 2**14
"""With fewer weights, calling a kernel takes as long as multiplying them."""
MIN_CHANNELS = 128
"""With fewer output channels a 2-d convolution loses more by copying patches than it gains by zeros
(at 90 % zeros: 32 channels, 11x5: 0.8 times torch's speed; 128 channels, 3x3: 1.9 times)."""

TORCH_SPARSE = "torch.sparse"
"""The kernel of `asr.sparse.cuda`."""

Module = TypeVar("Module", bound=nn.Module)


class KeepDense(Exception):
    """Raised by a factory for a layer that should stay dense; the text says why."""


@dataclass(frozen=True)
class Request:
    """The arguments of `sparsify`, for factories."""

    options: Options
    min_sparsity: float
    min_elements: int

    def require_sparse(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise KeepDense unless these weights of one layer are float32, many, and mostly zero."""
        elements = zeros = 0
        for name, tensor in tensors.items():
            if tensor.layout != torch.strided:
                raise KeepDense(f"its {name} is already {tensor.layout}")
            if str(tensor.dtype) != "torch.float32":
                raise KeepDense(f"its {name} is {tensor.dtype}, sparse layers run in float32")
            elements += tensor.numel()
            zeros += tensor.numel() - int(tensor.count_nonzero())
        if elements < self.min_elements:
            raise KeepDense(f"small: {elements} weights, fewer than {self.min_elements}")
        if zeros < self.min_sparsity * elements:
            raise KeepDense(f"{zeros / elements:.1%} zeros, less than {self.min_sparsity:.0%}")


Factory = Callable[[Any, Request], nn.Module]
_FACTORIES: dict[type[nn.Module], Factory] = {}
_FACTORIES_CSR: dict[type[nn.Module], Factory] = {}


def register(
    module_type: type[Module], factory: Callable[[Module, Request], nn.Module], csr: bool = False
) -> None:
    """Have `sparsify` replace layers of exactly this type; overrides an earlier factory.

    `factory(module, request)` returns the sparse module, with the `forward` and the `state_dict` of
    the dense one. It raises `KeepDense` where sparse is not faster: `request.require_sparse` does.
    With `csr` the factory is for `kernel="torch.sparse"`.
    """
    (_FACTORIES_CSR if csr else _FACTORIES)[module_type] = factory


@dataclass(frozen=True)
class Replacement:
    """A layer that was replaced."""

    name: str
    kind: str
    """Type of the dense layer."""
    elements: int
    nonzeros: int
    kernels: tuple[str, ...]
    bytes: int
    """Of the layouts in memory, with their padding."""

    @property
    def sparsity(self) -> float:
        """Fraction of zeros, 0 to 1."""
        return 1 - self.nonzeros / self.elements if self.elements else 0.0


@dataclass(frozen=True)
class Report:
    """What `sparsify` did with each layer that it knows."""

    replaced: tuple[Replacement, ...]
    kept_dense: dict[str, str] = field(default_factory=dict)
    """Names of layers that have a sparse version but stayed dense, and why."""

    def table(self) -> str:
        """The report for a terminal."""
        lines = [
            f"{s.name or 'the model'}: {s.kind}, {s.elements:,} weights, {s.sparsity:.1%} zeros, "
            f"{', '.join(s.kernels)}, {s.bytes:,} bytes"
            for s in self.replaced
        ]
        lines += [
            f"{name or 'the model'}: kept dense: {why}" for name, why in self.kept_dense.items()
        ]
        return "\n".join(lines or ["no layer has a sparse version"])


def sparsify(
    model: nn.Module,
    exact: bool = False,
    min_sparsity: float = MIN_SPARSITY,
    min_elements: int = MIN_ELEMENTS,
    values: Values = "auto",
    kernel: str | None = None,
    device: str = "cpu",
) -> Report:
    """Replace layers of a model, in place, by sparse ones where that makes them faster.

    The sparse layers run on the CPU, in float32, and have no gradients; `state_dict()` keeps its
    names. Without the C library nothing is replaced unless a kernel is named. `exact` keeps full
    precision (errors of 1e-6 instead of 1e-3); `values` and `kernel` are those of
    `asr.sparse.kernels.prepare`. `kernel="torch.sparse"` means the linear and recurrent layers of
    `asr.sparse.cuda`, which run on every `device` of torch and are the only ones that run elsewhere
    than on the CPU; the whole model is moved there.

    Raises AsrError for arguments that contradict each other, for a model without values (on the
    meta device), and if the model itself is such a layer: no parent holds it that could get another
    (use `SparseLinear.from_dense` and the like).

    >>> model = nn.Sequential(nn.Linear(256, 256))
    >>> model[0].weight.data[:, 26:] = 0
    >>> print(sparsify(model, kernel="numpy").table())
    0: Linear, 65,536 weights, 89.8% zeros, numpy, 262,144 bytes
    """
    if not 0 <= min_sparsity <= 1:
        raise AsrError(f"min_sparsity={min_sparsity}: a fraction of zeros, 0 to 1")
    if kernel is None and torch.device(device).type != "cpu":
        kernel = TORCH_SPARSE
    if kernel == TORCH_SPARSE:
        if values not in ("auto", "fp32"):
            raise AsrError(f"values={values!r}: {TORCH_SPARSE} multiplies fp32 values")
        import_module("asr.sparse.cuda")  # registers its factories
    elif torch.device(device).type != "cpu":
        raise AsrError(f"kernel {kernel!r} runs on the CPU; on {device} there is {TORCH_SPARSE}")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise AsrError(f"{name} is on the meta device, without values: load weights first")
    if type(model) in _FACTORIES:
        kind = type(model).__name__
        raise AsrError(f"the model is itself a {kind}: use Sparse{kind}.from_dense(model)")
    options = Options(values, exact, kernel=kernel, device=device)
    walk = _Walk(Request(options, min_sparsity, min_elements))
    walk.descend(model, "")
    model.to(device)
    return Report(tuple(walk.replaced), walk.kept_dense)


class _Walk:
    """One walk through a model."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.factories = _FACTORIES_CSR if request.options.kernel == TORCH_SPARSE else _FACTORIES
        self.done: dict[int, nn.Module | str] = {}
        self.replaced: list[Replacement] = []
        self.kept_dense: dict[str, str] = {}

    def descend(self, parent: nn.Module, prefix: str) -> None:
        for name, child in list(parent._modules.items()):
            if child is None:
                continue
            path = f"{prefix}{name}"
            if type(child) in _FACTORIES:
                if id(child) not in self.done:  # a layer in two places stays one layer
                    self.done[id(child)] = self.sparse(child, parent)
                result = self.done[id(child)]
                if isinstance(result, nn.Module):
                    setattr(parent, name, result)
                    self.replaced.append(_replacement(path, child, result))
                    continue
                self.kept_dense[path] = result
            elif type(child).__name__ == "NonDynamicallyQuantizableLinear":
                self.kept_dense[path] = "attention reads its weight itself"
            elif isinstance(child, tuple(_FACTORIES)) and not isinstance(child, SparseLayer):
                self.kept_dense[path] = (
                    f"{type(child).__name__} is not a type that sparsify knows: register it"
                )
            self.descend(child, f"{path}.")

    def sparse(self, module: nn.Module, parent: nn.Module) -> nn.Module | str:
        """The sparse version of a layer, or why there is none."""
        if any(name.endswith("_orig") for name, _ in module.named_parameters()):
            return "torch.nn.utils.prune still masks it: call torch.nn.utils.prune.remove first"
        if module._forward_hooks or module._forward_pre_hooks:
            return "it has hooks, which would be lost"
        if isinstance(parent, nn.TransformerEncoderLayer):
            return "nn.TransformerEncoderLayer reads its weight itself"
        if library() is None and self.request.options.kernel is None:
            return "the C library was not built, and numpy is slower than torch (see asr info)"
        if type(module) not in self.factories:
            return f"{TORCH_SPARSE} is not faster for it"
        try:
            return self.factories[type(module)](module, self.request)
        except KeepDense as reason:
            return str(reason)


def _replacement(name: str, module: nn.Module, sparse: nn.Module) -> Replacement:
    layers = [layer for layer in sparse.modules() if isinstance(layer, SparseLayer)]
    weights = {id(w): w for layer in layers for _, w in layer.weights()}.values()
    return Replacement(
        name=name,
        kind=type(module).__name__,
        elements=sum(w.rows.shape[0] * w.rows.shape[1] for w in weights),
        nonzeros=sum(int((w.rows.values != 0).sum()) for w in weights),
        kernels=tuple(sorted({w.kernel for w in weights})),
        bytes=sum(w.bytes for w in weights),
    )


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in module.named_parameters() if tensor.dim() >= 2}


def built_in(sparse_type: Any) -> Factory:
    """The factory of a sparse type that has `from_dense`."""

    def factory(module: Any, request: Request) -> nn.Module:
        if getattr(module, "groups", 1) != 1:
            raise KeepDense("a convolution with several groups")
        if getattr(module, "proj_size", 0):
            raise KeepDense("an LSTM with a projection")
        request.require_sparse(_weights(module))
        wide = type(module) is nn.Conv2d and module.kernel_size != (1, 1)
        if wide and len(module.weight) < MIN_CHANNELS:
            raise KeepDense(f"{len(module.weight)} output channels, fewer than {MIN_CHANNELS}")
        made: nn.Module = sparse_type.from_dense(module, request.options)
        return made

    return factory


for _dense, _sparse in (
    (nn.Linear, SparseLinear),
    (nn.Conv1d, SparseConv1d),
    (nn.Conv2d, SparseConv2d),
    (nn.GRU, SparseGRU),
    (nn.LSTM, SparseLSTM),
    (nn.RNN, SparseRNN),
):
    _FACTORIES[_dense] = built_in(_sparse)
