"""Slopes corrected on the way, so that the paper's ramp ends at a given sparsity.

The paper's heuristics fix the threshold, not the sparsity that it leads to. Here the ramp gives the
shape only: at every update the threshold at which it has to end is predicted from the weights as
they are, and what is left of the ramp is scaled to end there. No dense run is needed.

    threshold
        |                          x   where the ramp has to end with the weights of now
        |                      . '
        |                  . '         what is left of the ramp, scaled to end there
        |              . '
        |     ____---o                 the threshold of this update
        | --'
        +---------------------------> optimiser steps

What is corrected is drift: while a network learns, its weights grow, and a threshold that was right
for the early ones would stop short of the target; when they shrink, it would overshoot. A threshold
that simply followed the quantile would reach the target at the first update.
"""

from collections.abc import Mapping
from typing import Any

from asr.errors import AsrError
from asr.pruning.schedule import ThresholdSchedule


class TargetThreshold:
    """The threshold of tensors that share it, under a ramp that has to end at a given sparsity.

    schedule: two slopes in units of q. q: of a trained dense model, if there is one; its prediction
    `q * relative_threshold(last update)` counts at first, and the less the further the ramp is.
    While the prediction stays the same the threshold follows the ramp exactly.
    """

    def __init__(self, schedule: ThresholdSchedule, q: float | None = None) -> None:
        self.schedule = schedule
        self.q = q
        self.eps = 0.0
        """Threshold of the last update."""
        self.reached = 0.0
        """Height of the ramp at that update, in units of q."""

    @property
    def effective_q(self) -> float:
        """The q with which an uncorrected ramp would have the threshold of the last update."""
        return self.eps / self.reached if self.reached else 0.0

    def raise_to(self, step: int, at_target: float) -> float:
        """The threshold for the update at `step`; never above `at_target`, but at it at the last.

        at_target: the threshold that would reach the target with the weights of now.
        """
        height, final = self.schedule.relative_threshold(step), self.schedule.final_height
        predicted = at_target  # the quantile at the target: where the ramp would have to end now
        if self.q is not None:
            known = height / final
            predicted = known * at_target + (1 - known) * self.q * final
        # Of what is left of the ramp, the part that this update climbs; the same part of the way
        # from the last threshold to the predicted end is climbed too.
        left = final - self.reached
        climbed = (height - self.reached) / left if left > 0 else 1.0
        # It falls only where the weights themselves have shrunk so that it would pass the target.
        eps = max(self.eps, self.eps + climbed * (predicted - self.eps))
        self.eps = at_target if height >= final else min(eps, at_target)
        self.reached = height
        return self.eps

    def state_dict(self) -> dict[str, float]:
        """Plain values for a checkpoint."""
        return {"eps": self.eps, "reached": self.reached}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. Raises AsrError if it is not one."""
        if set(state) != {"eps", "reached"}:
            raise AsrError(f"state of a threshold has {sorted(state)}: damaged")
        self.eps, self.reached = float(state["eps"]), float(state["reached"])
