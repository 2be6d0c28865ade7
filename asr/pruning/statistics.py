"""What was reached: sparsity per tensor, of the prunable tensors, and of the whole model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.prunable import find, group_of_shape

_GATES = {3: ("reset", "update", "new"), 4: ("input", "forget", "cell", "output")}


@dataclass(frozen=True)
class TensorStatistics:
    """One weight."""

    name: str
    shape: tuple[int, ...]
    elements: int
    nonzeros: int
    group: str
    """recurrent, input, linear or convolution."""
    prunable: bool = True
    """Whether it is among the tensors chosen to be pruned."""
    gates: dict[str, float] = field(default_factory=dict)
    """Sparsity of each gate's rows, for the weights of GRU and LSTM."""

    @property
    def sparsity(self) -> float:
        """Zeros over elements."""
        return 1.0 - self.nonzeros / self.elements


@dataclass(frozen=True)
class Statistics:
    """Every recurrent, linear and convolution weight, and the totals of the model around them."""

    tensors: tuple[TensorStatistics, ...]
    parameters: int
    """Elements of the whole model, tied parameters once."""
    nonzeros: int
    """Of these, how many are not exactly zero."""

    @property
    def prunable_parameters(self) -> int:
        """Elements of the prunable tensors."""
        return sum(t.elements for t in self.tensors if t.prunable)

    @property
    def prunable_nonzeros(self) -> int:
        """Non-zeros of the prunable tensors."""
        return sum(t.nonzeros for t in self.tensors if t.prunable)

    @property
    def prunable_sparsity(self) -> float:
        """Zeros over elements of the prunable tensors."""
        return 1.0 - self.prunable_nonzeros / self.prunable_parameters

    @property
    def model_sparsity(self) -> float:
        """Zeros over elements of the whole model, biases and norms included."""
        return 1.0 - self.nonzeros / self.parameters

    def table(self) -> str:
        """The figures as text, a line for each tensor and its gates."""
        width = max(len("prunable tensors"), *(len(t.name) for t in self.tensors))
        lines = [
            f"{'tensor':<{width}}  {'group':<11}  {'elements':>11}  {'nonzeros':>11}  sparsity"
        ]

        def line(name: str, group: str, elements: int, nonzeros: int, share: float) -> str:
            return f"{name:<{width}}  {group:<11}  {elements:>11,}  {nonzeros:>11,}  {share:>8.2%}"

        for t in self.tensors:
            row = line(t.name, t.group, t.elements, t.nonzeros, t.sparsity)
            gates = ", ".join(f"{gate} {share:.1%}" for gate, share in t.gates.items())
            notes = [f"({gates})"] * bool(gates) + ["not chosen"] * (not t.prunable)
            lines.append("  ".join([row, *notes]))
        prunable = (self.prunable_parameters, self.prunable_nonzeros, self.prunable_sparsity)
        lines.append(line("prunable tensors", "", *prunable))
        lines.append(line("whole model", "", self.parameters, self.nonzeros, self.model_sparsity))
        return "\n".join(lines)


def statistics(
    model: nn.Module | Mapping[str, Tensor], patterns: Iterable[str] | None = None
) -> Statistics:
    """Count the zeros of a model, or of its weights by name.

    Listed are all weights that `find` knows; of weights by name, those with two or more
    dimensions whose last name begins with "weight" (names do not tell an embedding from a linear
    layer). patterns: which of them count as prunable, as in `find`; None takes all. A model's
    totals are over its parameters, tied ones once; those of weights by name over everything given.
    Raises AsrError for a pattern that matches nothing.
    """
    if isinstance(model, nn.Module):
        listed: dict[str, Tensor] = dict(find(model))
        prunable = set(find(model, patterns))
        everything: dict[str, Tensor] = {**dict(model.named_parameters()), **listed}
    else:
        everything = dict(model)
        listed = {n: t for n, t in everything.items() if _looks_prunable(n, t)}
        prunable = _matching(listed, ["*"] if patterns is None else patterns)
    # By identity: a weight tied to a module that is not prunable has another first name there.
    once = {id(t): t for t in everything.values()}.values()
    return Statistics(
        tuple(_tensor(name, t, everything, name in prunable) for name, t in listed.items()),
        parameters=sum(t.numel() for t in once),
        nonzeros=sum(int(t.detach().count_nonzero()) for t in once),
    )


def _looks_prunable(name: str, weight: Tensor) -> bool:
    return weight.dim() >= 2 and name.rpartition(".")[2].startswith("weight")


def _matching(listed: Mapping[str, Tensor], patterns: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        hits = {name for name in listed if fnmatchcase(name, pattern)}
        if not hits:
            raise AsrError(
                f"no prunable weight matches {pattern!r}; there are:\n  " + "\n  ".join(listed)
            )
        found |= hits
    return found


def _tensor(
    name: str, weight: Tensor, everything: Mapping[str, Tensor], prunable: bool
) -> TensorStatistics:
    weight = weight.detach()
    gates = _gate_names(name, weight, everything)
    parts = weight.chunk(len(gates)) if gates else ()
    return TensorStatistics(
        name,
        tuple(weight.shape),
        weight.numel(),
        int(weight.count_nonzero()),
        group_of_shape(name, weight.dim()),
        prunable,
        {g: 1.0 - int(p.count_nonzero()) / p.numel() for g, p in zip(gates, parts, strict=True)},
    )


def _gate_names(name: str, weight: Tensor, everything: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Gates in the order of torch's rows: told by rows over units, from shapes alone."""
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
