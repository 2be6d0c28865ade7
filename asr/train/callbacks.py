"""Lightning callbacks of a run: exact randomness, resume points, the best model, figures, progress.

They do not change the weights. With them a training that was killed and resumed ends with the
same weights as one that was not.
"""

import csv
import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from asr.files import atomic_path, atomic_write_text
from asr.model.torch_network import DeepSpeech
from asr.pruning import Pruner
from asr.train.ranks import Ranks
from asr.train.trainer import accumulating


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as the text of a CSV file, floats to six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


class SeedEachStep(Callback):
    """Seed torch before every batch from (seed, epoch, batch, rank).

    Dropout then depends on the position in the training alone: nothing has to be saved, and a
    resumed run draws what the uninterrupted one drew, on every rank and device.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, index: int
    ) -> None:
        state = self.seed
        for number in (trainer.current_epoch, index, trainer.global_rank):
            state = (state * 1_000_003 + number + 1) % (2**63)
        torch.manual_seed(state)


class ResumePoint(Checkpoint):
    """Write `last.ckpt` after every epoch, every `minutes` and every `steps`.

    It derives from Lightning's `Checkpoint` so that it runs after every other callback: what it
    saves has been pruned. The file is replaced by a rename, so a kill leaves the old one whole.
    All ranks take part, rank 0 decides by the clock and writes.
    """

    def __init__(self, path: Path, minutes: float, steps: int, ranks: Ranks | None = None) -> None:
        self.path = path
        self.minutes = minutes
        self.steps = steps
        self.ranks = ranks or Ranks()
        self._saved = (time.monotonic(), 0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        when, step = self._saved
        if trainer.global_step == step or accumulating(trainer):
            return
        late = self.minutes > 0 and self.ranks.agree(time.monotonic() - when >= 60 * self.minutes)
        due = self.steps > 0 and trainer.global_step % self.steps == 0
        # The end of an epoch is saved after validation, by the hook below.
        if (late or due) and not trainer.is_last_batch:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write the resume point now."""
        if trainer.is_global_zero:
            with atomic_path(self.path) as temporary:
                trainer.save_checkpoint(temporary)
        else:  # Lightning writes nothing here, but waits for rank 0
            trainer.save_checkpoint(self.path)
        self._saved = (time.monotonic(), trainer.global_step)


class BestModel(Checkpoint):
    """Save the model of the best validated epoch among those that are `eligible`.

    `eligible()` is false while pruning goes on: a network that is not yet as sparse as it
    will be must not be chosen for its low error. Of equal epochs the first counts. With `patience`
    training stops when the best epoch is that many epochs ago; since there is none before pruning
    has ended, it never stops before.
    """

    def __init__(
        self, save: Callable[[], None], eligible: Callable[[], bool], patience: int = 0
    ) -> None:
        self.save = save
        self.eligible = eligible
        self.patience = patience
        self.best: dict[str, Any] = {"epoch": None, "wer": float("inf")}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wer = trainer.callback_metrics.get("dev_wer")
        if wer is None or not self.eligible():
            return
        if float(wer) < self.best["wer"]:
            self.best = {"epoch": trainer.current_epoch + 1, "wer": float(wer)}
            if trainer.is_global_zero:
                self.save()
        self._stop_if_due(trainer, trainer.current_epoch + 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that was killed after it had stopped must not go on.
        self._stop_if_due(trainer, trainer.current_epoch)

    def _stop_if_due(self, trainer: Trainer, epoch: int) -> None:
        """Stop after `epoch`, from 1; every rank has the same figures and decides the same."""
        best = self.best["epoch"]
        if self.patience and best is not None and epoch - best >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return dict(self.best)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = dict(state)


class SparseSteps(Callback):
    """Lets the network train on what is left of its weights as soon as the masks stay.

    It depends on the pruner's state alone, so a resumed training computes as the first one did.
    """

    def __init__(self, network: DeepSpeech, pruner: Callable[[], Pruner | None]) -> None:
        self.network = network
        self.pruner = pruner
        self._seen: tuple[int, bool] | None = None
        """Updates of the masks, and whether they were all, when the masks were last looked at."""
        self._done = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, index: int
    ) -> None:
        pruner = self.pruner()
        if self._done or pruner is None:
            return
        seen = (len(pruner.curve), pruner.finished)
        if seen != self._seen and pruner.settled:
            self.network.keep_zeros(pruner.masks())
            self._done = True
        self._seen = seen

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Whoever trains this network next may have other weights in the place of the zeros.
        self.network.keep_zeros(None)
        self._seen, self._done = None, False


