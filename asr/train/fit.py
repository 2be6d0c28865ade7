"""The loop of one training: all epochs with their callbacks."""

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console

from asr.decode import priors
from asr.errors import AsrError
from asr.files import atomic_write_bytes
from asr.model.file import save_model
from asr.model.torch_network import DeepSpeech
from asr.pruning import GroupLassoCallback, PruningCallback
from asr.settings.run import Run
from asr.text.tokenizer import Tokenizer
from asr.train.average import WeightAveraging
from asr.train.batches import batch_bytes
from asr.train.callbacks import (
    BestModel,
    Figures,
    ResumePoint,
    SeedEachStep,
    SparseSteps,
    SparsityCurve,
    TrainingProgress,
)
from asr.train.checkpoint import check_resume_point
from asr.train.data import SpeechData
from asr.train.folder import resume_point
from asr.train.module import InvalidLoss, SpeechTraining
from asr.train.pruning import lasso_of
from asr.train.ranks import Ranks
from asr.train.trainer import exit_status, make_trainer, quiet
from asr.train.watch import Watch

_SHARED = Path("/dev/shm")
_LOCKS_BYTES = 2**16
"""Locks of one worker: more than its dozen pages."""


@dataclass(frozen=True)
class TrainingParts:
    """What the parts of one training share."""

    settings: Run
    folder: Path
    console: Console
    tokenizer: Tokenizer
    model: DeepSpeech
    module: SpeechTraining
    data: SpeechData
    total_steps: int
    ranks: Ranks

    def save(self) -> None:
        """Write `model.asr`: the network that was validated, so the average if there is one."""
        extra: dict[str, Any] = {"name": self.settings.name, "step": self.module.global_step}
        model = self.model
        if self.module.average is not None:
            model = cast(DeepSpeech, self.module.average.module)
            extra["average"] = self.settings.training.average
        if self.module.priors is not None:
            extra[priors.NAME] = priors.to_plain(self.module.priors)
        save_model(self.folder / "model.asr", model, self.tokenizer, self.settings.frontend, extra)


@dataclass(frozen=True)
class Trained:
    """What a training tells about itself."""

    figures: Figures
    best: BestModel
    watch: Watch


def fit(parts: TrainingParts, pruning: PruningCallback | None, resume: bool) -> Trained:
    """Train all epochs, from the resume point if there is one."""
    trained, callbacks = _callbacks(parts, pruning)
    last, ranks = resume_point(parts.folder), parts.ranks
    if resume:
        ranks.on_first(lambda: check_resume_point(last, parts.module))
    ranks.everywhere(lambda: _check_shared_memory(parts.settings.data.workers))
    with quiet():
        trainer = make_trainer(parts.settings, callbacks, ranks)
        # Gradients through time fade into denormal numbers, which take a sixth of a step's time.
        torch.set_flush_denormal(True)
        try:
            trainer.fit(
                parts.module,
                datamodule=parts.data,
                ckpt_path=str(last) if resume else None,
                weights_only=True,
            )
        except InvalidLoss as error:
            saved = parts.folder / "invalid_batch.pt"
            if parts.module.invalid_batch is not None:  # of this rank
                atomic_write_bytes(saved, batch_bytes(parts.module.invalid_batch))
            raise InvalidLoss(f"{error}\nThe batch is in {saved}.") from None
        except (RuntimeError, OSError) as error:
            if trainer.received_sigterm:  # the other ranks got it too, and ended before this one
                raise SystemExit(exit_status(trainer)) from None
            problem = _of_machine(error, parts) or ranks.lost(error)
            if not problem:
                raise
            raise AsrError(f"{problem}\nRun the same command to continue") from None
        except SystemExit:
            status = exit_status(trainer)
            if status is None:
                raise
            if trainer.interrupted:
                parts.console.print(
                    f"{parts.settings.name}: interrupted; run the same command to continue"
                )
            raise SystemExit(status) from None
        finally:
            torch.set_flush_denormal(False)
    return trained


def _check_shared_memory(workers: int) -> None:
    """AsrError if not even the locks of worker processes have room in /dev/shm."""
    if not workers or not _SHARED.is_dir():
        return
    free, needed = shutil.disk_usage(_SHARED).free, _LOCKS_BYTES * (workers + 1)
    if free < needed:
        raise AsrError(
            f"data.workers={workers}: {_SHARED} has {free} bytes free, and the locks of the worker "
            f"processes need {needed}: make room there (docker run --shm-size=64m), or set "
            "data.workers=0"
        )


def _of_machine(error: BaseException, parts: TrainingParts) -> str:
    """What the machine lacks, if that ended a training; empty for any other error."""
    workers = parts.settings.data.workers
    found: BaseException | None = error
    while found is not None:  # Lightning may fail once more while it ends
        if isinstance(found, OSError) and found.errno == errno.ENOSPC:
            shared = f", or in /dev/shm for data.workers={workers}" if workers else ""
            return f"no space is left on the disk of {parts.folder}{shared}: {found}"
        # Ended from outside: a worker's own errors come with their type and message.
        if isinstance(found, RuntimeError) and "DataLoader worker" in str(found):
            first = str(found).partition("\n")[0]
            advice = f"lower data.workers (now {workers}) or data.batch_seconds"
            return f"a process that loads data has ended: {first}\nIf memory is short, {advice}"
        found = found.__context__
    return ""


def _callbacks(parts: TrainingParts, pruning: PruningCallback | None) -> tuple[Trained, list[Any]]:
    """All callbacks in the order in which they run."""
    settings, folder, how = parts.settings, parts.folder, parts.settings.training

    def sparsity() -> float | None:
        return pruning.pruner.sparsity() if pruning and pruning.pruner else None

    def eligible() -> bool:
        return pruning is None or (pruning.pruner is not None and pruning.pruner.finished)

    def masks_changed() -> bool:
        pruner = pruning.pruner if pruning else None
        return bool(pruner and pruner.curve and pruner.curve[-1][0] == pruner.steps)

    def say(text: str) -> None:
        line = f"{settings.name}: {text}"
        parts.console.print(line, soft_wrap=True)

    figures = Figures(folder / "metrics.csv", sparsity)
    best = BestModel(parts.save, eligible, how.patience)
    watch = Watch(settings, parts.total_steps, say)
    callbacks: list[Any] = [watch]
    # The penalty changes gradients, the masks weights: both before anything looks at them.
    if lasso := lasso_of(settings.pruning, parts.model):
        callbacks.append(GroupLassoCallback(lasso))
    if pruning:
        callbacks += [pruning, SparsityCurve(folder / "sparsity.csv", lambda: pruning.pruner)]
        callbacks.append(SparseSteps(parts.model, lambda: pruning.pruner))
    callbacks += [SeedEachStep(settings.seed), figures]
    if parts.module.average is not None:
        callbacks.append(WeightAveraging(parts.module.average, parts.model, masks_changed))
    if how.progress:
        callbacks.append(TrainingProgress(settings.name, figures, parts.console))
    minutes, steps = how.checkpoint_minutes, how.checkpoint_steps
    last = ResumePoint(resume_point(folder), minutes, steps, parts.ranks)
    return Trained(figures, best, watch), [*callbacks, best, last]
