"""What was reached: the sparsity per tensor, of the prunable tensors, and of the whole model."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.prunable import MAKE_ORDINARY, find, group_of_shape

_GATES = {3: ("reset", "update", "new"), 4: ("input", "forget", "cell", "output")}


@dataclass(frozen=True)
class Total:
    """Several tensors together."""

    elements: int
    nonzeros: int

    @property
    def sparsity(self) -> float:
        """Zeros over elements."""
        return 1.0 - self.nonzeros / self.elements


@dataclass(frozen=True)
class TensorStatistics:
    """One prunable tensor."""

    name: str
    shape: tuple[int, ...]
    elements: int
    nonzeros: int
    group: str
    """recurrent, input, linear or convolution."""
    gates: dict[str, float] = field(default_factory=dict)
    """Sparsity of each gate's rows, for the weights of GRU and LSTM."""
    empty_rows: int = 0
    """Rows of zeros alone: outputs that are only a bias; of a convolution these are channels."""
    empty_columns: int = 0
    """Columns of zeros alone: inputs that are not used."""

    @property
    def sparsity(self) -> float:
        """Zeros over elements."""
        return 1.0 - self.nonzeros / self.elements

    @property
    def layer(self) -> str:
        """The module that holds it; of a recurrent module also which of its layers (`rnn.l0`)."""
        path, _, leaf = self.name.rpartition(".")
        number = re.search(r"_(l\d+(_reverse)?)$", leaf)
        return ".".join(part for part in (path, number[1] if number else "") if part)


@dataclass(frozen=True)
class Statistics:
    """The prunable tensors, and the totals of the model around them."""

    tensors: tuple[TensorStatistics, ...]
    parameters: int
    """Elements of the whole model, tied parameters once."""
    nonzeros: int
    """Of these, how many are not exactly zero."""

    @property
    def prunable_parameters(self) -> int:
        """Elements of the prunable tensors."""
        return sum(t.elements for t in self.tensors)

    @property
    def prunable_nonzeros(self) -> int:
        """Non-zeros of the prunable tensors."""
        return sum(t.nonzeros for t in self.tensors)

    @property
    def prunable_sparsity(self) -> float:
        """Zeros over elements of the prunable tensors."""
        return 1.0 - self.prunable_nonzeros / self.prunable_parameters

    @property
    def model_sparsity(self) -> float:
        """Zeros over elements of the whole model, biases and norms included."""
        return 1.0 - self.nonzeros / self.parameters

    def by_group(self) -> dict[str, Total]:
        """All recurrent, all input, all linear and all convolution weights, where there are any."""
        return self._totals([t.group for t in self.tensors])

    def by_layer(self) -> dict[str, Total]:
        """The weights of each layer together; each direction is a layer of its own."""
        return self._totals([t.layer for t in self.tensors])

    def _totals(self, keys: list[str]) -> dict[str, Total]:
        totals: dict[str, Total] = {}
        for key, t in zip(keys, self.tensors, strict=True):
            so_far = totals.get(key, Total(0, 0))
            totals[key] = Total(so_far.elements + t.elements, so_far.nonzeros + t.nonzeros)
        return totals

    def table(self) -> str:
        """The figures as text: each tensor with its gates, layers of several tensors, groups."""
        names = [t.layer for t in self.tensors]
        several = {n: t for n, t in self.by_layer().items() if n and names.count(n) > 1}
        layers = {f"layer {name}": total for name, total in several.items()}
        groups = {f"all {name}": total for name, total in self.by_group().items()}
        sums = (layers if len(layers) > 1 else {}) | (groups if len(groups) > 1 else {})
        width = max(map(len, ["prunable tensors", *sums, *(t.name for t in self.tensors)]))
        lines = [
            f"{'tensor':<{width}}  {'group':<11}  {'elements':>11}  {'nonzeros':>11}  sparsity"
        ]

        def line(name: str, group: str, elements: int, nonzeros: int, sparsity: float) -> str:
            return (
                f"{name:<{width}}  {group:<11}  {elements:>11,}  {nonzeros:>11,}  {sparsity:>8.2%}"
            )

        for t in self.tensors:
            row = line(t.name, t.group, t.elements, t.nonzeros, t.sparsity)
            notes = ", ".join(f"{gate} {sparsity:.1%}" for gate, sparsity in t.gates.items())
            counts = {"row": t.empty_rows, "column": t.empty_columns}
            empty = [f"{n} empty {what}{'s' * (n > 1)}" for what, n in counts.items() if n]
            notes = "; ".join(filter(None, (notes, ", ".join(empty))))
            lines.append(f"{row}  ({notes})" if notes else row)
        for name, total in sums.items():
            lines.append(line(name, "", total.elements, total.nonzeros, total.sparsity))
        prunable = (self.prunable_parameters, self.prunable_nonzeros, self.prunable_sparsity)
        lines.append(line("prunable tensors", "", *prunable))
        lines.append(line("whole model", "", self.parameters, self.nonzeros, self.model_sparsity))
        return "\n".join(lines)


