"""The network as a LightningModule: CTC loss, optimiser, validation loss and word error rate.

Knows nothing of pruning, files or recordings: batches come in, gradients and figures go out.
"""

import math
import sys
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from asr.decode.greedy import decode
from asr.errors import AsrError
from asr.evaluate.wer import errors_of, sum_errors
from asr.model.torch_network import DeepSpeech
from asr.settings.training import OptimiserSettings
from asr.text.tokenizer import Tokenizer
from asr.train.batches import Batch
from asr.train.distillation import Teacher
from asr.train.losses import ctc_losses

SKIPS_IN_A_ROW = 20


class InvalidLoss(AsrError):
    """A batch whose CTC loss is infinite or NaN; names the utterances."""


def learning_rate_factor(step: int, total_steps: int, settings: OptimiserSettings) -> float:
    """Fraction of the peak learning rate at optimiser step `step` (from 0)."""
    warmup = round(settings.warmup * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    if settings.decay == "constant":
        return 1.0
    remaining = (
        0.5 * (1 + math.cos(math.pi * progress)) if settings.decay == "cosine" else 1 - progress
    )
    return settings.final_fraction + (1 - settings.final_fraction) * remaining


def build_optimiser(model: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """AdamW or Nesterov SGD; weight decay for matrices and kernels only."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
    return torch.optim.SGD(
        groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=True
    )


def mixed_loss(
    losses: Tensor, batch: Batch, log_probs: Tensor, lengths: Tensor, teacher: Teacher | None
) -> dict[str, Tensor]:
    """`loss` of a batch from its CTC `losses (batch,)`: their sum over its number of tokens.

    Per token, so that it means the same for batches of any size. With a teacher its loss is mixed
    in, and `ctc_loss` and `distillation_loss` say what of.
    """
    ctc = losses.sum() / batch.target_lengths.sum()
    if teacher is None:
        return {"loss": ctc}
    taught = teacher.loss(batch.features, batch.feature_lengths, log_probs, lengths)
    weight = teacher.settings.weight
    return {
        "loss": (1 - weight) * ctc + weight * taught,
        "ctc_loss": ctc.detach(),
        "distillation_loss": taught.detach(),
    }


class SpeechTraining(lightning.LightningModule):
    """CTC training of a `DeepSpeech` network.

    The loss is that of `mixed_loss`. Logged after each epoch: `dev_loss` (CTC per token) and
    `dev_wer` (errors over words), of `average`, a moving average of the network, where there is
    one. Skipped batches are named on standard error and listed in `skipped`.

    Raises:
        InvalidLoss: for an infinite or NaN loss, unless `invalid_loss` is `skip`; then too after
            20 such batches in a row, since the weights themselves must be broken.
    """

    def __init__(
        self,
        model: DeepSpeech,
        tokenizer: Tokenizer,
        optimiser: OptimiserSettings,
        total_steps: int,
        invalid_loss: str = "stop",
        teacher: Teacher | None = None,
        average: AveragedModel | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.optimiser_settings = optimiser
        self.total_steps = total_steps
        self.invalid_loss = invalid_loss
        self.teacher = teacher
        self.average = average
        self.skipped: list[str] = []
        self.invalid_batch: Batch | None = None
        self._skips_in_a_row = 0
        self._dev = {"loss": 0.0, "tokens": 0, "errors": 0, "words": 0}

    def training_step(self, batch: Batch, batch_index: int) -> Tensor | dict[str, Tensor] | None:
        log_probs, lengths = self.model(batch.features, batch.feature_lengths)
        losses = ctc_losses(log_probs, lengths, batch.targets, batch.target_lengths)
        if not bool(torch.isfinite(losses).all()):
            self._invalid(batch, losses)
            return None
        self._skips_in_a_row = 0
        parts = mixed_loss(losses, batch, log_probs, lengths, self.teacher)
        return parts["loss"] if self.teacher is None else parts

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        network = self.model if self.average is None else self.average
        log_probs, lengths = network(batch.features, batch.feature_lengths)
        losses = ctc_losses(log_probs, lengths, batch.targets, batch.target_lengths)
        finite = torch.isfinite(losses)
        self._dev["loss"] += float(losses[finite].sum())
        self._dev["tokens"] += int(batch.target_lengths[finite].sum())
        hypotheses = decode(log_probs.float().cpu().numpy(), lengths.cpu().numpy(), self.tokenizer)
        references = [
            self.tokenizer.decode(target[:length].tolist())
            for target, length in zip(batch.targets, batch.target_lengths, strict=True)
        ]
        counts = sum_errors(errors_of(references, hypotheses))
        self._dev["errors"] += counts.total
        self._dev["words"] += counts.words

    def on_validation_epoch_end(self) -> None:
        sums = torch.tensor([float(v) for v in self._dev.values()], dtype=torch.float64)
        loss, tokens, errors, words = self.trainer.strategy.reduce(
            sums.to(self.device), reduce_op="sum"
        ).tolist()
        self._dev = dict.fromkeys(self._dev, 0)
        if words:
            self.log("dev_loss", loss / max(1.0, tokens), rank_zero_only=True)
            self.log("dev_wer", errors / words, rank_zero_only=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["skipped"] = {"messages": self.skipped, "in_a_row": self._skips_in_a_row}
        if self.teacher:
            checkpoint["distillation"] = self.teacher.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.skipped = list(checkpoint["skipped"]["messages"])
        self._skips_in_a_row = checkpoint["skipped"]["in_a_row"]
        if self.teacher:
            self.teacher.load_state_dict(checkpoint["distillation"])

    def configure_optimizers(self) -> Any:
        optimiser = build_optimiser(self.model, self.optimiser_settings)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser,
            lambda step: learning_rate_factor(step, self.total_steps, self.optimiser_settings),
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _invalid(self, batch: Batch, losses: Tensor) -> None:
        bad = [
            f"{identity} ({loss:g})"
            for identity, loss in zip(batch.ids, losses.tolist(), strict=True)
            if not math.isfinite(loss)
        ]
        where = f"epoch {self.current_epoch + 1}, step {self.global_step}"
        message = f"{where}: infinite or NaN CTC loss for {', '.join(bad)}"
        self._skips_in_a_row += 1
        if self.invalid_loss == "skip" and self._skips_in_a_row < SKIPS_IN_A_ROW:
            self.skipped.append(message)
            print(f"skipped: {message}", file=sys.stderr)
            return
        self.invalid_batch = batch
        advice = (
            f"{SKIPS_IN_A_ROW} batches in a row: the weights are broken; lower "
            "optimiser.learning_rate"
            if self.invalid_loss == "skip"
            else "check these utterances with `asr check`, or set training.invalid_loss=skip"
        )
        raise InvalidLoss(f"{message}\n{advice}")
