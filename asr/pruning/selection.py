"""Tensors whose weights compete with each other, and the choice among them at an update."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.masks import count_for, keep_largest, nth_largest
from asr.pruning.patterns import Bank, Block
from asr.pruning.prunable import group_of
from asr.pruning.rule import Rule, resolve, resolve_rates, resolve_thresholds
from asr.pruning.schedule import Schedule, SparsitySchedule, ThresholdSchedule
from asr.pruning.target import Controller

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
        if isinstance(self.rule.pattern, Bank):
            self._check_banks(self.rule.pattern, keeps)
            return
        elements = sum(keep.numel() for keep in keeps.values())
        dropped = 1 - sum(int(keep.count_nonzero()) for keep in keeps.values()) / elements
        # What was pruned by whole blocks may be off by half a block.
        size = 1
        if isinstance(self.rule.pattern, Block):
            size = self.rule.pattern.rows * self.rule.pattern.columns
        if self.final is not None and dropped > self.final + 0.005 + size / elements:
            raise AsrError(
                f"{', '.join(keeps)}: {dropped:.2%} of the weights are zero already, more than the "
                f"{self.final:.2%} wanted, and keep_zeros lets none come back"
            )

    def _check_banks(self, pattern: Bank, keeps: Mapping[str, Tensor]) -> None:
        """Raise AsrError if a bank has fewer weights left than all of them shall keep."""
        assert self.final is not None
        for name, keep in keeps.items():
            wanted = pattern.keep(torch.zeros(keep.shape, device=keep.device), self.final)
            left, kept = (pattern.counts(mask) for mask in (keep, wanted))
            if bool((left < kept).any()):
                row, bank = (int(n) for n in (left < kept).nonzero()[0])
                raise AsrError(
                    f"{name}: row {row}, bank {bank} has {int(left[row, bank])} weights left where "
                    f"each shall keep {int(kept[row, bank])}, and keep_zeros lets none come back: "
                    "its zeros do not lie in such banks"
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
        sizes = self._sizes(scores, alive)
        keep, eps = self._choose(step, pooled, sizes, sum(s.numel() for s in scores.values()))
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
        self, step: int, units: Tensor, sizes: Tensor | None, elements: int
    ) -> tuple[Tensor, float | None]:
        """Which units (n,) stay, and the threshold, None with a share.

        sizes: elements that live in each unit; None if all units are alike. elements: of all the
        tensors together.
        """
        schedule, controller = self.schedule, self.controller
        if isinstance(schedule, SparsitySchedule):
            count = self._count(units, sizes, elements, schedule.sparsity(step))
            return keep_largest(units, count), None
        assert isinstance(schedule, ThresholdSchedule)
        if controller is None or self.target is None:
            (name,) = self.names
            eps = schedule.threshold(step, self.q[name]) * self.rule.pattern.scale
            return units >= eps, eps
        count = self._count(units, sizes, elements, self.target)
        at_target = float(nth_largest(units, max(1, count)))
        if at_target == _ALWAYS:  # all that stay are protected by the floor: drop all the others
            at_target = max(controller.eps, float(units.masked_fill(units == _ALWAYS, 0.0).max()))
        eps = controller.raise_to(step, at_target)
        # Weights of equal size at the threshold would all stay: the last update counts.
        return keep_largest(units, count) if schedule.is_finished(step) else units >= eps, eps

    def _sizes(self, scores: Mapping[str, Tensor], alive: Mapping[str, Tensor]) -> Tensor | None:
        """Elements that live in each unit of all tensors; None if all units are alike."""
        pattern = self.rule.pattern
        if not isinstance(pattern, Block):
            return None
        if self.rule.keep_zeros:  # blocks in which zeros were found are smaller than others
            living = [
                pattern.count(alive.get(n, torch.ones_like(s, dtype=torch.bool)))
                for n, s in scores.items()
            ]
            return torch.cat(living)
        sizes = {name: pattern.sizes(s.shape) for name, s in scores.items()}
        if all(size is None for size in sizes.values()):
            return None
        return torch.cat([_sizes(size, scores[n].shape, pattern) for n, size in sizes.items()])

    def _count(self, units: Tensor, sizes: Tensor | None, elements: int, sparsity: float) -> int:
        """Units (n,) that stay when this share is dropped: not more than are alive, not fewer
        than the floor protects."""
        count = count_for(units, sizes, sparsity, elements)
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


def _sizes(sizes: Tensor | None, shape: torch.Size, pattern: Block) -> Tensor:
    if sizes is not None:
        return sizes
    size = pattern.rows * pattern.columns
    return torch.full((shape.numel() // size,), size)


def _protect(units: Tensor, floor: float) -> Tensor:
    """Infinite scores for the largest units, the share `floor` of them, as far as they live."""
    count = min(math.ceil(floor * units.numel()), int((units > -_ALWAYS).count_nonzero()))
    return units.masked_fill(keep_largest(units, count), _ALWAYS)
