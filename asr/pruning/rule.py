"""What shall be pruned how: which tensors, when, in which pattern, compared with which others."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.patterns import Bank, Block, Element, Pattern
from asr.pruning.prunable import aliases, find
from asr.pruning.rigl import RigL
from asr.pruning.schedule import (
    Frozen,
    Schedule,
    SparsitySchedule,
    ThresholdSchedule,
    check_share,
    is_number,
    plain_number,
)

Scope = Literal["tensor", "group", "global"]
Score = Callable[[str, nn.Parameter], Tensor]


@dataclass(frozen=True)
class Rule:
    """One way of pruning for some tensors; a Pruner takes one rule or several.

    Raises AsrError if the parts do not fit each other. Which tensors there are is checked when a
    Pruner is made.
    """

    schedule: Schedule
    """A `ThresholdRamp` with thresholds or a target, a schedule of sparsities, or `Frozen`."""
    tensors: Iterable[str] | None = None
    """Patterns of names, as in `find`; None: what `thresholds` names, else all."""
    pattern: Pattern = field(default_factory=Element)
    """`Element`, `Block` or `Bank`."""
    scope: Scope = "tensor"
    """Whose weights compete: of a tensor, of a group (recurrent, input, linear, convolution), or
    of all tensors of this rule."""
    target: float | None = None
    """With a ramp: the sparsity to end at; its slopes are corrected on the way."""
    thresholds: Mapping[str, float] | None = None
    """With a ramp: q of each tensor, from `calibrate`; with a target it is optional."""
    rates: Mapping[str, float] | None = None
    """Pattern of names -> final sparsity, for tensors that differ from the schedule's or target."""
    score: Score | None = None
    """(name, parameter) -> scores of its shape, the large ones stay; None: magnitude."""
    regrow: bool = False
    """Whether a dropped weight may come back, at zero, if its score is large at an update; the
    gradients of the step before an update are then left dense."""
    floor: float = 0.0
    """Share of every tensor that stays at least, whatever the threshold or share says."""
    keep_zeros: bool = False
    """Whether zeros found when the Pruner is made stay zero; `Frozen` always does so."""

    def __post_init__(self) -> None:
        if isinstance(self.tensors, str):
            object.__setattr__(self, "tensors", (self.tensors,))
        elif self.tensors is not None:
            object.__setattr__(self, "tensors", tuple(self.tensors))
        if not isinstance(self.schedule, SparsitySchedule | ThresholdSchedule | Frozen):
            raise AsrError(
                f"{type(self.schedule).__name__} is not a pruning schedule; give a ThresholdRamp, "
                "Cubic, Linear, Constant, OneCut or Frozen"
            )
        if not isinstance(self.pattern, Pattern):
            raise AsrError(f"pattern={self.pattern!r}: Element(), Block(rows, columns) or Bank()")
        if self.scope not in ("tensor", "group", "global"):
            raise AsrError(f'scope={self.scope!r}: "tensor", "group" or "global"')
        if not is_number(self.floor) or not 0 <= self.floor < 1:
            raise AsrError(f"floor={self.floor!r}: a share from 0 to below 1")
        if self.target is not None:
            check_share("target", self.target)
        for name, rate in (self.rates or {}).items():
            check_share(f"rate of {name!r}", rate)
        if self.score is not None and not callable(self.score):
            raise AsrError(f"score={self.score!r}: a function (name, parameter) -> scores")
        kind = type(self.schedule).__name__
        for wrong, message in self._conflicts():
            if wrong:
                raise AsrError(f"{kind}: {message}")

    def _conflicts(self) -> list[tuple[bool, str]]:
        schedule, bank = self.schedule, isinstance(self.pattern, Bank)
        shares = isinstance(schedule, SparsitySchedule)
        ramp = isinstance(schedule, ThresholdSchedule)
        wanted = shares or self.target is not None
        frozen = isinstance(schedule, Frozen)
        plain = self.pattern == Element() and self.scope == "tensor" and not self.floor
        l2 = isinstance(self.pattern, Block) and self.pattern.score == "l2"
        return [
            (frozen and bool(self.thresholds), "it compares nothing: give it no thresholds"),
            (
                frozen and not (plain and self.score is None and not (self.rates or self.target)),
                "it keeps the zeros that are there and chooses none: give it tensors alone",
            ),
            (
                shares and bool(self.thresholds),
                "it drops shares and compares no thresholds, which are for ThresholdRamp",
            ),
            (
                shares and self.target is not None,
                "it has its final share already; target is for ThresholdRamp",
            ),
            (
                ramp and not (self.thresholds or self.target is not None),
                "it needs thresholds, q for each tensor: calibrate(dense, find(model)); or a "
                "target, the sparsity to end at",
            ),
            (ramp and bank, "banks of equal counts need a schedule of sparsities, such as Cubic"),
            (
                ramp and not wanted and self.scope != "tensor",
                f'scope="{self.scope}" needs a target; calibrate(by="group") makes common q',
            ),
            (ramp and not wanted and bool(self.rates), "rates need a target for the others"),
            (
                ramp and not wanted and l2,
                'thresholds are for blocks of score="max"; "l2" needs a target or a schedule of '
                "sparsities",
            ),
            (
                ramp and not wanted and self.score is not None,
                "thresholds compare magnitudes; a score needs a target or a schedule of sparsities",
            ),
            (
                ramp and self.regrow,
                "under a threshold no weight comes back; regrow needs a schedule of sparsities",
            ),
            (frozen and self.regrow, "its zeros stay; regrow needs a schedule of sparsities"),
            (
                self.regrow and self.keep_zeros,
                "regrow and keep_zeros contradict each other",
            ),
            (
                isinstance(schedule, RigL)
                and not (self.regrow and plain and self.score is None and not self.keep_zeros),
                "it exchanges single weights of each tensor by its own scores: give it tensors, "
                "rates if need be, and regrow=True",
            ),
            (
                bank and self.scope != "tensor",
                f'banks keep equal counts everywhere, so scope="{self.scope}" has no meaning',
            ),
            (bank and self.floor > 0, "banks keep equal counts everywhere: they take no floor"),
            (
                bool(self.rates) and self.scope != "tensor",
                f'rates give each tensor its own share, so scope="{self.scope}" has no meaning',
            ),
            (
                ramp and self.scope != "tensor" and bool(self.thresholds),
                f'thresholds are of tensors; with scope="{self.scope}" give the target alone',
            ),
        ]

    def to_plain(self) -> dict[str, Any]:
        """Plain values that tell this rule from another; of a score only its name."""
        score = self.score
        return {
            "schedule": self.schedule.to_plain(),
            "tensors": None if self.tensors is None else list(self.tensors),
            "pattern": self.pattern.to_plain(),
            "scope": self.scope,
            "target": plain_number(self.target),
            "thresholds": _plain(self.thresholds),
            "rates": _plain(self.rates),
            "score": None if score is None else getattr(score, "__name__", type(score).__name__),
            "regrow": self.regrow,
            "floor": plain_number(self.floor),
            "keep_zeros": self.keep_zeros,
        }


