"""The network as a LightningModule: CTC loss, optimiser, validation loss and word error rate.

Knows nothing of pruning, files or recordings: batches come in, gradients and figures go out.
"""

import math
import sys
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from asr.decode.greedy import decode
from asr.evaluate.wer import errors_of, sum_errors
from asr.model.torch_layers import MaskedBatchNorm, valid_frames
from asr.model.torch_network import DeepSpeech
from asr.settings.training import OptimiserSettings
from asr.text.tokenizer import BLANK, Tokenizer
from asr.train.batches import Batch
from asr.train.distillation import Teacher
from asr.train.losses import ctc_losses
from asr.train.ranks import OnEveryRank, Ranks

SKIPS_IN_A_ROW = 20
LOOK_EVERY = 10
"""Batches from one look at whether the network writes anything to the next."""


class InvalidLoss(OnEveryRank):
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
    losses: Tensor,
    batch: Batch,
    log_probs: Tensor,
    lengths: Tensor,
    teacher: Teacher | None,
    ranks: Ranks | None = None,
) -> dict[str, Tensor]:
    """`loss` of a batch from its CTC `losses (batch,)`: their sum over its number of tokens.

    Per token, so that it means the same for batches of any size. With a teacher its loss is mixed
    in, and `ctc_loss` and `distillation_loss` say what of. Sums and numbers are those of the
    batches of all ranks: the mean over the ranks of the gradients of `loss`, which
    DistributedDataParallel takes, is the gradient of `train_loss`, the loss of all batches
    together. Without `loss` if a CTC loss of any rank is infinite or NaN.
    """
    ranks = ranks or Ranks()
    sums, counts = [losses.sum()], [batch.target_lengths.sum()]
    if teacher is not None:
        taught = teacher.loss(batch.features, batch.feature_lengths, log_probs, lengths)
        sums.append(taught[0])
        counts.append(taught[1])
    invalid = (~torch.isfinite(losses)).sum()
    table = torch.stack([t.detach().double() for t in (invalid, *sums, *counts)])
    invalid, *totals = ranks.sum(table).float()
    if invalid:
        return {}
    size = len(sums)
    least = [0.0] if teacher is None else [0.0, teacher.least]
    totals[size:] = [t.clamp_min(low) for t, low in zip(totals[size:], least, strict=True)]
    own = [ranks.world * each / count for each, count in zip(sums, totals[size:], strict=True)]
    whole = [each / count for each, count in zip(totals[:size], totals[size:], strict=True)]
    if teacher is None:
        return {"loss": own[0], "train_loss": whole[0]}
    weight = teacher.settings.weight
    return {
        "loss": (1 - weight) * own[0] + weight * own[1],
        "train_loss": (1 - weight) * whole[0] + weight * whole[1],
        "ctc_loss": whole[0],
        "distillation_loss": whole[1],
    }


class SpeechTraining(lightning.LightningModule):
    """CTC training of a `DeepSpeech` network.

    The loss is that of `mixed_loss`. Logged after each epoch: `dev_loss` (CTC per token) and
    `dev_wer` (errors over words), of `average`, a moving average of the network, where there is
    one, and `dev_written`, how many utterances it wrote words for. Skipped batches are named on
    standard error and listed in `skipped`. With several `ranks` all figures are those of all of
    them, and a batch that one skips is skipped by all.

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
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.optimiser_settings = optimiser
        self.total_steps = total_steps
        self.invalid_loss = invalid_loss
        self.teacher = teacher
        self.average = average
        self.ranks = ranks or Ranks()
        self.batches_since_step = 0
        """Batches with a gradient since the last step of the optimiser."""
        self.skipped: list[str] = []
        self.invalid_batch: Batch | None = None
        self._skips_in_a_row = 0
        self._dev = {"loss": 0.0, "tokens": 0, "errors": 0, "words": 0, "written": 0}
        self.priors: NDArray[np.floating] | None = None
        """Mean probability of each token over the frames of the last validation."""
        self._probabilities = self._no_frames()

    def on_fit_start(self) -> None:
        for layer in self.model.modules():
            if isinstance(layer, MaskedBatchNorm):
                layer.over_ranks = self.ranks.world > 1

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor] | None:
        log_probs, lengths = self.model(batch.features, batch.feature_lengths)
        losses = ctc_losses(log_probs, lengths, batch.targets, batch.target_lengths)
        found = mixed_loss(losses, batch, log_probs, lengths, self.teacher, self.ranks)
        if not found:
            self._invalid(batch, losses)
            return self._nothing()
        self._skips_in_a_row = 0
        self.batches_since_step += 1
        if batch_index % LOOK_EVERY == 0:
            found["written"] = (log_probs.detach().argmax(-1) != BLANK).sum()
        return found

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        network = self.model if self.average is None else self.average
        log_probs, lengths = network(batch.features, batch.feature_lengths)
        losses = ctc_losses(log_probs, lengths, batch.targets, batch.target_lengths)
        inside = valid_frames(lengths, log_probs.shape[1])
        self._probabilities[:-1] += log_probs[inside].double().exp().sum(0).cpu()
        self._probabilities[-1] += int(lengths.sum())
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
        self._dev["written"] += sum(map(bool, hypotheses))

    def _no_frames(self) -> Tensor:
        """A sum of probabilities of each token, and the number of frames."""
        return torch.zeros(self.tokenizer.size + 1, dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:
        sums = torch.tensor([float(v) for v in self._dev.values()], dtype=torch.float64)
        loss, tokens, errors, words, written = self.ranks.sum(sums.to(self.device)).tolist()
        self._dev = dict.fromkeys(self._dev, 0)
        *totals, frames = self.ranks.sum(self._probabilities.to(self.device)).tolist()
        self._probabilities = self._no_frames()
        self.priors = np.array(totals) / frames if frames else None
        if words:  # on every rank, for callbacks that decide by them
            self.log("dev_loss", loss / max(1.0, tokens))
            self.log("dev_wer", errors / words)
            self.log("dev_written", written)

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
        """Note a batch with an invalid loss on this rank or another, or raise InvalidLoss."""
        own = [
            f"{identity} ({loss:g})"
            for identity, loss in zip(batch.ids, losses.tolist(), strict=True)
            if not math.isfinite(loss)
        ]
        bad = [text for of_rank in self.ranks.gather(own) for text in of_rank]
        where = f"epoch {self.current_epoch + 1}, step {self.global_step}"
        message = f"{where}: infinite or NaN CTC loss for {', '.join(bad)}"
        self._skips_in_a_row += 1
        if self.invalid_loss == "skip" and self._skips_in_a_row < SKIPS_IN_A_ROW:
            self.skipped.append(message)
            if not self.ranks.rank:
                print(f"skipped: {message}", file=sys.stderr)
            return
        self.invalid_batch = batch if own else None
        advice = (
            f"{SKIPS_IN_A_ROW} batches in a row: the weights are broken; lower "
            "optimiser.learning_rate"
            if self.invalid_loss == "skip"
            else "check these utterances with `asr check`, or set training.invalid_loss=skip"
        )
        raise InvalidLoss(f"{message}\n{advice}")

    def _nothing(self) -> dict[str, Tensor] | None:
        """What a skipped batch adds to the gradients; Lightning refuses None on several ranks."""
        if self.ranks.world == 1:
            return None
        return {"loss": sum((p.sum() for p in self.model.parameters()), torch.tensor(0.0)) * 0.0}
