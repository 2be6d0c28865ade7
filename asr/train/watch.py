"""What makes a training fail, named while it runs and with what to try."""

import math
import statistics
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer

from asr.settings.run import Run
from asr.train.ranks import OnEveryRank

SPIKE = 3.0
"""A loss above this many times the median of the steps before it is a spike."""
WINDOW = 100
"""Steps of that median; the first ones are only watched."""
BLANK_STEPS = 1000
"""Steps without anything but blanks that are worth a warning within an epoch."""
LOST_IN_A_ROW = 20
"""Steps without a finite gradient after which training stops."""


class Watch(Callback):
    """Warns, one line each, of blank collapse, of spikes of the loss and of broken gradients.

    - The network writes nothing but blanks for all of dev, or for 1000 steps of training, after
      the warm-up; once, until it writes again.
    - The loss of a step is above three times the median of the 100 steps before; one line an epoch.
    - The gradient of a step is infinite or NaN although the loss is finite. That step is left out,
      since it would make every weight NaN; 20 of them in a row stop the training.

    `say` gets each line; all are in `warnings`, which the checkpoint and the record hold. It must
    come before callbacks that look at gradients.
    """

    def __init__(self, settings: Run, total_steps: int, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.warm = round(settings.optimiser.warmup * total_steps)
        self.say = say
        self.warnings: list[str] = []
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._spikes: list[str] = []
        self._written_at = 0
        self._blank = False
        self._lost = 0

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: Any, optimizer: Optimizer
    ) -> None:
        """Leave the step out if its gradient cannot be used, or if all its batches were skipped."""
        skipped, pl_module.batches_since_step = not pl_module.batches_since_step, 0
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        # The ranks have averaged it already, so all of them decide the same.
        broken = bool(gradients) and not torch.isfinite(torch.nn.utils.get_total_norm(gradients))
        if skipped or broken:
            for parameter in parameters:
                parameter.grad = None
        if broken and not skipped:
            self._lose(trainer)
        elif not skipped:
            self._lost = 0

    def _lose(self, trainer: Trainer) -> None:
        self._lost += 1
        rate = self.settings.optimiser.learning_rate
        where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
        if self._lost == LOST_IN_A_ROW:
            raise OnEveryRank(
                f"{where}: the gradient was infinite or NaN in {LOST_IN_A_ROW} steps in a row: the "
                f"weights are broken; lower optimiser.learning_rate (now {rate:g}), or set "
                "training.precision=float32"
            )
        self._warn(
            f"{where}: the gradient is infinite or NaN although the loss is finite, so this step "
            f"was left out. If it happens again, lower optimiser.learning_rate (now {rate:g}) or "
            f"set training.precision=float32 (now {self.settings.training.precision})"
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if not isinstance(outputs, dict) or "train_loss" not in outputs:
            return
        loss, step = float(outputs["train_loss"]), trainer.global_step
        if len(self._losses) == WINDOW:
            usual = statistics.median(self._losses)
            if loss > SPIKE * usual:
                self._spikes.append(f"step {step} ({loss:.3g} against {usual:.3g})")
        self._losses.append(loss)
        if "written" in outputs:
            if int(outputs["written"]):
                self._written_at, self._blank = step, False
            elif step - max(self._written_at, self.warm) >= BLANK_STEPS:
                self._collapsed(trainer, f"in {BLANK_STEPS:,} steps of training")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        written = trainer.callback_metrics.get("dev_written")
        if written is not None and not int(written) and trainer.global_step > self.warm:
            self._collapsed(trainer, "for all dev utterances")
        if self._spikes:
            optimiser = self.settings.optimiser
            self._warn(
                f"epoch {trainer.current_epoch + 1}: the loss rose above {SPIKE:g} times its "
                f"median in {len(self._spikes)} of the steps, first at {self._spikes[0]}. If dev "
                f"gets worse, lower optimiser.learning_rate (now {optimiser.learning_rate:g}) or "
                f"optimiser.clip_norm (now {optimiser.clip_norm:g}), or raise optimiser.warmup "
                f"(now {optimiser.warmup:g})"
            )
        self._spikes = []

    def _collapsed(self, trainer: Trainer, where: str) -> None:
        if self._blank:
            return
        self._blank = True
        optimiser = self.settings.optimiser
        self._warn(
            f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}: the network wrote "
            f"nothing but blanks {where}. That is usual in the first epochs of a small corpus. If "
            f"it lasts, lower optimiser.learning_rate (now {optimiser.learning_rate:g}), raise "
            f"optimiser.warmup (now {optimiser.warmup:g}), begin with short utterances "
            "(data.max_seconds), or check that texts and recordings belong together (asr "
            "check)"
        )

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        self.say(text)

    def state_dict(self) -> dict[str, Any]:
        return {
            "warnings": self.warnings,
            "losses": [loss for loss in self._losses if math.isfinite(loss)],
            "spikes": self._spikes,
            "written_at": self._written_at,
            "blank": self._blank,
            "lost": self._lost,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.warnings = list(state["warnings"])
        self._losses = deque(state["losses"], maxlen=WINDOW)
        self._spikes = list(state["spikes"])
        self._written_at, self._blank = state["written_at"], state["blank"]
        self._lost = state["lost"]
