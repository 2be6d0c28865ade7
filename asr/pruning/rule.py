"""What is pruned how: which tensors, when, in which pattern, ranked among which others.

All conflicts between these choices are found here, for code and for settings alike.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from asr.errors import AsrError
from asr.pruning.checks import is_number, plain_number
from asr.pruning.patterns import Bank, Block, Element, Pattern
from asr.pruning.prunable import (
    MAKE_ORDINARY,
    PassedOver,
    aliases,
    computed,
    find,
    frozen,
    tied_to_embeddings,
)
from asr.pruning.rigl import RigL
from asr.pruning.schedule import (
    FixedMask,
    Schedule,
    SparsitySchedule,
    ThresholdSchedule,
)

Scope = Literal["tensor", "group", "global"]


@dataclass(frozen=True)
class Rule:
    """One way of pruning for some tensors; a Pruner takes one rule or several.

    Raises AsrError if the parts do not fit each other. Which tensors there are is checked when a
    Pruner is made.

    >>> from asr.pruning import Bank, Cubic, Rule
    >>> schedule = Cubic.from_fractions(total_steps=10_000, start=0.1, end=0.6, target=0.9)
    >>> Rule(schedule, tensors=["rnn*"], pattern=Bank(32)).schedule
    Cubic(start=1000, end=6000, frequency=125, target=0.9, initial=0.0)
    """

    schedule: Schedule
    """A `ThresholdRamp` with a target or thresholds, a schedule of sparsities, or `FixedMask`."""
    tensors: Iterable[str] | None = None
    """Patterns of names, as in `find`; None: what `thresholds` names, else all."""
    pattern: Pattern = field(default_factory=Element)
    """`Element`, `Block` or `Bank`."""
    scope: Scope = "tensor"
    """Which weights are ranked together: those of a tensor, of a group (recurrent, input, linear,
    convolution), or of all tensors of this rule."""
    thresholds: Mapping[str, float] | None = None
    """With a ramp: q of each tensor, from `calibrate`; with a target it is optional."""
    keep_zeros: bool = False
    """Whether zeros found when the Pruner is made stay zero, for pruning a pruned network further;
    `FixedMask` always does so."""

    def __post_init__(self) -> None:
        if isinstance(self.tensors, str):
            object.__setattr__(self, "tensors", (self.tensors,))
        elif self.tensors is not None:
            object.__setattr__(self, "tensors", tuple(self.tensors))
        if not isinstance(self.schedule, SparsitySchedule | ThresholdSchedule | FixedMask):
            raise AsrError(
                f"{type(self.schedule).__name__} is not a pruning schedule; give a ThresholdRamp, "
                "Cubic, OneShot, RigL or FixedMask"
            )
        if not isinstance(self.pattern, Pattern):
            raise AsrError(f"pattern={self.pattern!r}: Element(), Block(rows, columns) or Bank()")
        if self.scope not in ("tensor", "group", "global"):
            raise AsrError(f'scope={self.scope!r}: "tensor", "group" or "global"')
        kind = type(self.schedule).__name__
        for wrong, message in self._conflicts():
            if wrong:
                raise AsrError(f"{kind}: {message}")

    def _conflicts(self) -> list[tuple[bool, str]]:
        schedule, bank = self.schedule, isinstance(self.pattern, Bank)
        ramp = isinstance(schedule, ThresholdSchedule)
        target = getattr(schedule, "target", None)
        plain = self.pattern == Element() and self.scope == "tensor"
        l2 = isinstance(self.pattern, Block) and self.pattern.score == "l2"
        return [
            (
                not ramp and bool(self.thresholds),
                "it compares no thresholds, which are for ThresholdRamp",
            ),
            (
                isinstance(schedule, FixedMask) and not plain,
                "it keeps the zeros that are there and chooses none, so it takes no pattern and no "
                "scope",
            ),
            (
                ramp and not (self.thresholds or target is not None),
                "it needs a target, the sparsity to end at; or thresholds, q for each tensor, "
                "calibrated from a trained dense network",
            ),
            (
                ramp and bank,
                "banks of equal counts need a schedule of sparsities, such as Cubic",
            ),
            (
                ramp and bool(self.thresholds) and self.scope != "tensor",
                f'scope="{self.scope}" needs a target and no thresholds, which are of single '
                'tensors; calibrate(by="group") makes common ones',
            ),
            (
                ramp and target is None and l2,
                'thresholds are for blocks of score="max"; "l2" needs a target or a schedule of '
                "sparsities",
            ),
            (
                isinstance(schedule, RigL) and not plain,
                "it replaces single weights of each tensor, so it takes no pattern and no scope",
            ),
            (
                getattr(schedule, "regrows", False) and self.keep_zeros,
                "it lets weights come back, which keep_zeros forbids",
            ),
            (
                bank and self.scope != "tensor",
                f'banks keep equal counts everywhere, so scope="{self.scope}" has no meaning',
            ),
        ]

    def to_plain(self) -> dict[str, Any]:
        """Plain values that distinguish this rule from another."""
        thresholds = self.thresholds
        return {
            "schedule": self.schedule.to_plain(),
            "tensors": None if self.tensors is None else list(self.tensors),
            "pattern": self.pattern.to_plain(),
            "scope": self.scope,
            "thresholds": thresholds and {n: plain_number(q) for n, q in thresholds.items()},
            "keep_zeros": self.keep_zeros,
        }


def as_rules(rules: Rule | Iterable[Rule]) -> tuple[Rule, ...]:
    """One rule or several as a tuple; `resolve` refuses what is not a rule."""
    return tuple(rules) if isinstance(rules, Iterable) else (rules,)


def resolve(model: nn.Module, rules: Iterable[Rule]) -> list[tuple[Rule, list[str]]]:
    """Every rule with the names of its tensors, in the model's order.

    A rule for all tensors leaves out those that are computed from others, frozen, or tied to an
    embedding, and warns (PassedOver) of them by name. Raises AsrError for a pattern that matches
    one of the first two, for a pattern that matches nothing, and for a tensor in two rules.
    """
    resolved: list[tuple[Rule, list[str]]] = []
    taken: dict[str, int] = {}
    for number, rule in enumerate(rules, 1):
        if not isinstance(rule, Rule):
            raise AsrError(
                f"{type(rule).__name__} is not a Rule, which a schedule is a part of: write "
                "Rule(schedule, ...)"
            )
        patterns = rule.tensors
        if patterns is None and rule.thresholds:
            _check_names(model, rule.thresholds)
            patterns = list(rule.thresholds)
        names = _trained(model, rule, patterns)
        for name in names:
            if name in taken:
                raise AsrError(
                    f"{name} is in rule {taken[name]} and in rule {number}: choose the tensors of "
                    "each rule with tensors=[...]"
                )
            taken[name] = number
        resolved.append((rule, names))
    if not resolved:
        raise AsrError("no rule given, so nothing would be pruned")
    return resolved


def _trained(model: nn.Module, rule: Rule, patterns: Iterable[str] | None) -> list[str]:
    """Names of the tensors that these patterns choose and that training can prune."""
    chosen = None if patterns is None else list(patterns)
    unfit = {
        name: f"computed from {parts}: {MAKE_ORDINARY}"
        for name, parts in computed(model).items()
        if chosen is None or any(fnmatchcase(name, pattern) for pattern in chosen)
    }
    found = find(model, chosen)
    if not isinstance(rule.schedule, FixedMask):  # a mask that never changes harms no frozen weight
        unfit |= dict.fromkeys(
            frozen(found.items()), "frozen (requires_grad is False), and could not recover"
        )
        if chosen is None:
            unfit |= {
                name: f"also the embedding {embedding}"
                for name, embedding in tied_to_embeddings(model).items()
            }
    names = [name for name in found if name not in unfit]
    listed = "".join(f"\n  {name}: {why}" for name, why in unfit.items())
    if chosen is not None and unfit:
        raise AsrError(f"these weights cannot be pruned in training:{listed}\nor leave them out")
    if not names:
        raise AsrError(f"{type(model).__name__} has no weight that can be pruned:{listed}")
    if unfit:
        warnings.warn(
            f"these weights stay dense:{listed}\nchoose with tensors=[...] what is pruned",
            PassedOver,
            stacklevel=2,
        )
    return names


def resolve_thresholds(model: nn.Module, rule: Rule, names: list[str]) -> dict[str, float]:
    """q of each of these tensors, under the names that `find` gives; empty if the rule has none.

    Raises AsrError for a name that is not a prunable weight, a q that is not a positive number, two
    for one tied tensor, and a tensor without one.
    """
    if not rule.thresholds:
        return {}
    _check_names(model, rule.thresholds)
    first = aliases(model)
    found: dict[str, float] = {}
    for name, q in rule.thresholds.items():
        if not (is_number(q) and q > 0):
            raise AsrError(f"threshold of {name}: q={q!r} must be a number above 0")
        if first[name] in found:
            raise AsrError(f"two thresholds for {first[name]}: {name} is the same, tied parameter")
        found[first[name]] = float(q)
    if missing := [name for name in names if name not in found]:
        raise AsrError(f"no threshold for {', '.join(missing)}: calibrate with these names")
    return {name: found[name] for name in names}


def _check_names(model: nn.Module, thresholds: Mapping[str, float]) -> None:
    first = aliases(model)
    for name in thresholds:
        if name not in first:
            raise AsrError(
                f"threshold for {name!r}, which is not a prunable weight; there are:\n  "
                + "\n  ".join(first)
            )
