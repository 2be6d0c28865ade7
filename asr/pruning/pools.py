"""Tensors whose weights compete with each other, and the choice among them at an update."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.controller import Controller
from asr.pruning.masks import count_for, keep_largest, nth_largest
from asr.pruning.patterns import Bank, Block
from asr.pruning.prunable import group_of
from asr.pruning.rules import Rule, resolve, resolve_rates, resolve_thresholds
from asr.pruning.schedule import Schedule, SparsitySchedule, ThresholdSchedule

_ALWAYS = float("inf")


@dataclass
class Pool:
    """One competition: a tensor, a group of tensors or all of a rule."""

    rule: Rule
    names: list[str]
    schedule: Schedule
    """The rule's, with the final share of this tensor if it has a rate of its own."""
    target: float | None = None
    """Sparsity that a ramp shall end at."""
    q: dict[str, float] = field(default_factory=dict)
    """Threshold of each tensor that has one."""
    controller: Controller | None = None

    @property
    def thresholds(self) -> dict[str, float]:
        """q of each tensor: the one given, or the one that a target has led to so far."""
        if self.controller is not None and self.controller.reached:
            return dict.fromkeys(self.names, self.controller.effective_q)
        return dict(self.q)

    @property
    def final(self) -> float | None:
        """Share dropped in the end; None if thresholds or found zeros decide."""
        return self.schedule.final if isinstance(self.schedule, SparsitySchedule) else self.target

    def check_start(self, keeps: Mapping[str, Tensor]) -> None:
        """Raise AsrError if masks to begin with have dropped more than is wanted in the end."""
        elements = sum(keep.numel() for keep in keeps.values())
        dropped = 1 - sum(int(keep.count_nonzero()) for keep in keeps.values()) / elements
        if self.final is not None and dropped > self.final + 0.005:
            raise AsrError(
                f"{', '.join(keeps)}: {dropped:.2%} of the weights are zero already, more than the "
                f"{self.final:.2%} wanted, and keep_zeros lets none come back"
            )

    def keeps(
        self, step: int, weights: Mapping[str, nn.Parameter], previous: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], float | None]:
        """New masks of its tensors at the update `step`, and the threshold, None with a share.

        previous: masks so far, of the tensors that have lost something. Raises AsrError for
        weights or scores that are not finite, and scores of another shape.
        """
        alive = {} if self.rule.regrow else previous
        scores = {n: self._scores(step, n, weights[n], previous.get(n)) for n in self.names}
        if isinstance(self.rule.pattern, Bank):
            assert isinstance(self.schedule, SparsitySchedule)
            pattern, share = self.rule.pattern, self.schedule.sparsity(step)
            units = {n: pattern.units(s, alive.get(n)).view(s.shape) for n, s in scores.items()}
            return {n: pattern.keep(u, share) for n, u in units.items()}, None
        units = {n: self.rule.pattern.units(s, alive.get(n)) for n, s in scores.items()}
        if self.rule.floor:
            units = {n: _protect(u, self.rule.floor) for n, u in units.items()}
        pooled = torch.cat(list(units.values())) if len(units) > 1 else next(iter(units.values()))
        keep, eps = self._choose(step, pooled, {n: s.shape for n, s in scores.items()})
        parts = keep.split([u.numel() for u in units.values()])
        masks = {}
        for name, part in zip(units, parts, strict=True):
            mask = self.rule.pattern.expand(part, scores[name].shape)
            masks[name] = mask & alive[name] if name in alive else mask
        return masks, eps

    def _scores(
        self, step: int, name: str, weight: nn.Parameter, previous: Tensor | None
    ) -> Tensor:
        # From float32, so that bfloat16 weights are not rounded to the threshold.
        magnitude = weight.detach().float().abs()
        if not torch.isfinite(magnitude).all():
            raise AsrError(f"{name} holds NaN or infinite weights: training has broken down")
        if isinstance(self.schedule, SparsitySchedule):
            own = self.schedule.scores(step, name, weight, previous)
            if own is not None:
                return own
        if self.rule.score is None:
            return magnitude
        scores = self.rule.score(name, weight)
        if scores.shape != weight.shape:
            raise AsrError(
                f"the score of {name} is of shape {list(scores.shape)}, the weight of "
                f"{list(weight.shape)}: a score for each element is needed"
            )
        scores = scores.detach().float()
        if not torch.isfinite(scores).all():
            raise AsrError(f"the score of {name} holds NaN or infinite values")
        return scores

    def _choose(
        self, step: int, units: Tensor, shapes: Mapping[str, torch.Size]
    ) -> tuple[Tensor, float | None]:
        """Which units (n,) stay, and the threshold, None with a share."""
        schedule, controller = self.schedule, self.controller
        if isinstance(schedule, SparsitySchedule):
            return keep_largest(units, self._count(units, shapes, schedule.sparsity(step))), None
        assert isinstance(schedule, ThresholdSchedule)
        if controller is None or self.target is None:
            (name,) = self.names
            eps = schedule.threshold(step, self.q[name]) * self.rule.pattern.scale
            return units >= eps, eps
        count = self._count(units, shapes, self.target)
        eps = controller.raise_to(step, float(nth_largest(units, max(1, count))))
        # Weights of equal size at the threshold would all stay: the last update counts.
        return keep_largest(units, count) if schedule.is_finished(step) else units >= eps, eps

    def _count(self, units: Tensor, shapes: Mapping[str, torch.Size], sparsity: float) -> int:
        """Units (n,) that stay when this share is dropped: not more than are alive, not fewer
        than the floor protects."""
        sizes = {name: self.rule.pattern.sizes(shape) for name, shape in shapes.items()}
        together = None
        if any(size is not None for size in sizes.values()):
            together = torch.cat([_sizes(size, shapes[n], self.rule) for n, size in sizes.items()])
        count = count_for(units, together, sparsity)
        if self.rule.floor:
            count = max(count, int((units == _ALWAYS).count_nonzero()))
        return min(count, int((units > -_ALWAYS).count_nonzero()))


