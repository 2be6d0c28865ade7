"""Which tensors may be pruned: recurrent, linear and convolution weights, found by module type.

Biases and the parameters of norms and embeddings are not: they are few, and the paper leaves them
dense (paper, section 3). An embedding that is an output layer too is pruned where a rule names it.
"""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn

from asr.errors import AsrError

Group = Literal["recurrent", "input", "linear", "convolution"]
# The whole name: weight normalisation and the like store parts of a weight under longer names.
_RECURRENT = re.compile(r"weight_(ih|hh|hr)(_l\d+(_reverse)?)?")
MAKE_ORDINARY = (
    "make it an ordinary parameter first (torch.nn.utils.parametrize.remove_parametrizations, "
    "remove_weight_norm, remove_spectral_norm or prune.remove)"
)


class PassedOver(UserWarning):
    """Weights that a rule for all of a model leaves dense: computed, frozen, or of an embedding."""


def find(model: nn.Module, patterns: Iterable[str] | None = None) -> dict[str, nn.Parameter]:
    """Prunable parameters by name, in the model's order; a tied parameter once, by its first name.

    patterns: fnmatch patterns over names, such as "rnn*" or "*.weight_hh_*"; None takes all. A
    pattern that matches an alias of a tied parameter selects it. Weights that are computed from
    others (see `computed`) are not parameters and not found. Raises AsrError for a pattern that
    matches nothing, and for a model without any prunable weight.
    """
    names: dict[int, list[str]] = {}
    parameters: dict[int, nn.Parameter] = {}
    for name, parameter, _ in _walk(model):
        names.setdefault(id(parameter), []).append(name)
        parameters[id(parameter)] = parameter
    if not names:
        raise AsrError(
            f"{type(model).__name__} has no recurrent, linear or convolution weight to prune"
            + _listed_computed(model)
        )
    if patterns is None:
        return {known[0]: parameters[key] for key, known in names.items()}
    if isinstance(patterns, str):
        patterns = [patterns]
    matched: set[int] = set()
    listed = "\n  ".join(" = ".join(known) for known in names.values()) + _listed_computed(model)
    patterns = list(patterns)
    if not patterns:
        raise AsrError(f"no pattern given, so nothing would be pruned; there are:\n  {listed}")
    for pattern in patterns:
        hits = {k for k, known in names.items() if any(fnmatchcase(n, pattern) for n in known)}
        if not hits:
            raise AsrError(f"no prunable weight matches {pattern!r}; there are:\n  {listed}")
        matched |= hits
    return {known[0]: parameters[key] for key, known in names.items() if key in matched}


def aliases(model: nn.Module) -> dict[str, str]:
    """Every name of a prunable parameter -> the name that `find` gives it."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(p), name) for name, p, _ in _walk(model)}


def group_of(model: nn.Module, name: str) -> Group:
    """The kind of weight that `name` is: recurrent (hidden to hidden, and projections of it),
    input (input to hidden), linear or convolution. Raises AsrError if it is not prunable."""
    for candidate, _, group in _walk(model):
        if candidate == name:
            return group
    raise AsrError(f"{name!r} is not a prunable weight of {type(model).__name__}")


def group_of_shape(name: str, dimensions: int) -> Group:
    """`group_of` for a tensor of which only name and number of dimensions are known."""
    leaf = name.rpartition(".")[2]
    if leaf.startswith(("weight_hh", "weight_hr")):
        return "recurrent"
    if leaf.startswith("weight_ih"):
        return "input"
    return "convolution" if dimensions > 2 else "linear"


def computed(model: nn.Module) -> dict[str, str]:
    """Weights of prunable layers that are not parameters -> the tensors they are computed from.

    Weight and spectral normalisation, torch's own pruning and every other parametrisation compute
    a weight anew for each forward pass: zeros written into it would not stay.
    """
    found = {}
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        inside = getattr(module, "parametrizations", None)
        for leaf, chain in inside.items() if isinstance(inside, nn.ModuleDict) else ():
            if _group(module, leaf):
                parts = [part for part, _ in chain.named_parameters()]
                found[dot + leaf] = ", ".join(
                    f"{dot}parametrizations.{leaf}.{part}" for part in parts
                )
        for leaf, value in vars(module).items():  # where the older functions of torch write it
            if isinstance(value, Tensor) and _group(module, leaf):
                own = [*module._parameters, *module._buffers]
                parts = [f"{dot}{part}" for part in own if part.startswith(f"{leaf}_")]
                found[dot + leaf] = ", ".join(parts) or "an attribute"
    return found


def tied_to_embeddings(model: nn.Module) -> dict[str, str]:
    """Prunable parameters that are those of an embedding too -> their name there."""
    embeddings = {
        id(module.weight): f"{prefix}.weight".lstrip(".")
        for prefix, module in model.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    }
    return {name: embeddings[id(p)] for name, p in find(model).items() if id(p) in embeddings}


def frozen(weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the weights that are not trained: their `requires_grad` is False."""
    return [name for name, weight in weights if not weight.requires_grad]


def current(model: nn.Module, name: str, shape: torch.Size) -> Tensor:
    """The weight that the model has under this name now, a parameter or not.

    Raises AsrError if there is none, or one of another shape.
    """
    try:
        weight = getattr(*owner(model, name))
    except AttributeError:
        weight = None
    if not isinstance(weight, Tensor):
        raise AsrError(
            f"{name} is not in the {type(model).__name__}: if a layer was replaced after the "
            "Pruner was made, make a new one"
        )
    if weight.shape != shape:
        raise AsrError(
            f"{name} is {list(weight.shape)} now and was {list(shape)} when the Pruner was made: "
            "make a new one"
        )
    return weight


def owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds the parameter `name`, and the attribute under which it does."""
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def _listed_computed(model: nn.Module) -> str:
    """The end of a message about weights that were not found; empty if none is computed."""
    lines = [f"\n  {name}, computed from {parts}" for name, parts in computed(model).items()]
    return f"; not parameters are:{''.join(lines)}\nTo prune one, {MAKE_ORDINARY}" if lines else ""


def _walk(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Group]]:
    """All (name, parameter, group), tied ones under each of their names."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        for leaf, parameter in module._parameters.items():
            group = _group(module, leaf)
            if group is None or parameter is None:
                continue
            name = f"{prefix}.{leaf}" if prefix else leaf
            if isinstance(parameter, nn.UninitializedParameter):
                raise AsrError(f"{name} has no shape yet: run one batch through the model first")
            if parameter.numel():
                yield name, parameter, group


def _group(module: nn.Module, leaf: str) -> Group | None:
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return group_of_shape(leaf, 2) if _RECURRENT.fullmatch(leaf) else None
    if isinstance(module, nn.Linear):
        return "linear" if leaf == "weight" else None
    if isinstance(module, nn.MultiheadAttention):
        # Its projections are plain parameters of the module itself, not of Linear modules.
        return "linear" if leaf.endswith("_proj_weight") else None
    if isinstance(module, nn.modules.conv._ConvNd):
        return "convolution" if leaf == "weight" else None
    return None
