"""What pruning will do to a model, before any training: tensors, updates, the predicted curve.

The prediction is what the rules would do to weights that do not change: those of a dense network
that was trained before, or normally distributed ones. Training moves weights, so under a threshold
without a target the sparsity that is reached differs; targets are reached exactly.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.masks import MIN_DENSITY, PrunedTooFar
from asr.pruning.patterns import Bank, Pattern
from asr.pruning.prunable import find, group_of
from asr.pruning.pruner import Pruner
from asr.pruning.rule import Rule, as_rules, resolve
from asr.pruning.schedule import FixedMask, Schedule, ThresholdSchedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 12
"""Lines of the curve in the table."""


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor that will be pruned."""

    name: str
    shape: tuple[int, ...]
    group: str
    rule: Rule
    curve: tuple[tuple[int, float], ...]
    """(step, predicted sparsity) at each update of any rule; of `FixedMask` at step 0."""

    @property
    def elements(self) -> int:
        """Weights of the tensor."""
        return torch.Size(self.shape).numel()

    @property
    def final(self) -> float:
        """Predicted sparsity after the last update."""
        return self.curve[-1][1]


@dataclass(frozen=True)
class Plan:
    """What `plan` found."""

    tensors: tuple[PlannedTensor, ...]
    curve: tuple[tuple[int, float], ...]
    """(step, predicted sparsity of all these tensors together) at each update."""
    prunable: int
    """Weights of the model that could be pruned."""
    parameters: int
    """Elements of the whole model, tied parameters once."""
    basis: str
    """Which weights the prediction is made from."""
    total_steps: int | None = None
    """Optimiser steps of the training, if known."""

    @property
    def elements(self) -> int:
        """Weights of the tensors that will be pruned."""
        return sum(t.elements for t in self.tensors)

    @property
    def final(self) -> float:
        """Predicted sparsity of the pruned tensors after the last update."""
        return self.curve[-1][1]

    def table(self) -> str:
        """Tensors, schedules and the curve as text."""
        rows = [("tensor", "shape", "weights", "group", "pattern", "schedule", "predicted")]
        for t in self.tensors:
            rows.append(
                (
                    t.name,
                    "x".join(map(str, t.shape)),
                    f"{t.elements:,}",
                    t.group,
                    _named(t.rule.pattern),
                    type(t.rule.schedule).__name__,
                    f"{t.final:.2%}",
                )
            )
        of_model = self.final * self.elements / self.parameters
        lines = _aligned(rows, right=(2, 6))
        lines += [
            "",
            f"pruned: {self.elements:,} of {self.prunable:,} prunable weights, of a model of "
            f"{self.parameters:,}; {self.final:.2%} of them, {of_model:.2%} of the model, "
            "will be 0",
        ]
        lines += [
            self._summary(rule) for rule in {id(t.rule): t.rule for t in self.tensors}.values()
        ]
        picks = _spread(len(self.curve), ROWS)
        curve = [("step", "sparsity"), *((f"{s:,}", f"{p:.2%}") for s, p in self.curve)]
        lines += ["", *_aligned([curve[0], *(curve[1 + i] for i in picks)], right=(0, 1))]
        return "\n".join([*lines, "", f"predicted from {self.basis}"])

    def draw(self) -> "Figure":
        """A figure of the curve, of all tensors together and of each."""
        from asr.pruning.picture import draw_curves

        last = max(self.total_steps or 0, self.curve[-1][0])
        curves = {t.name: t.curve for t in self.tensors}
        return draw_curves(self.curve, curves, last, f"predicted from {self.basis}")

    def _summary(self, rule: Rule) -> str:
        """When a rule changes masks, and at which sparsity it ends."""
        schedule, steps = rule.schedule, rule.schedule.update_steps
        kind = type(schedule).__name__
        if not steps:
            return f"{kind}: no updates, the zeros that are there stay"
        of = f" of {self.total_steps:,}" if self.total_steps else ""
        when = f"after step {steps[0]:,}{of}"
        if len(steps) > 1:
            apart = steps[-1] - steps[-2]
            every = "every step" if apart == 1 else f"every {apart:,} steps"
            when = f"after {every}, from step {steps[0]:,} to {steps[-1]:,}{of}"
        scope = "" if rule.scope == "tensor" else f", {rule.scope} scope"
        return f"{kind}: {len(steps)} updates {when}{scope}{_end(rule, schedule)}"