class SparsityCurve(Callback):
    """`sparsity.csv`: a row for each update of the masks, with the sparsity of the pruned tensors
    together, of the model, and of each of these tensors. The rows are saved in the checkpoint."""

    def __init__(self, path: Path, pruner: Callable[[], Pruner | None]) -> None:
        self.path = path
        self.pruner = pruner
        self.rows: list[dict[str, Any]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        pruner = self.pruner()
        if pruner is None or not pruner.curve:
            return
        step, sparsity = pruner.curve[-1]
        if self.rows and self.rows[-1]["step"] == step:
            return
        totals = {"step": step, "pruned": sparsity, "model": pruner.model_sparsity()}
        self.rows.append(totals | pruner.sparsities())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.rows and trainer.is_global_zero:
            atomic_write_text(self.path, as_csv(list(self.rows[0]), self.rows))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])


class Figures(Callback):
    """`metrics.csv`: one row an epoch. The rows are saved in the checkpoint, so the file of a
    resumed run has no gaps and nothing twice."""

    COLUMNS = (
        "epoch", "step", "seconds", "learning_rate", "train_loss", "dev_loss", "dev_wer", "sparsity"
    )  # fmt: skip
    PARTS = ("ctc_loss", "distillation_loss")
    """The parts of `train_loss`, two more columns, if the module returns them."""

    def __init__(self, path: Path, sparsity: Callable[[], float | None]) -> None:
        self.path = path
        self.sparsity = sparsity
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._since = time.monotonic()
        self._losses: list[float] = []
        self._parts: dict[str, list[float]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if isinstance(outputs, dict) and "train_loss" in outputs:
            self._losses.append(float(outputs["train_loss"]))
            for name in self.PARTS:
                if name in outputs:
                    self._parts.setdefault(name, []).append(float(outputs[name]))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "seconds": round(self.elapsed(), 1),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train_loss": sum(self._losses) / max(1, len(self._losses)),
            "sparsity": self.sparsity(),
        }
        for name in ("dev_loss", "dev_wer"):
            value = trainer.callback_metrics.get(name)
            row[name] = None if value is None else float(value)
        row |= {name: sum(values) / len(values) for name, values in self._parts.items()}
        self._losses, self._parts = [], {}
        self.rows.append(row)
        if trainer.is_global_zero:
            parts = [name for name in self.PARTS if any(name in row for row in self.rows)]
            atomic_write_text(self.path, as_csv([*self.COLUMNS, *parts], self.rows))

    def elapsed(self) -> float:
        """Seconds of training so far, those before a resume included."""
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = now
        return self.seconds

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "seconds": self.elapsed(),
            "losses": self._losses,
            "parts": self._parts,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])
        self.seconds = state["seconds"]
        self._losses = list(state["losses"])
        self._parts = {name: list(values) for name, values in state["parts"].items()}
        self._since = time.monotonic()


class TrainingProgress(Callback):
    """A bar over the whole training with time left; without a terminal, a line each epoch."""

    def __init__(self, name: str, figures: Figures, console: Console) -> None:
        self.name = name
        self.figures = figures
        self.console = console
        self._bar: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.console.is_terminal or not trainer.is_global_zero:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
        )
        self._task = self._bar.add_task(
            self.name,
            total=trainer.estimated_stepping_batches,
            completed=trainer.global_step,
            figures="",
        )
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        if self._bar:
            self._bar.update(self._task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        row = self.figures.rows[-1]
        text = f"loss {row['train_loss']:.3f}"
        if row["dev_wer"] is not None:
            text += f"  dev WER {100 * row['dev_wer']:.1f} %"
        if row["sparsity"]:
            text += f"  sparsity {100 * row['sparsity']:.1f} %"
        if self._bar:
            self._bar.update(self._task, figures=text)
        elif trainer.is_global_zero:
            self.console.print(
                f"{self.name}: epoch {row['epoch']}/{trainer.max_epochs}  {text}  "
                f"{row['seconds']:.0f} s",
                soft_wrap=True,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