def statistics(
    model: nn.Module | Mapping[str, Tensor], patterns: Iterable[str] | None = None
) -> Statistics:
    """Count the zeros of a model, or of its weights by name.

    patterns: the tensors that count as prunable, as in `find`; None takes all that it finds. Of
    weights by name these are the ones with two or more dimensions whose last name begins with
    "weight" or ends with "_proj_weight": names do not distinguish an embedding from a linear layer.
    A model's totals are over its parameters, tied ones once; those of weights by name over
    everything given. Raises AsrError for a pattern that matches nothing.

    >>> layer = nn.Linear(4, 2)
    >>> _ = nn.init.eye_(layer.weight)
    >>> statistics(layer).prunable_sparsity
    0.75
    """
    if isinstance(model, nn.Module):
        prunable: dict[str, Tensor] = dict(find(model, patterns))
    else:
        prunable = _matching(model, patterns)
    everything = weights_of(model)
    # By identity: a weight tied to a module that is not prunable has another first name there.
    once = {id(t): t for t in everything.values()}.values()
    return Statistics(
        tuple(_tensor(name, weight, everything) for name, weight in prunable.items()),
        parameters=sum(t.numel() for t in once),
        nonzeros=sum(int(t.detach().count_nonzero()) for t in once),
    )


def weights_of(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name; tied ones under the names that they are pruned by too."""
    if isinstance(model, nn.Module):
        return {**dict(model.named_parameters()), **find(model)}
    return dict(model)


def _matching(
    everything: Mapping[str, Tensor], patterns: Iterable[str] | None
) -> dict[str, Tensor]:
    known = {name: weight for name, weight in everything.items() if _counts(name, weight)}
    if not known:
        raise AsrError(
            "no prunable weight among these tensors: those count that have two or more dimensions "
            'and are called "weight..." or "..._proj_weight". If they are computed from others, '
            f"{MAKE_ORDINARY}"
        )
    patterns = ["*"] if patterns is None else [patterns] if isinstance(patterns, str) else patterns
    found: set[str] = set()
    for pattern in patterns:
        hits = {name for name in known if fnmatchcase(name, pattern)}
        if not hits:
            raise AsrError(
                f"no prunable weight matches {pattern!r}; there are:\n  " + "\n  ".join(known)
            )
        found |= hits
    return {name: weight for name, weight in known.items() if name in found}


def _counts(name: str, weight: Tensor) -> bool:
    leaf = name.rpartition(".")[2]
    named = leaf.startswith("weight") or leaf.endswith("_proj_weight")  # attention has the latter
    return named and weight.dim() >= 2 and weight.numel() > 0


def _tensor(name: str, weight: Tensor, everything: Mapping[str, Tensor]) -> TensorStatistics:
    weight = weight.detach()
    gates = gate_names(name, everything)
    kept = weight.flatten(1) != 0
    parts = weight.chunk(len(gates)) if gates else ()
    return TensorStatistics(
        name,
        tuple(weight.shape),
        weight.numel(),
        int(weight.count_nonzero()),
        group_of_shape(name, weight.dim()),
        {g: 1.0 - int(p.count_nonzero()) / p.numel() for g, p in zip(gates, parts, strict=True)},
        empty_rows=int((~kept.any(1)).sum()),
        empty_columns=int((~kept.any(0)).sum()),
    )


def gate_names(name: str, everything: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Gates stacked in the tensor `name`, in the order of torch's rows, none if it has none.

    Found from rows over hidden units, by the shapes in `everything` alone.
    """
    path, dot, leaf = name.rpartition(".")
    if not leaf.startswith(("weight_ih", "weight_hh")):
        return ()
    hidden = path + dot + leaf.replace("weight_ih", "weight_hh", 1)
    if hidden.replace("weight_hh", "weight_hr", 1) in everything:
        return _GATES[4]  # only LSTMs have projections, and with them rows over columns mislead
    if hidden not in everything:
        return ()
    rows, units = everything[hidden].shape
    return _GATES.get(rows // units, ())