def make_pools(model: nn.Module, rules: Iterable[Rule]) -> list[Pool]:
    """The competitions that these rules mean for this model.

    Raises AsrError as `resolve`, `resolve_thresholds` and `resolve_rates` do.
    """
    pools = []
    for rule, names in resolve(model, rules):
        q = resolve_thresholds(model, rule, names)
        rates = resolve_rates(model, rule, names)
        for members in _members(model, rule, names):
            first = members[0]
            schedule, target = rule.schedule, rule.target
            if isinstance(schedule, SparsitySchedule) and first in rates:
                schedule = schedule.with_final(rates[first])
            elif target is not None:
                target = rates.get(first, target)
            controller = None
            if target is not None:
                assert isinstance(schedule, ThresholdSchedule)
                known = q[first] * rule.pattern.scale if q else None
                controller = Controller(schedule, known)
            known_q = {name: q[name] for name in members if name in q}
            pools.append(Pool(rule, members, schedule, target, known_q, controller))
    return pools


def _members(model: nn.Module, rule: Rule, names: list[str]) -> list[list[str]]:
    """Names that compete with each other, by the rule's scope."""
    if rule.scope == "global":
        return [names]
    if rule.scope == "tensor":
        return [[name] for name in names]
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(group_of(model, name), []).append(name)
    return list(groups.values())


def _sizes(sizes: Tensor | None, shape: torch.Size, rule: Rule) -> Tensor:
    if sizes is not None:
        return sizes
    assert isinstance(rule.pattern, Block)  # single elements are all alike, in every tensor
    size = rule.pattern.rows * rule.pattern.columns
    return torch.full((shape.numel() // size,), size)


def _protect(units: Tensor, floor: float) -> Tensor:
    """Infinite scores for the largest units, the share `floor` of them, as far as they live."""
    count = min(math.ceil(floor * units.numel()), int((units > -_ALWAYS).count_nonzero()))
    return units.masked_fill(keep_largest(units, count), _ALWAYS)
