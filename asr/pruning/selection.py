"""Tensors whose weights are ranked together, and the choice among them at an update."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.pruning.masks import check_kept, count_for, keep_largest, nth_largest
from asr.pruning.patterns import Bank, Block
from asr.pruning.prunable import group_of
from asr.pruning.rule import Rule, resolve, resolve_thresholds
from asr.pruning.schedule import Schedule, SparsitySchedule, ThresholdSchedule
from asr.pruning.target import TargetThreshold

_NEVER = float("-inf")


@dataclass
class RankingGroup:
    """Weights that are ranked together: of a tensor, of a group of tensors, or of all of a rule."""

    rule: Rule
    names: list[str]
    q: dict[str, float]
    """Threshold of each tensor that has one."""
    corrected: TargetThreshold | None = None
    """The threshold of all, if the rule is a ramp to a target."""

    @property
    def schedule(self) -> Schedule:
        """The rule's."""
        return self.rule.schedule

    @property
    def regrows(self) -> bool:
        """Whether weights that were dropped may come back."""
        return isinstance(self.schedule, SparsitySchedule) and self.schedule.regrows

    @property
    def target(self) -> float | None:
        """Fraction dropped in the end; None if thresholds or found zeros decide."""
        target: float | None = getattr(self.schedule, "target", None)
        return target

    @property
    def thresholds(self) -> dict[str, float]:
        """q of each tensor: the one given, or the one that a target has led to so far."""
        if self.corrected is not None and self.corrected.reached:
            return dict.fromkeys(self.names, self.corrected.effective_q)
        return dict(self.q)

    def check_end(self, shapes: Mapping[str, torch.Size], min_density: float) -> None:
        """Raise PrunedTooFar before training if its target leaves a tensor nearly empty.

        Where that depends on the weights, an update finds it: tensors that are ranked together,
        and blocks of several sizes.
        """
        if self.target is None or len(self.names) > 1:
            return
        (name,) = self.names
        kept = self._final_count(shapes[name], self.target)
        if kept is not None:
            at, remedy = f" at the target of {self.target:.2%}", "ask for a lower sparsity"
            check_kept(name, shapes[name], kept, at, remedy, min_density)

    def _final_count(self, shape: torch.Size, target: float) -> int | None:
        """Elements of a tensor that stay in the end; None if the weights decide."""
        pattern = self.rule.pattern
        if isinstance(pattern, Bank):
            row = pattern.keep(torch.zeros(1, shape[1:].numel()), target)
            return shape[0] * int(row.count_nonzero())
        if pattern.sizes(shape) is not None:
            return None
        size = pattern.rows * pattern.columns if isinstance(pattern, Block) else 1
        units = shape.numel() // size
        return size * (units - round(target * units))

    def check_start(self, keeps: Mapping[str, Tensor]) -> None:
        """Raise AsrError if masks to begin with have dropped more than the target."""
        if isinstance(self.rule.pattern, Bank):
            self._check_banks(self.rule.pattern, keeps)
            return
        elements = sum(keep.numel() for keep in keeps.values())
        dropped = 1 - sum(int(keep.count_nonzero()) for keep in keeps.values()) / elements
        # What was pruned by whole blocks may be off by half a block.
        size = 1
        if isinstance(self.rule.pattern, Block):
            size = self.rule.pattern.rows * self.rule.pattern.columns
        if self.target is not None and dropped > self.target + 0.005 + size / elements:
            raise AsrError(
                f"{', '.join(keeps)}: {dropped:.2%} of the weights are zero already, more than the "
                f"target of {self.target:.2%}, and keep_zeros lets none come back"
            )

    def is_settled(self, step: int, keeps: Mapping[str, Tensor]) -> bool:
        """Whether no update after `step` can change these masks, of its tensors at least.

        A bank has its last count long before the last update of a schedule that only drops.
        """
        pattern, finished = self.rule.pattern, self.schedule.is_finished(step)
        if finished or not isinstance(pattern, Bank) or self.regrows or self.target is None:
            return finished
        return all(
            bool((pattern.counts(keeps[n]) <= self._final_counts(pattern, keeps[n])).all())
            for n in self.names
        )

    def _final_counts(self, pattern: Bank, keep: Tensor) -> Tensor:
        """Weights that each bank keeps in the end."""
        assert self.target is not None
        return pattern.counts(
            pattern.keep(torch.zeros(keep.shape, device=keep.device), self.target)
        )

    def _check_banks(self, pattern: Bank, keeps: Mapping[str, Tensor]) -> None:
        """Raise AsrError if a bank has fewer weights left than each has to keep."""
        for name, keep in keeps.items():
            left, kept = pattern.counts(keep), self._final_counts(pattern, keep)
            if bool((left < kept).any()):
                row, bank = (int(n) for n in (left < kept).nonzero()[0])
                raise AsrError(
                    f"{name}: row {row}, bank {bank} has {int(left[row, bank])} weights left where "
                    f"each has to keep {int(kept[row, bank])}, and keep_zeros lets none come back: "
                    "its zeros do not lie in such banks"
                )

    def masks_at(
        self, step: int, weights: Mapping[str, nn.Parameter], previous: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], float | None]:
        """New masks of its tensors at the update `step`, and the threshold, None with a fraction.

        previous: masks so far, of the tensors that have lost something. Raises AsrError for
        weights or scores that are not finite, and scores of another shape.
        """
        alive = {} if self.regrows else previous
        scores = {n: self._scores(step, n, weights[n], previous.get(n)) for n in self.names}
        if isinstance(self.rule.pattern, Bank):
            assert isinstance(self.schedule, SparsitySchedule)
            pattern, sparsity = self.rule.pattern, self.schedule.sparsity(step)
            units = {n: pattern.units(s, alive.get(n)).view(s.shape) for n, s in scores.items()}
            return {n: pattern.keep(u, sparsity) for n, u in units.items()}, None
        units = {n: self.rule.pattern.units(s, alive.get(n)) for n, s in scores.items()}
        ranked = torch.cat(list(units.values())) if len(units) > 1 else next(iter(units.values()))
        sizes = self._sizes(scores, alive)
        keep, eps = self._choose(step, ranked, sizes, sum(s.numel() for s in scores.values()))
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
        scores = None
        if isinstance(self.schedule, SparsitySchedule):
            scores = self.schedule.scores(step, name, weight, previous)
        if scores is None:
            return magnitude
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
        """Which units (n,) stay, and the threshold, None with a fraction.

        sizes: elements left in each unit; None if all units are alike. elements: of all the
        tensors together.
        """
        schedule, corrected = self.schedule, self.corrected
        if isinstance(schedule, SparsitySchedule):
            count = self._count(units, sizes, elements, schedule.sparsity(step))
            return keep_largest(units, count), None
        assert isinstance(schedule, ThresholdSchedule)
        if corrected is None or self.target is None:
            (name,) = self.names
            eps = schedule.threshold(step, self.q[name]) * self.rule.pattern.scale
            return units >= eps, eps
        count = self._count(units, sizes, elements, self.target)
        at_target = float(nth_largest(units, max(1, count)))
        eps = corrected.raise_to(step, at_target)
        # Weights of equal size at the threshold would all stay: the last update counts.
        return keep_largest(units, count) if schedule.is_finished(step) else units >= eps, eps

    def _sizes(self, scores: Mapping[str, Tensor], alive: Mapping[str, Tensor]) -> Tensor | None:
        """Elements left in each unit of all tensors; None if all units are alike."""
        pattern = self.rule.pattern
        if not isinstance(pattern, Block):
            return None
        if self.rule.keep_zeros:  # blocks in which zeros were found are smaller than others
            left = [
                pattern.count(alive.get(n, torch.ones_like(s, dtype=torch.bool)))
                for n, s in scores.items()
            ]
            return torch.cat(left)
        sizes = {name: pattern.sizes(s.shape) for name, s in scores.items()}
        if all(size is None for size in sizes.values()):
            return None
        return torch.cat([_sizes(size, scores[n].shape, pattern) for n, size in sizes.items()])

    def _count(self, units: Tensor, sizes: Tensor | None, elements: int, sparsity: float) -> int:
        """How many units (n,) stay when the fraction `sparsity` is dropped, of those alive."""
        count = count_for(units, sizes, sparsity, elements)
        return min(count, int((units > _NEVER).count_nonzero()))


def ranking_groups(model: nn.Module, rules: Iterable[Rule]) -> list[RankingGroup]:
    """What these rules rank together in this model.

    Raises AsrError as `resolve` and `resolve_thresholds` do.
    """
    groups = []
    for rule, names in resolve(model, rules):
        q = resolve_thresholds(model, rule, names)
        for members in _members(model, rule, names):
            corrected = None
            schedule = rule.schedule
            if isinstance(schedule, ThresholdSchedule) and schedule.target is not None:
                known = q[members[0]] * rule.pattern.scale if q else None
                corrected = TargetThreshold(schedule, known)
            known_q = {name: q[name] for name in members if name in q}
            groups.append(RankingGroup(rule, members, known_q, corrected))
    return groups


def _members(model: nn.Module, rule: Rule, names: list[str]) -> list[list[str]]:
    """Names that are ranked together, by the scope of the rule."""
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