def plan(
    model: nn.Module,
    rules: Rule | Sequence[Rule],
    weights: nn.Module | Mapping[str, Tensor] | None = None,
    total_steps: int | None = None,
    min_density: float = MIN_DENSITY,
) -> Plan:
    """Predict what `Pruner(model, rules)` will do. The model is left as it is.

    weights: a trained dense model of the same tensors, or its weights by name; None: normally
    distributed ones of the standard deviation that each tensor has now. total_steps: of the
    training; an update after the last one is refused. A schedule with scores of its own sees
    gradients of 0. Raises AsrError as Pruner does, PrunedTooFar where a tensor would be nearly
    empty, and for thresholds without weights that they could be compared with.
    """
    given = as_rules(rules)
    stand_in = copy.deepcopy(model)
    chosen = {name: rule for rule, names in resolve(stand_in, given) for name in names}
    basis = _load(stand_in, chosen, weights)
    pruner = Pruner(stand_in, given, min_density=min_density, check_ranks=False)
    for weight in find(stand_in).values():
        weight.grad = torch.zeros_like(weight)
    steps = sorted({step for rule in given for step in rule.schedule.update_steps})
    if total_steps is not None and steps and steps[-1] > total_steps:
        raise AsrError(
            f"the last update is after step {steps[-1]}, but the training has {total_steps} steps"
        )
    points = [] if steps else [(0, pruner.sparsities())]
    for step in steps:
        pruner.steps = step - 1  # between updates nothing changes here
        try:
            pruner.step()
        except PrunedTooFar as error:
            raise PrunedTooFar(f"predicted for step {step}: {error}") from None
        points.append((step, pruner.sparsities()))
    sizes = {name: weight.numel() for name, weight in find(stand_in).items()}
    total = sum(sizes[name] for name in pruner.names)
    return Plan(
        tensors=tuple(
            PlannedTensor(
                name,
                tuple(find(stand_in)[name].shape),
                group_of(stand_in, name),
                chosen[name],
                tuple((step, sparsities[name]) for step, sparsities in points),
            )
            for name in pruner.names
        ),
        curve=tuple((s, sum(sizes[n] * x for n, x in p.items()) / total) for s, p in points),
        prunable=sum(sizes.values()),
        parameters=sum(p.numel() for p in model.parameters()),
        basis=basis,
        total_steps=total_steps,
    )


@torch.no_grad()
def _load(
    stand_in: nn.Module,
    chosen: Mapping[str, Rule],
    weights: nn.Module | Mapping[str, Tensor] | None,
) -> str:
    """Give the copy the weights that are predicted from; returns what they are."""
    tensors = find(stand_in)
    if weights is not None:
        known = weights.state_dict() if isinstance(weights, nn.Module) else weights
        for name in chosen:
            if name not in known or known[name].shape != tensors[name].shape:
                shape = list(known[name].shape) if name in known else "not there"
                raise AsrError(
                    f"{name} is {list(tensors[name].shape)} here and {shape} among the weights "
                    "to predict from: they must be of the same network"
                )
            tensors[name].copy_(known[name])
        return "the weights of a trained network, as if they did not change"
    for name, rule in chosen.items():
        if isinstance(rule.schedule, ThresholdSchedule) and rule.schedule.target is None:
            raise AsrError(
                f"{name}: its threshold says nothing without weights to compare it with; give "
                "plan() the dense network, or the schedule a target"
            )
    has_zeros = [
        name
        for name, rule in chosen.items()
        if rule.keep_zeros or isinstance(rule.schedule, FixedMask)
    ]
    if len(has_zeros) == len(chosen):
        return "the weights that are there, as if they did not change"
    generator = torch.Generator().manual_seed(0)
    for name in (name for name in chosen if name not in has_zeros):
        weight = tensors[name]
        spread = float(weight.float().std()) or 1.0
        weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    return "normally distributed weights, as if they did not change"


def _end(rule: Rule, schedule: Schedule) -> str:
    if isinstance(schedule, ThresholdSchedule):
        if schedule.target is not None:
            return f", to a target of {schedule.target:.2%}"
        return f", to {schedule.final_height:.3f} q"
    target = getattr(schedule, "target", 0.0)
    if isinstance(rule.pattern, Bank):
        columns = rule.pattern.columns
        return f", to {target:.2%}: {rule.pattern.count(target)} of {columns} columns are kept"
    return f", to {target:.2%}"


def _named(pattern: Pattern) -> str:
    """`block 16x1`, `bank 32`, `element`."""
    sizes = [str(v) for v in vars(pattern).values() if isinstance(v, int)]
    return " ".join([pattern.name, *filter(None, ["x".join(sizes)])])


def _spread(count: int, rows: int) -> list[int]:
    """At most `rows` indices, the first and the last among them, evenly apart."""
    if count <= rows:
        return list(range(count))
    return [round(i * (count - 1) / (rows - 1)) for i in range(rows)]


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if i in right else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