def _plain(numbers: Mapping[str, float] | None) -> dict[str, float] | None:
    return None if numbers is None else {n: plain_number(value) for n, value in numbers.items()}


def resolve(model: nn.Module, rules: Iterable[Rule]) -> list[tuple[Rule, list[str]]]:
    """Every rule with the names of its tensors, in the model's order.

    Raises AsrError for a pattern that matches nothing, and for a tensor in two rules.
    """
    resolved: list[tuple[Rule, list[str]]] = []
    taken: dict[str, int] = {}
    for number, rule in enumerate(rules, 1):
        if not isinstance(rule, Rule):
            raise AsrError(
                f"{type(rule).__name__} is not a Rule: write Pruner(model, Rule(schedule, ...))"
            )
        patterns = rule.tensors
        if patterns is None and rule.thresholds:
            _check_names(model, rule.thresholds)
            patterns = list(rule.thresholds)
        names = list(find(model, patterns))
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


def resolve_thresholds(model: nn.Module, rule: Rule, names: list[str]) -> dict[str, float]:
    """q of each of these tensors, under the names that `find` gives; empty if the rule has none.

    Raises AsrError for a name that is no prunable weight, a q that is no positive number, two of
    one tied tensor, and a tensor without one.
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


def resolve_rates(model: nn.Module, rule: Rule, names: list[str]) -> dict[str, float]:
    """Final sparsity of the tensors that the rule's rates name; an alias of a tied tensor will do.

    Raises AsrError for a pattern that matches none of these tensors, or one that another one
    matches too.
    """
    first = aliases(model)
    found: dict[str, float] = {}
    by: dict[str, str] = {}
    for pattern, rate in (rule.rates or {}).items():
        hits = {first[name] for name in first if fnmatchcase(name, pattern)} & set(names)
        if not hits:
            raise AsrError(
                f"rate for {pattern!r}, which matches no tensor of its rule; there are:\n  "
                + "\n  ".join(names)
            )
        for name in hits:
            if name in found:
                raise AsrError(f"two rates for {name}: {by[name]!r} and {pattern!r} match it")
            found[name], by[name] = rate, pattern
    return found


def _check_names(model: nn.Module, thresholds: Mapping[str, float]) -> None:
    first = aliases(model)
    for name in thresholds:
        if name not in first:
            raise AsrError(
                f"threshold for {name!r}, which is no prunable weight; there are:\n  "
                + "\n  ".join(first)
            )
