"""How masks live in training: one `step` after each optimiser step, in plain torch.

The model is only ever read and multiplied in place: no hooks, wrappers or extra keys, so that
`deepcopy`, scripting and export work at any time.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asr.errors import AsrError
from asr.pruning.masks import (
    MIN_DENSITY,
    check_density,
    from_zeros,
    keep_at_or_above,
    pack,
    unpack,
)
from asr.pruning.prunable import aliases, find, owner
from asr.pruning.schedule import Frozen, Schedule, ThresholdSchedule
from asr.pruning.statistics import Statistics, statistics


class Pruner:
    """Zeroes weights while a model trains, and keeps them zero.

    model: float weights on any device; its parameters may be moved or replaced later.
    schedule: `ThresholdRamp`, which needs thresholds, or `Frozen`, which keeps the zeros found now.
    thresholds: q of each tensor by name, from `calibrate`. patterns: which tensors, as in `find`;
    None takes those that thresholds name, else all. optimiser: cleared of the moments of dropped
    weights; it may be given to `step` instead. min_density: an update that would leave a smaller
    share of a tensor raises PrunedTooFar.

    Every rank of a distributed run computes the same masks: they depend on equal weights alone.
    Raises AsrError if tensors and thresholds do not fit each other.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        thresholds: Mapping[str, float] | None = None,
        patterns: Iterable[str] | None = None,
        optimiser: Optimizer | None = None,
        min_density: float = MIN_DENSITY,
    ) -> None:
        if not 0 <= min_density < 1:
            raise AsrError(f"min_density={min_density}: a share from 0 to below 1")
        self.model = model
        self.schedule = schedule
        self.thresholds = _resolve_thresholds(model, schedule, thresholds)
        chosen = find(model, list(self.thresholds) if patterns is None and thresholds else patterns)
        if missing := [n for n in chosen if thresholds and n not in self.thresholds]:
            raise AsrError(f"no threshold for {', '.join(missing)}: calibrate with these names")
        self.thresholds = {name: q for name, q in self.thresholds.items() if name in chosen}
        self.optimiser = optimiser
        self.min_density = min_density
        self.steps = 0
        """Optimiser steps so far: `current_itr` of Algorithm 1."""
        self.curve: list[tuple[int, float]] = []
        """(step, sparsity of the prunable tensors) at each update."""
        self._owners = {name: owner(model, name) for name in chosen}
        # Kept as 1.0 and 0.0 in the weight's own type, so as large as the weights: multiplying by
        # a bool mask takes tens of times as long. A tensor without an entry has lost nothing yet.
        self._factors: dict[str, Tensor] = {}
        self._kept: dict[str, int] = {}
        self._finalized = False
        if isinstance(schedule, Frozen):
            self._freeze()

    @property
    def names(self) -> list[str]:
        """The pruned tensors."""
        return list(self._owners)

    @property
    def finished(self) -> bool:
        """Whether the masks are final: no update comes any more."""
        return self.schedule.is_finished(self.steps)

    def mask_gradients(self) -> None:
        """Zero the gradients of dropped weights; call it before gradients are clipped.

        Our choice, the paper says nothing. Dense gradients would do the weights no harm, because
        they are zeroed again; but they would count in the norm that clipping compares, so the
        weights that live would move less the more is pruned, and they would fill the optimiser's
        moments.
        """
        for name, weight in self._weights():
            if weight.grad is not None and name in self._factors:
                weight.grad.mul_(self._factor(name, weight.grad))

    @torch.no_grad()
    def step(self, optimiser: Optimizer | None = None) -> None:
        """Count one optimiser step, update the masks if the schedule says so, zero the weights.

        Call it once after each `optimiser.step()`, not once a batch. A new mask takes effect at
        once; at an update the optimiser's moments of dropped weights are zeroed too.
        """
        if self._finalized:
            raise AsrError("this Pruner was finalized: make a new one to go on training")
        self.steps += 1
        update = self.schedule.is_update(self.steps)
        if update:
            self._update_masks()
        self._apply()
        if update:
            self._clear_moments(optimiser or self.optimiser)

    def masks(self) -> dict[str, Tensor]:
        """Boolean mask of each tensor, True where a weight is kept."""
        return {name: self._keep(name, weight) for name, weight in self._weights()}

    def sparsity(self) -> float:
        """Share of dropped weights over all pruned tensors, 0 to 1."""
        sizes = {name: weight.numel() for name, weight in self._weights()}
        kept = sum(self._kept.get(name, size) for name, size in sizes.items())
        return 1.0 - kept / sum(sizes.values())

    @torch.no_grad()
    def finalize(self) -> Statistics:
        """Zero the dropped weights a last time and stop; the model is an ordinary one.

        Returns what was reached, counted from the weights themselves.
        """
        for name, weight in self._weights():
            # Multiplying leaves -0.0 where a weight was negative; an ordinary zero has no sign.
            weight.masked_fill_(~self._keep(name, weight), 0.0)
        self._finalized = True
        return statistics(self.model, self.names)

    def state_dict(self) -> dict[str, Any]:
        """Step, masks (as bits), thresholds, schedule and curve: loads with weights_only=True."""
        return {
            "version": 1,
            "step": self.steps,
            "schedule": self.schedule.to_plain(),
            "thresholds": dict(self.thresholds),
            "shapes": {name: list(weight.shape) for name, weight in self._weights()},
            "masks": {name: pack(keep) for name, keep in self.masks().items()},
            "curve": [list(point) for point in self.curve],
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`, masks applied at once.

        Raises AsrError if tensors, shapes, schedule or thresholds are not the same.
        """
        if state.get("version") != 1:
            raise AsrError(f"pruning state of version {state.get('version')!r}: this reads 1")
        shapes = {name: list(weight.shape) for name, weight in self._weights()}
        _same("tensors and shapes", {k: list(v) for k, v in state["shapes"].items()}, shapes)
        _same("schedule", state["schedule"], self.schedule.to_plain())
        _same("thresholds", state["thresholds"], self.thresholds)
        self.steps = int(state["step"])
        self.curve = [(int(step), float(share)) for step, share in state["curve"]]
        self._factors, self._kept = {}, {}
        for name, weight in self._weights():
            self._set(name, weight, unpack(state["masks"][name], weight.shape))
        self._apply()

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        # Looked up anew, so that a parameter replaced by load_state_dict(assign=True) is found.
        for name, (module, leaf) in self._owners.items():
            yield name, getattr(module, leaf)

    def _freeze(self) -> None:
        for name, weight in self._weights():
            self._set(name, weight, from_zeros(weight))
        if not self._factors:
            raise AsrError(
                "the schedule is Frozen, which keeps the zeros that are there, but no weight of "
                f"{', '.join(self.names)} is zero: load the pruned weights first"
            )

    def _update_masks(self) -> None:
        assert isinstance(self.schedule, ThresholdSchedule)
        keeps = {}
        for name, weight in self._weights():
            eps = self.schedule.threshold(self.steps, self.thresholds[name])
            previous = self._keep(name, weight) if name in self._factors else None
            keeps[name] = keep_at_or_above(weight, eps, previous)
            check_density(name, keeps[name], eps, self.min_density)
        for name, weight in self._weights():
            self._set(name, weight, keeps[name])
        self.curve.append((self.steps, self.sparsity()))

    def _apply(self) -> None:
        for name, weight in self._weights():
            if name in self._factors:
                weight.detach().mul_(self._factor(name, weight))

    def _clear_moments(self, optimiser: Optimizer | None) -> None:
        if optimiser is None:
            return
        for name, weight in self._weights():
            if name not in self._factors or weight not in optimiser.state:
                continue
            for moment in optimiser.state[weight].values():
                if isinstance(moment, Tensor) and moment.shape == weight.shape:
                    moment.mul_(self._factor(name, moment))

    def _set(self, name: str, weight: Tensor, keep: Tensor) -> None:
        self._kept[name] = int(keep.count_nonzero())
        if self._kept[name] < keep.numel():
            self._factors[name] = keep.to(weight.device, weight.dtype)

    def _factor(self, name: str, like: Tensor) -> Tensor:
        factor = self._factors[name]
        if factor.device != like.device:  # the model was moved after the mask was made
            self._factors[name] = factor = factor.to(like.device)
        return factor if factor.dtype == like.dtype else factor.to(like.dtype)

    def _keep(self, name: str, weight: Tensor) -> Tensor:
        if name not in self._factors:
            return torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
        return self._factor(name, weight) != 0


def _resolve_thresholds(
    model: nn.Module, schedule: Schedule, thresholds: Mapping[str, float] | None
) -> dict[str, float]:
    """Thresholds under the names that `find` gives, checked."""
    kind = type(schedule).__name__
    if not isinstance(schedule, ThresholdSchedule | Frozen):
        raise AsrError(f"{kind} is not a pruning schedule; give a ThresholdRamp or Frozen")
    if isinstance(schedule, Frozen):
        if thresholds:
            raise AsrError("the schedule is Frozen and compares nothing: give it no thresholds")
        return {}
    if not thresholds:
        raise AsrError(f"{kind} needs thresholds, q for each tensor: calibrate(dense, find(model))")
    first = aliases(model)
    resolved: dict[str, float] = {}
    for name, q in thresholds.items():
        if name not in first:
            raise AsrError(
                f"threshold for {name!r}, which is no prunable weight; there are:\n  "
                + "\n  ".join(first)
            )
        if not (math.isfinite(q) and q > 0):
            raise AsrError(f"threshold of {name}: q={q} must be a number above 0")
        if first[name] in resolved:
            raise AsrError(f"two thresholds for {first[name]}: {name} is the same, tied parameter")
        resolved[first[name]] = float(q)
    return resolved


def _same(what: str, saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise AsrError that names each difference between two dicts."""
    if dict(saved) == dict(here):
        return
    differences = [
        f"{key}: {saved.get(key, 'absent')} in the checkpoint, {here.get(key, 'absent')} here"
        for key in sorted(set(saved) | set(here))
        if saved.get(key) != here.get(key)
    ]
    raise AsrError(
        f"the checkpoint was made with another pruning ({what}):\n  "
        + "\n  ".join(differences)
        + "\nresume with the same settings, or start anew from its weights"
    )
