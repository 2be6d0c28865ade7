"""One training from settings to a run folder: where data, network, pruning and records meet.

A run folder holds `config.yaml`, `metrics.csv`, `checkpoints/last.ckpt` (to resume),
`model.asr` (the best network, dense), `packed.asr`, `sparsity.csv` of a pruned network (a row an
update of the masks), `ref_hyp.<set>.txt` and `record.json`,
which is written last: a folder with a record is finished.
"""

import copy
import json
import logging
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import lightning.pytorch as lightning
import torch
from rich.console import Console

from asr.errors import AsrError
from asr.files import atomic_write_bytes
from asr.model.file import load_weights, save_model
from asr.model.torch_network import DeepSpeech
from asr.pruning import GroupLassoCallback, PruningCallback
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.text.tokenizer import Tokenizer
from asr.train.average import WeightAveraging, average_of
from asr.train.callbacks import (
    BestModel,
    Figures,
    ResumePoint,
    SeedEachStep,
    SparsityCurve,
    TrainingProgress,
)
from asr.train.data import SpeechData
from asr.train.distillation import Distillation
from asr.train.folder import begin, check_same, exclusive, resume_point, run_folder
from asr.train.losses import ctc_losses
from asr.train.module import InvalidLoss, SpeechTraining
from asr.train.prepare import prepare
from asr.train.pruning import lasso_of, rule_of
from asr.train.record import finish


def train(settings: Run, console: Console | None = None) -> Path:
    """Train, or go on with a training that was interrupted; returns the run folder.

    A finished run is left as it is.

    Raises:
        AsrError: for data that cannot be trained on, a folder that holds another run, an invalid
            loss, a sparsity that missed `pruning.target` or `pruning.wanted`.
    """
    console = console or Console(stderr=True)
    folder = run_folder(settings)
    if (folder / "record.json").exists():
        check_same(folder, settings)
        # A run that ended with this error has a record too; the error does not go away by itself.
        _check_sparsity(settings, json.loads((folder / "record.json").read_text()), folder)
        console.print(f"{settings.name}: finished before, see {folder}", highlight=False)
        return folder
    with exclusive(folder):
        return _train(settings, folder, console)


def _train(settings: Run, folder: Path, console: Console) -> Path:
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    prepared = prepare(settings, folder, console)
    tokenizer = prepared.tokenizer
    settings = replace(
        settings,
        model=replace(settings.model, outputs=tokenizer.size),
        training=replace(settings.training, precision=_precision(settings, folder)),
    )
    begin(folder, settings, [*prepared.train, *prepared.dev])

    data = SpeechData(
        prepared.train,
        prepared.dev,
        tokenizer,
        settings.frontend,
        settings.augment,
        settings.data,
        settings.seed,
    )
    model = build_model(settings)
    total_steps = steps_per_epoch(data, settings) * settings.training.epochs
    distillation = None
    if settings.distillation.teacher:
        distillation = Distillation.load(settings.distillation, model, tokenizer, settings.frontend)
    decay = settings.training.average
    module = SpeechTraining(
        model,
        tokenizer,
        settings.optimiser,
        total_steps,
        settings.training.invalid_loss,
        distillation,
        average_of(model, decay) if decay else None,
    )
    job = Job(settings, folder, console, tokenizer, model, module, data, total_steps)
    pruner = _pruning_callback(job)
    if not resume_point(folder).exists():
        _try_largest_batch(job)
    figures, best = _fit(job, pruner)
    if best.best["epoch"] is None:  # pruning ended after the last validation
        job.save()
        best.best = {"epoch": settings.training.epochs, "wer": figures.rows[-1]["dev_wer"]}
    training = {
        "seconds": figures.seconds,
        "steps": total_steps,
        "epochs": settings.training.epochs,
        "audio_hours": settings.training.epochs * sum(u.duration for u in prepared.train) / 3600,
        "final_loss": figures.rows[-1]["train_loss"],
        "best_epoch": best.best["epoch"],
        "dev_wer": best.best["wer"],
        "excluded_utterances": prepared.excluded,
        "skipped_batches": len(module.skipped),
        **({"average": decay} if decay else {}),
    }
    taught = None
    if distillation:
        last = figures.rows[-1]
        taught = distillation.to_plain() | {k: last[k] for k in ("ctc_loss", "distillation_loss")}
    record = finish(settings, folder, training, pruner.pruner if pruner else None, taught)
    _check_sparsity(settings, record, folder)
    return folder


