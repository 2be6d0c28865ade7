"""How masks live in training: one `step` after each optimiser step, in plain torch.

The model is only ever read and multiplied in place: no hooks, wrappers or extra keys, so that
`deepcopy`, scripting and export work at any time.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asr.errors import AsrError
from asr.pruning.factors import Factors
from asr.pruning.masks import (
    MIN_DENSITY,
    check_density,
    check_equal,
    from_zeros,
    pack,
    unpack,
)
from asr.pruning.prunable import MAKE_ORDINARY, PassedOver, current, find, frozen
from asr.pruning.rule import Rule, as_rules
from asr.pruning.schedule import FixedMask, Unfinished
from asr.pruning.selection import RankingGroup, ranking_groups
from asr.pruning.state import STATE_VERSION, check_same
from asr.pruning.statistics import Statistics, statistics
from asr.pruning.wrappers import unwrapped

STEPS_OF_THE_OPTIMISER = (
    "a schedule counts steps of the optimiser, of which there is one for several batches when "
    "gradients are accumulated; from_fractions makes one of the number of all steps"
)


class Pruner:
    """Zeroes weights while a model trains, and keeps them zero.

    model: float weights on any device; its parameters may be moved or replaced later, and so may
    its layers by others with weights of the same names and shapes.
    rules: what is pruned how; a tensor belongs to one rule. optimiser: its moments of dropped
    weights are set to zero; it may be given to `step` instead. min_density: an update that would
    leave a smaller fraction of a tensor raises PrunedTooFar; so does this constructor, where the
    target says so.

    Every rank of a distributed run computes the same masks, because they depend on equal weights
    alone; check_ranks: after each update the ranks of torch.distributed compare a hash of them,
    and AsrError is raised if they differ. Raises AsrError if rules and tensors do not fit.

    >>> from asr.pruning import OneShot, Pruner, Rule
    >>> model = torch.nn.GRU(8, 16)
    >>> pruner = Pruner(model, Rule(OneShot(step=1, target=0.75), ["weight_hh*"]))
    >>> pruner.step()  # after each step of the optimiser
    >>> pruner.finalize().prunable_sparsity
    0.75
    """

    def __init__(
        self,
        model: nn.Module,
        rules: Rule | Sequence[Rule],
        optimiser: Optimizer | None = None,
        min_density: float = MIN_DENSITY,
        check_ranks: bool = True,
    ) -> None:
        if not 0 <= min_density < 1:
            raise AsrError(f"min_density={min_density}: a fraction from 0 to below 1")
        self.model = model
        self.rules = as_rules(rules)
        self._groups = ranking_groups(model, self.rules)
        self.optimiser = optimiser
        self.min_density = min_density
        self.check_ranks = check_ranks
        self.steps = 0
        """Optimiser steps so far: `current_itr` of Algorithm 1."""
        self.curve: list[tuple[int, float]] = []
        """(step, sparsity of the prunable tensors) at each update."""
        chosen = {name for group in self._groups for name in group.names}
        self._shapes = {name: w.shape for name, w in find(model).items() if name in chosen}
        for group in self._groups:
            group.check_end(self._shapes, min_density)
        self._factors = Factors()
        self._no_gradient: set[str] = set()
        self._frozen: set[str] = set()
        self._finalized = False
        self._keep_zeros()

    @property
    def names(self) -> list[str]:
        """The pruned tensors, in the model's order."""
        return list(self._shapes)

    @property
    def thresholds(self) -> dict[str, float]:
        """q of the tensors under a ramp: as given, or as a target has led to it so far."""
        return {name: q for group in self._groups for name, q in group.thresholds.items()}

    @property
    def finished(self) -> bool:
        """Whether the masks are final: no update comes any more."""
        return all(group.schedule.is_finished(self.steps) for group in self._groups)

    @property
    def settled(self) -> bool:
        """Whether no later update can change a mask; reads all masks of banks to find out."""
        keeps = self.masks()
        return all(group.is_settled(self.steps, keeps) for group in self._groups)

    @property
    def last_update(self) -> int:
        """The step of the last update of any mask; 0 if there is none."""
        steps = [group.schedule.update_steps for group in self._groups]
        return max((each[-1] for each in steps if each), default=0)

    def mask_gradients(self) -> None:
        """Zero the gradients of dropped weights; call it before gradients are clipped.

        Our choice, the paper says nothing. Dense gradients would do the weights no harm, because
        they are zeroed again; but they would count in the norm that clipping compares, so the
        weights that are left would move less the more is pruned, and they would fill the
        optimiser's moments. Under a schedule that regrows (RigL) they stay dense before an update,
        because the scores are made from them; infinite or NaN ones, for which GradScaler skips
        the step, count as none.
        """
        dense = {
            name
            for group in self._groups
            if group.regrows and group.schedule.is_update(self.steps + 1)
            for name in group.names
        }
        self._no_gradient = set()
        for name, weight in self._weights():
            if weight.grad is None or (name in dense and not weight.grad.isfinite().all()):
                self._no_gradient.add(name)
            elif name in self._factors and name not in dense:
                weight.grad.mul_(self._factors.of(name, weight.grad))

    @torch.no_grad()
    def step(self, optimiser: Optimizer | None = None) -> None:
        """Count one optimiser step, update the masks if the schedule says so, zero the weights.

        Call it once after each `optimiser.step()`, not once a batch. A new mask takes effect at
        once; at an update the optimiser's moments of dropped weights are zeroed too.
        """
        if self._finalized:
            raise AsrError("this Pruner was finalized: make a new one to train further")
        parameters = dict(self._parameters())
        self.steps += 1
        optimiser = optimiser or self.optimiser
        updated = [
            group
            for group in self._groups
            if group.schedule.is_update(self.steps) and not self._lacks_gradients(group)
        ]
        if updated:
            self._update_masks(updated, optimiser, parameters)
        self._apply()
        if updated:
            self._clear_moments(optimiser)

    def masks(self) -> dict[str, Tensor]:
        """Boolean mask of each tensor, True where a weight is kept."""
        return {name: self._factors.keep(name, weight) for name, weight in self._weights()}

    def sparsity(self) -> float:
        """Fraction of dropped weights over all pruned tensors, 0 to 1, measured in the model.

        A dropped weight that something else has written since is not zero and does not count.
        """
        size = sum(shape.numel() for shape in self._shapes.values())
        return 1.0 - (size - sum(self._zeros().values())) / size

    def sparsities(self) -> dict[str, float]:
        """Fraction of dropped weights of each pruned tensor, 0 to 1, measured in the model."""
        sizes = {name: shape.numel() for name, shape in self._shapes.items()}
        return {n: 1.0 - (sizes[n] - zeros) / sizes[n] for n, zeros in self._zeros().items()}

    def model_sparsity(self) -> float:
        """Fraction of dropped weights over all parameters of the model, tied ones once, 0 to 1."""
        return sum(self._zeros().values()) / sum(p.numel() for p in self.model.parameters())

    def mask_hash(self) -> str:
        """SHA-256, in hexadecimal, of step, names and masks: equal only where they are equal."""
        digest = hashlib.sha256(str(self.steps).encode())
        for name, keep in self.masks().items():
            digest.update(f"{name} {list(keep.shape)}".encode())
            digest.update(bytes(pack(keep).tolist()))
        return digest.hexdigest()

    @torch.no_grad()
    def apply_masks(self, model: nn.Module | None = None) -> None:
        """Zero the dropped weights again, in the model or in a copy of it, such as an average.

        model: None for the pruner's own, after something else has written its weights; or a copy,
        such as a `torch.optim.swa_utils.AveragedModel`: an average over steps at which the masks
        still grew has no zeros before. Both may be wrapped for data parallelism or compiled. At
        any time, after `finalize` too. Raises AsrError if a pruned tensor is not in the model.

        >>> from asr.pruning import OneShot, Pruner, Rule, statistics
        >>> layer = torch.nn.Linear(8, 8)
        >>> average = torch.optim.swa_utils.AveragedModel(layer)
        >>> pruner = Pruner(layer, Rule(OneShot(step=1, target=0.75)))
        >>> pruner.step()
        >>> pruner.apply_masks(average)
        >>> statistics(average.module).prunable_sparsity
        0.75
        """
        if model is None:
            model = self.model
        # Either of the two may be wrapped, and the names are those of the pruner's own.
        (model, _), (_, prefix) = unwrapped(model), unwrapped(self.model)
        weights = {
            name: current(model, name.removeprefix(prefix), shape)
            for name, shape in self._shapes.items()
        }
        for name in self._factors:
            # Multiplying leaves -0.0 where a weight was negative; an ordinary zero has no sign.
            weight = weights[name]
            weight.masked_fill_(~self._factors.keep(name, weight).to(weight.device), 0.0)

    @torch.no_grad()
    def finalize(self) -> Statistics:
        """Zero the dropped weights a last time and stop; the model is an ordinary one.

        Returns what was reached, counted from the weights themselves. Warns (Unfinished) if
        updates of the masks were still to come.
        """
        dict(self._parameters())
        if not self.finished:
            warnings.warn(
                f"pruning ends at step {self.steps} with {self._dropped():.2%} of the weights "
                f"dropped, but its last update is after step {self.last_update}: "
                f"{STEPS_OF_THE_OPTIMISER}",
                Unfinished,
                stacklevel=2,
            )
        self.apply_masks()
        self._finalized = True
        return statistics(self.model, self.names)

    def state_dict(self) -> dict[str, Any]:
        """Step, masks (as bits), rules, thresholds, curve: loads with weights_only=True."""
        return {
            "version": STATE_VERSION,
            "step": self.steps,
            "rules": [rule.to_plain() for rule in self.rules],
            "shapes": {name: list(weight.shape) for name, weight in self._weights()},
            "masks": {name: pack(keep) for name, keep in self.masks().items()},
            "thresholds": {
                group.names[0]: group.corrected.state_dict()
                for group in self._groups
                if group.corrected is not None
            },
            "curve": [list(point) for point in self.curve],
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`, masks applied at once.

        Raises AsrError if tensors, shapes or rules are not the same.
        """
        if (version := state.get("version")) != STATE_VERSION:
            raise AsrError(
                f"pruning state of version {version!r}, which another release wrote; this one "
                f"reads version {STATE_VERSION}: start anew from the weights of the checkpoint"
            )
        check_same(
            state, self.rules, {name: list(weight.shape) for name, weight in self._weights()}
        )
        self.steps = int(state["step"])
        self.curve = [(int(step), float(sparsity)) for step, sparsity in state["curve"]]
        for group in self._groups:
            if group.corrected is not None:
                group.corrected.load_state_dict(state["thresholds"][group.names[0]])
        self._factors = Factors()
        for name, weight in self._weights():
            self._factors.set(name, weight, unpack(state["masks"][name], weight.shape))
        self._apply()

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        # Looked up anew, so that parameters and layers which replaced others are found.
        for name, shape in self._shapes.items():
            yield name, current(self.model, name, shape)

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights, to be changed; AsrError for one that was parametrised or made sparse."""
        for name, weight in self._weights():
            if not isinstance(weight, nn.Parameter):
                raise AsrError(
                    f"{name} was a parameter when the Pruner was made and is not one now, so zeros "
                    f"in it would not stay: {MAKE_ORDINARY}, or make a new Pruner"
                )
            yield name, weight

    def _zeros(self) -> dict[str, int]:
        """How many weights of each tensor are dropped by its mask, and zero in the model."""
        return {
            name: int(((weight == 0) & ~self._factors.keep(name, weight)).count_nonzero())
            if name in self._factors
            else 0
            for name, weight in self._weights()
        }

    def _dropped(self) -> float:
        """Fraction of weights that the masks drop, whatever the model holds."""
        size = sum(shape.numel() for shape in self._shapes.values())
        kept = sum(self._factors.kept(name, shape) for name, shape in self._shapes.items())
        return 1.0 - kept / size

    def _keep_zeros(self) -> None:
        weights = dict(self._weights())
        for group in self._groups:
            if isinstance(group.schedule, FixedMask) or group.rule.keep_zeros:
                keeps = {name: from_zeros(weights[name]) for name in group.names}
                for name, keep in keeps.items():
                    self._factors.set(name, weights[name], keep)
                group.check_start(keeps)
        for rule in self.rules:
            names = [name for group in self._groups if group.rule is rule for name in group.names]
            if isinstance(rule.schedule, FixedMask) and not any(n in self._factors for n in names):
                raise AsrError(
                    "the schedule is FixedMask, which keeps the zeros that are there, but no "
                    f"weight of {', '.join(names)} is zero: load the pruned weights first"
                )

    def _lacks_gradients(self, group: RankingGroup) -> bool:
        """Whether there is nothing to regrow by, since the batch of this step was skipped."""
        grows = group.regrows and any(name in self._factors for name in group.names)
        return grows and any(name in self._no_gradient for name in group.names)

    def _update_masks(
        self,
        groups: Sequence[RankingGroup],
        optimiser: Optimizer | None,
        weights: Mapping[str, nn.Parameter],
    ) -> None:
        keeps: dict[str, Tensor] = {}
        for group in groups:
            known = [name for name in group.names if name in self._factors]
            previous = {name: self._factors.keep(name, weights[name]) for name in known}
            chosen, eps = group.masks_at(self.steps, weights, previous)
            for name in frozen((name, weights[name]) for name in group.names):
                self._warn_of_frozen(name)
                chosen[name] = self._factors.keep(name, weights[name])
            for name, keep in chosen.items():
                check_density(name, keep, eps, self.min_density)
            keeps |= chosen
        if any(group.regrows for group in groups):
            self._clear_moments(optimiser)  # of what comes back, too: its gradient was dense
        for name, keep in keeps.items():
            if name in self._factors:  # what comes back begins at zero, wherever it was moved
                weights[name].detach().mul_(self._factors.of(name, weights[name]))
            self._factors.set(name, weights[name], keep)
        self.curve.append((self.steps, self._dropped()))
        if self.check_ranks:
            check_equal(self.mask_hash, next(iter(weights.values())).device)

    def _warn_of_frozen(self, name: str) -> None:
        if name not in self._frozen:
            warnings.warn(
                f"{name} was frozen after the Pruner was made (requires_grad is False): its mask "
                "stays as it is while it is",
                PassedOver,
                stacklevel=4,
            )
        self._frozen.add(name)

    def _apply(self) -> None:
        for name, weight in self._weights():
            if name in self._factors:
                weight.detach().mul_(self._factors.of(name, weight))

    def _clear_moments(self, optimiser: Optimizer | None) -> None:
        if optimiser is None:
            return
        for name, weight in self._weights():
            if name not in self._factors or weight not in optimiser.state:
                continue
            for moment in optimiser.state[weight].values():
                if isinstance(moment, Tensor) and moment.shape == weight.shape:
                    moment.mul_(self._factors.of(name, moment))
