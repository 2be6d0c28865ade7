"""`sparsify`: the layers of a torch model that gain by it, swapped for their sparse twins."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

from asr.errors import AsrError
from asr.sparse.kernels import Matrix, Values, library
from asr.sparse.layers import SparseConv1d, SparseConv2d, SparseLayer, SparseLinear
from asr.sparse.recurrent import SparseGRU, SparseLSTM, SparseRNN
from asr.sparse.weight import Options

MIN_SPARSITY = 0.6
"""Share of zeros from which on a layer gains over torch in float32, whatever its kind."""
MIN_ELEMENTS = 2**14
"""Fewer weights are multiplied about as soon as a kernel is called."""
MIN_CHANNELS = 128
"""A convolution of two dimensions with fewer outputs spends more on copying its patches than its
zeros save (32 channels, 11x5: 0.8 times torch's speed at 90 % zeros; 128 channels, 3x3: 1.9)."""

Module = TypeVar("Module", bound=nn.Module)


class Leave(Exception):
    """Raised by a factory for a layer that is better left as it is; the text says why."""


@dataclass(frozen=True)
class Wish:
    """What was asked of `sparsify`, for factories."""

    options: Options
    min_sparsity: float
    min_elements: int

    def weigh(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises Leave unless these weights of one layer are float32, many, and mostly zero."""
        elements = zeros = 0
        for name, tensor in tensors.items():
            if str(tensor.dtype) != "torch.float32":
                raise Leave(f"its {name} is {tensor.dtype}, sparse layers run in float32")
            elements += tensor.numel()
            zeros += tensor.numel() - int(tensor.count_nonzero())
        if elements < self.min_elements:
            raise Leave(f"small: {elements} weights, {self.min_elements} are worth a kernel")
        if zeros < self.min_sparsity * elements:
            raise Leave(f"{zeros / elements:.1%} zeros, less than {self.min_sparsity:.0%}")


Factory = Callable[[Any, Wish], nn.Module]
_FACTORIES: dict[type[nn.Module], Factory] = {}


def register(module_type: type[Module], factory: Callable[[Module, Wish], nn.Module]) -> None:
    """Let `sparsify` swap layers of exactly this type, also in place of a factory known before.

    `factory(module, wish)` gives the sparse twin: a module whose `forward` and `state_dict` are
    the module's own. It raises `Leave` where that does not pay; `wish.weigh` does so.
    """
    _FACTORIES[module_type] = factory


@dataclass(frozen=True)
class Swap:
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

    swapped: tuple[Swap, ...]
    left: dict[str, str] = field(default_factory=dict)
    """Names of layers that have a sparse twin but stayed dense, and why."""

    def table(self) -> str:
        """The report for a terminal."""
        lines = [
            f"{s.name or 'the model'}: {s.kind}, {s.elements:,} weights, {s.sparsity:.1%} zeros, "
            f"{', '.join(s.kernels)}, {s.bytes:,} bytes"
            for s in self.swapped
        ]
        lines += [f"{name or 'the model'}: left dense: {why}" for name, why in self.left.items()]
        return "\n".join(lines or ["no layer has a sparse twin"])


def sparsify(
    model: nn.Module,
    exact: bool = False,
    min_sparsity: float = MIN_SPARSITY,
    min_elements: int = MIN_ELEMENTS,
    values: Values = "auto",
    kernel: str | None = None,
) -> Report:
    """Swap the layers of a model, in place, for sparse ones where that pays.

    The swapped layers run on the CPU and have no gradients; names in `state_dict()` stay. Where
    the C library is missing nothing pays, unless a kernel is named. `exact` keeps full precision
    (errors of 1e-6 instead of 1e-3), `values` and `kernel` are those of `asr.sparse.kernels`.

    Raises AsrError if the model itself is such a layer: it cannot be swapped inside nothing (use
    `SparseLinear.from_dense` and the like).
    """
    if not 0 <= min_sparsity <= 1:
        raise AsrError(f"min_sparsity={min_sparsity}: a share of zeros, 0 to 1")
    if type(model) in _FACTORIES:
        kind = type(model).__name__
        raise AsrError(f"the model is itself a {kind}: use Sparse{kind}.from_dense(model)")
    wish = Wish(Options(values, exact, kernel=kernel), min_sparsity, min_elements)
    done: dict[int, nn.Module | str] = {}
    swapped: list[Swap] = []
    left: dict[str, str] = {}
    _descend(model, "", wish, done, swapped, left)
    return Report(tuple(swapped), left)


def _descend(
    parent: nn.Module,
    prefix: str,
    wish: Wish,
    done: dict[int, nn.Module | str],
    swapped: list[Swap],
    left: dict[str, str],
) -> None:
    for name, child in list(parent._modules.items()):
        if child is None:
            continue
        path = f"{prefix}{name}"
        if type(child) in _FACTORIES:
            if id(child) not in done:  # a layer in two places stays one layer
                done[id(child)] = _swap(child, parent, wish)
            result = done[id(child)]
            if isinstance(result, nn.Module):
                setattr(parent, name, result)
                swapped.append(_swapped(path, child, result))
                continue
            left[path] = result
        elif type(child).__name__ == "NonDynamicallyQuantizableLinear":
            left[path] = "attention reads its weight itself"
        elif isinstance(child, tuple(_FACTORIES)) and not isinstance(child, SparseLayer):
            left[path] = f"{type(child).__name__} is another type of layer: register it"
        _descend(child, f"{path}.", wish, done, swapped, left)


def _swap(module: nn.Module, parent: nn.Module, wish: Wish) -> nn.Module | str:
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    if any(name.endswith("_orig") for name, _ in module.named_parameters()):
        return "its zeros are not its own yet: call torch.nn.utils.prune.remove first"
    if any(hooks):
        return "it has hooks, which would be lost"
    if isinstance(parent, nn.TransformerEncoderLayer):
        return "nn.TransformerEncoderLayer reads its weight itself"
    if library() is None and wish.options.kernel is None:
        return "the C library was not built, and numpy is slower than torch (see asr info)"
    try:
        return _FACTORIES[type(module)](module, wish)
    except Leave as reason:
        return str(reason)


def _swapped(name: str, module: nn.Module, twin: nn.Module) -> Swap:
    layers = [layer for layer in twin.modules() if isinstance(layer, SparseLayer)]
    weights = {id(w): w for layer in layers for _, w in layer.weights()}.values()
    matrices: list[Matrix] = [weight.matrix for weight in weights]
    return Swap(
        name=name,
        kind=type(module).__name__,
        elements=sum(m.shape[0] * m.shape[1] for m in matrices),
        nonzeros=sum(int((w.rows.values != 0).sum()) for w in weights),
        kernels=tuple(sorted({matrix.kernel for matrix in matrices})),
        bytes=sum(matrix.bytes for matrix in matrices),
    )


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in module.named_parameters() if tensor.dim() >= 2}


def _built_in(twin: Any) -> Factory:
    def factory(module: Any, wish: Wish) -> nn.Module:
        if getattr(module, "groups", 1) != 1:
            raise Leave("a convolution of several groups")
        if getattr(module, "proj_size", 0):
            raise Leave("an LSTM with a projection")
        wish.weigh(_weights(module))
        wide = isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
        if wide and len(module.weight) < MIN_CHANNELS:
            raise Leave(f"{len(module.weight)} output channels, {MIN_CHANNELS} pay")
        made: nn.Module = twin.from_dense(module, wish.options)
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
    _FACTORIES[_dense] = _built_in(_sparse)