@dataclass(frozen=True)
class Job:
    """What the parts of one training share."""

    settings: Run
    folder: Path
    console: Console
    tokenizer: Tokenizer
    model: DeepSpeech
    module: SpeechTraining
    data: SpeechData
    total_steps: int

    def save(self) -> None:
        """Write `model.asr`: the network that was validated, so the average if there is one."""
        extra: dict[str, Any] = {"name": self.settings.name, "step": self.module.global_step}
        model = self.model
        if self.module.average is not None:
            model = cast(DeepSpeech, self.module.average.module)
            extra["average"] = self.settings.training.average
        save_model(self.folder / "model.asr", model, self.tokenizer, self.settings.frontend, extra)


def _precision(settings: Run, folder: Path) -> Literal["auto", "float32", "bf16"]:
    if settings.training.precision != "auto":
        return settings.training.precision
    if resume_point(folder).exists():
        return load(Run, folder / "config.yaml").training.precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "float32"
    # Without these instructions bf16 products are emulated, at a fraction of the speed.
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def steps_per_epoch(data: SpeechData, settings: Run) -> int:
    """Optimiser steps of an epoch."""
    return -(-data.steps_per_epoch // settings.training.accumulate)


def build_model(settings: Run) -> DeepSpeech:
    """The network that training starts with; weights of `init` that do not fit are an AsrError."""
    model = DeepSpeech(settings.model)
    if settings.init:
        weights = load_weights(settings.init)
        own = model.state_dict()
        problems = [f"  {k}: missing there" for k in own if k not in weights]
        problems += [f"  {k}: not in this network" for k in weights if k not in own]
        problems += [
            f"  {k}: {tuple(weights[k].shape)} there, {tuple(own[k].shape)} here"
            for k in own
            if k in weights and weights[k].shape != own[k].shape
        ]
        if problems:
            raise AsrError(
                f"init={settings.init} does not fit the network described by the settings:\n"
                + "\n".join(problems[:20])
            )
        model.load_state_dict(weights)
    return model


def _pruning_callback(job: Job) -> PruningCallback | None:
    """The pruning callback that the settings ask for, or None."""
    rule = rule_of(job.settings.pruning, job.model, job.total_steps)
    return None if rule is None else PruningCallback(rule, job.model)


def _try_largest_batch(job: Job) -> None:
    """Run the batch that needs most memory now, not hours later, on a copy of the network."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = job.data.largest_batch().to(device)
    model = copy.deepcopy(job.model).to(device)
    try:
        log_probs, lengths = model(batch.features, batch.feature_lengths)
        loss = ctc_losses(log_probs, lengths, batch.targets, batch.target_lengths).sum()
        if job.module.distillation:
            loss = loss + job.module.distillation.loss(
                batch.features, batch.feature_lengths, log_probs, lengths
            )
        loss.backward()
    except (RuntimeError, MemoryError) as error:
        saved = job.folder / "failed_batch.pt"
        atomic_write_bytes(saved, _bytes(batch))
        raise AsrError(
            f"the largest batch ({len(batch.ids)} utterances, {batch.features.shape[1]} frames, "
            f"{batch.seconds:.0f} s) fails: {error}\nIt is in {saved}; if memory is short, lower "
            f"data.batch_seconds (now {job.settings.data.batch_seconds:g})"
        ) from None


def _fit(job: Job, pruner: PruningCallback | None) -> tuple[Figures, BestModel]:
    settings = job.settings
    last = resume_point(job.folder)

    def sparsity() -> float | None:
        return pruner.pruner.sparsity() if pruner and pruner.pruner else None

    def eligible() -> bool:
        return pruner is None or (pruner.pruner is not None and pruner.pruner.finished)

    def updated() -> bool:
        masks = pruner.pruner if pruner else None
        return bool(masks and masks.curve and masks.curve[-1][0] == masks.steps)

    figures = Figures(job.folder / "metrics.csv", sparsity)
    best = BestModel(job.save, eligible)
    callbacks: list[Any] = [SeedEachStep(settings.seed), figures]
    if pruner:
        curve = SparsityCurve(job.folder / "sparsity.csv", lambda: pruner.pruner)
        callbacks[:0] = [pruner, curve]
    if lasso := lasso_of(settings.pruning, job.model):
        callbacks.insert(0, GroupLassoCallback(lasso))
    if job.module.average is not None:
        callbacks.append(WeightAveraging(job.module.average, job.model, updated))
    if settings.training.progress:
        callbacks.append(TrainingProgress(settings.name, figures, job.console))
    callbacks += [
        best,
        ResumePoint(last, settings.training.checkpoint_minutes, settings.training.checkpoint_steps),
    ]
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # These say that Lightning cannot know what our data module does (asr/corpus/datamodule.py),
        # and that more workers or threads may be quicker.
        for message in (
            ".*resuming from a checkpoint that ended before the epoch ended.*",
            ".*does not have many workers.*",
            ".*The number of training batches.*",
            ".*treespec.*LeafSpec.*",
            ".*Checkpoint directory.*exists and is not empty.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        trainer = lightning.Trainer(
            accelerator="gpu" if torch.cuda.is_available() else "cpu",
            devices=1,
            max_epochs=settings.training.epochs,
            precision="bf16-mixed" if settings.training.precision == "bf16" else "32-true",
            gradient_clip_val=settings.optimiser.clip_norm,
            accumulate_grad_batches=settings.training.accumulate,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=True,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
        )
        # Gradients through time fade into denormal numbers, which take a sixth of a step's time.
        torch.set_flush_denormal(True)
        try:
            trainer.fit(
                job.module,
                datamodule=job.data,
                ckpt_path=str(last) if last.exists() else None,
                weights_only=True,
            )
        except InvalidLoss as error:
            saved = job.folder / "invalid_batch.pt"
            atomic_write_bytes(saved, _bytes(job.module.invalid_batch))
            raise AsrError(f"{error}\nThe batch is in {saved}.") from None
        except SystemExit:
            # Lightning's answer to Ctrl-C and SIGTERM has status 1 and 0; neither says what it was.
            if trainer.received_sigterm:
                raise SystemExit(143) from None
            if trainer.interrupted:
                job.console.print(f"{settings.name}: interrupted; the same command goes on")
                raise SystemExit(130) from None
            raise
        finally:
            torch.set_flush_denormal(False)
    return figures, best


def _bytes(batch: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save(vars(batch), buffer)
    return buffer.getvalue()


def _check_sparsity(settings: Run, record: dict[str, Any], folder: Path) -> None:
    pruning = settings.pruning
    if not pruning.expected or not record["pruning"]:
        return
    reached = record["pruning"]["sparsity"]
    if abs(reached - pruning.expected) <= pruning.tolerance:
        return
    remedy = (
        "Check pruning.floor and pruning.pattern"
        if pruning.target
        else f"Change pruning.percentile (now {pruning.percentile}), or set pruning.target"
    )
    raise AsrError(
        f"{settings.name}: pruning reached {reached:.1%} where {pruning.expected:.1%} was wanted, "
        f"more than {pruning.tolerance:.0%} off. {remedy} and train again; the record is in "
        f"{folder}"
    )
