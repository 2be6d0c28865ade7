"""`sparsify`: the layers of a torch model that gain by it, swapped for their sparse twins."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.sparse.kernels import Values, library
from asr.sparse.torch_layers import SparseConv1d, SparseConv2d, SparseLayer, SparseLinear
from asr.sparse.torch_recurrent import SparseGRU, SparseLSTM, SparseRNN
from asr.sparse.weight import Options

MIN_SPARSITY = 0.6
"""Share of zeros from which on a layer gains over torch in float32, whatever its kind."""
MIN_ELEMENTS = 2**14
"""Fewer weights are multiplied about as soon as a kernel is called."""
MIN_CHANNELS = 128
"""A convolution of two dimensions with fewer outputs spends more on copying its patches than its
zeros save (32 channels, 11x5: 0.8 times torch's speed at 90 % zeros; 128 channels, 3x3: 1.9)."""

TORCH_SPARSE = "torch.sparse"
"""The kernel of `asr.sparse.cuda`."""

Module = TypeVar("Module", bound=nn.Module)


class KeepDense(Exception):
    """Raised by a factory for a layer that is better left as it is; the text says why."""


@dataclass(frozen=True)
class Request:
    """What was asked of `sparsify`, for factories."""

    options: Options
    min_sparsity: float
    min_elements: int

    def require_sparse(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises KeepDense unless these weights of one layer are float32, many, and mostly zero."""
        elements = zeros = 0
        for name, tensor in tensors.items():
            if str(tensor.dtype) != "torch.float32":
                raise KeepDense(f"its {name} is {tensor.dtype}, sparse layers run in float32")
            elements += tensor.numel()
            zeros += tensor.numel() - int(tensor.count_nonzero())
        if elements < self.min_elements:
            raise KeepDense(f"small: {elements} weights, {self.min_elements} are worth a kernel")
        if zeros < self.min_sparsity * elements:
            raise KeepDense(f"{zeros / elements:.1%} zeros, less than {self.min_sparsity:.0%}")


Factory = Callable[[Any, Request], nn.Module]
_FACTORIES: dict[type[nn.Module], Factory] = {}
_FACTORIES_CSR: dict[type[nn.Module], Factory] = {}


def register(
    module_type: type[Module], factory: Callable[[Module, Request], nn.Module], csr: bool = False
) -> None:
    """Let `sparsify` swap layers of exactly this type, also in place of a factory known before.

    `factory(module, request)` gives the sparse twin: a module whose `forward` and `state_dict` are
    the module's own. It raises `KeepDense` where that does not pay; `request.require_sparse` does so. With `csr`
    the twin is for `kernel="torch.sparse"`.
    """
    (_FACTORIES_CSR if csr else _FACTORIES)[module_type] = factory


@dataclass(frozen=True)
class Replacement:
    """A layer that was swapped."""

    name: str
    kind: str
    elements: int
    nonzeros: int
    kernels: tuple[str, ...]
    bytes: int
    """Of the layouts in memory, padding and all."""

    @property
    def sparsity(self) -> float:
        return 1 - self.nonzeros / self.elements if self.elements else 0.0


@dataclass(frozen=True)
class Report:
    """What `sparsify` did, layer by layer."""

    replaced: tuple[Replacement, ...]
    kept_dense: dict[str, str] = field(default_factory=dict)
    """Names of layers that have a sparse twin but stayed dense, and why."""

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
        return "\n".join(lines or ["no layer has a sparse twin"])


def sparsify(
    model: nn.Module,
    exact: bool = False,
    min_sparsity: float = MIN_SPARSITY,
    min_elements: int = MIN_ELEMENTS,
    values: Values = "auto",
    kernel: str | None = None,
    device: str = "cpu",
) -> Report:
    """Replace the layers of a model, in place, for sparse ones where that pays.

    The swapped layers run on the CPU and have no gradients; names in `state_dict()` stay. Where
    the C library is missing nothing pays, unless a kernel is named. `exact` keeps full precision
    (errors of 1e-6 instead of 1e-3), `values` and `kernel` are those of `asr.sparse.kernels`.
    `kernel="torch.sparse"` means the layers of `asr.sparse.cuda`, of linear and recurrent layers
    alone; it goes with every `device` of torch, and alone with those that are not the CPU. The
    whole model is moved there.

    Raises AsrError if the model itself is such a layer: it cannot be swapped inside nothing (use
    `SparseLinear.from_dense` and the like), and for arguments that contradict each other.
    """
    if not 0 <= min_sparsity <= 1:
        raise AsrError(f"min_sparsity={min_sparsity}: a share of zeros, 0 to 1")
    if kernel is None and torch.device(device).type != "cpu":
        kernel = TORCH_SPARSE
    if kernel == TORCH_SPARSE:
        if values not in ("auto", "fp32"):
            raise AsrError(f"values={values!r}: {TORCH_SPARSE} multiplies fp32 values")
        import_module("asr.sparse.cuda")  # brings its factories
    elif torch.device(device).type != "cpu":
        raise AsrError(f"kernel {kernel!r} runs on the CPU; on {device} there is {TORCH_SPARSE}")
    if type(model) in _FACTORIES:
        kind = type(model).__name__
        raise AsrError(f"the model is itself a {kind}: use Sparse{kind}.from_dense(model)")
    options = Options(values, exact, kernel=kernel, device=device)
    sweep = _Sweep(Request(options, min_sparsity, min_elements))
    sweep.descend(model, "")
    model.to(device)
    return Report(tuple(sweep.replaced), sweep.kept_dense)


class _Sweep:
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
                    self.done[id(child)] = self.twin(child, parent)
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
                    f"{type(child).__name__} is another type of layer: register it"
                )
            self.descend(child, f"{path}.")

    def twin(self, module: nn.Module, parent: nn.Module) -> nn.Module | str:
        """The sparse twin of a layer, or why there is none."""
        if any(name.endswith("_orig") for name, _ in module.named_parameters()):
            return "its zeros are not its own yet: call torch.nn.utils.prune.remove first"
        if module._forward_hooks or module._forward_pre_hooks:
            return "it has hooks, which would be lost"
        if isinstance(parent, nn.TransformerEncoderLayer):
            return "nn.TransformerEncoderLayer reads its weight itself"
        if library() is None and self.request.options.kernel is None:
            return "the C library was not built, and numpy is slower than torch (see asr info)"
        if type(module) not in self.factories:
            return f"{TORCH_SPARSE} does not pay for it"
        try:
            return self.factories[type(module)](module, self.request)
        except KeepDense as reason:
            return str(reason)


def _replacement(name: str, module: nn.Module, twin: nn.Module) -> Replacement:
    layers = [layer for layer in twin.modules() if isinstance(layer, SparseLayer)]
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


def built_in(twin: Any) -> Factory:
    """The factory of a twin that `from_dense` makes."""

    def factory(module: Any, request: Request) -> nn.Module:
        if getattr(module, "groups", 1) != 1:
            raise KeepDense("a convolution of several groups")
        if getattr(module, "proj_size", 0):
            raise KeepDense("an LSTM with a projection")
        request.require_sparse(_weights(module))
        wide = type(module) is nn.Conv2d and module.kernel_size != (1, 1)
        if wide and len(module.weight) < MIN_CHANNELS:
            raise KeepDense(f"{len(module.weight)} output channels, {MIN_CHANNELS} pay")
        made: nn.Module = twin.from_dense(module, request.options)
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
