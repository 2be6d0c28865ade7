"""One training from settings to a run folder: where data, network, pruning and records meet.

A run folder holds `config.yaml`, `starts.json`, `metrics.csv`, `checkpoints/last.ckpt` (to resume),
`model.asr` (the best network, dense), `packed.asr`, `sparsity.csv` of a pruned network (a row for
each update of the masks), `ref_hyp.<set>.txt`, and `record.json`, which is written last: a folder
with a record is finished.
"""

import math
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from asr import environment
from asr.errors import AsrError
from asr.files import check_folder_writable
from asr.model.dimensions import Model
from asr.model.shapes import parameter_shapes
from asr.model.torch_network import DeepSpeech
from asr.pruning import PruningCallback
from asr.report.records import read_record
from asr.report.schema import RunRecord
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train.average import average_of
from asr.train.data import SpeechData
from asr.train.distillation import Teacher
from asr.train.fit import Trained, TrainingParts, fit, try_largest_batch
from asr.train.folder import begin, check_same, exclusive, resume_point, run_folder
from asr.train.initial import check_initial, start_from_init, zeros_that_are_lost
from asr.train.module import SpeechTraining
from asr.train.prepare import Prepared, prepare
from asr.train.pruning import check_pruning, rule_of
from asr.train.ranks import Ranks, joined
from asr.train.record import finish
from asr.train.trainer import fast_precision, place


def train(settings: Run, console: Console | None = None) -> Path:
    """Train, or continue a training that was interrupted; returns the run folder.

    A finished run is left as it is.

    Raises:
        AsrError: for data that cannot be trained on, a folder that holds another run, an invalid
            loss, a sparsity that missed `pruning.target` or `pruning.expected_sparsity`.
    """
    check_pruning(settings.pruning)
    with joined(settings.training, place()) as ranks:
        # One process reports; what the others have to say is an error.
        console = (console or Console(stderr=True)) if ranks.rank == 0 else Console(quiet=True)
        folder = run_folder(settings)
        if ranks.on_first(lambda: _finished(settings, folder, console)):
            return folder
        with ExitStack() as held:
            ranks.on_first(lambda: _hold(folder, held))
            return _train(settings, folder, console, ranks)


def _finished(settings: Run, folder: Path, console: Console) -> bool:
    """Whether the run was finished before. Raises AsrError if it is another one, or failed."""
    if not os.path.exists(folder / "record.json"):  # not Path.exists: it raises for some odd names
        return False
    check_same(folder, settings)
    # A run that ended with this error has a record too, and must not look like a success.
    _check_sparsity(settings, read_record(folder / "record.json"), folder)
    console.print(f"{settings.name}: finished before, see {folder}", highlight=False)
    return True


def _hold(folder: Path, held: ExitStack) -> None:
    check_folder_writable(folder)
    held.enter_context(exclusive(folder))


def _train(settings: Run, folder: Path, console: Console, ranks: Ranks) -> Path:
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    ranks.on_first(lambda: check_initial(settings))
    prepared = ranks.on_first(lambda: prepare(settings, folder, console))
    settings = replace(
        settings,
        model=replace(settings.model, outputs=prepared.tokenizer.size),
        training=replace(
            settings.training, precision=ranks.on_first(lambda: _precision(settings, folder))
        ),
    )
    utterances = [*prepared.train, *prepared.dev]
    ranks.on_first(lambda: begin(folder, settings, utterances, ranks.world))
    resume = ranks.on_first(lambda: resume_point(folder).exists())
    parts = ranks.everywhere(lambda: _assemble(settings, folder, console, prepared, ranks))
    rule = rule_of(settings.pruning, parts.model, parts.total_steps)
    pruning = PruningCallback(rule, parts.model) if rule else None
    if not resume:
        ranks.everywhere(lambda: try_largest_batch(parts))
    trained = fit(parts, pruning, resume)
    record = ranks.on_first(lambda: _finish(parts, prepared, trained, pruning))
    ranks.on_first(lambda: _check_sparsity(settings, record, folder))
    return folder


def _finish(
    parts: TrainingParts, prepared: Prepared, trained: Trained, pruning: PruningCallback | None
) -> RunRecord:
    """Test what was trained and write the record."""
    settings, best, last = parts.settings, trained.best.best, trained.figures.rows[-1]
    if best["epoch"] is None:  # pruning ended after the last validation
        parts.save()
        best = {"epoch": last["epoch"], "wer": last["dev_wer"]}
    training = {
        "seconds": trained.figures.seconds,
        "steps": last["step"],
        "epochs": last["epoch"],
        "audio_hours": last["epoch"] * sum(u.duration for u in prepared.train) / 3600,
        "final_loss": last["train_loss"],
        "best_epoch": best["epoch"],
        "dev_wer": best["wer"],
        "excluded_utterances": prepared.excluded,
        "skipped_batches": len(parts.module.skipped),
        "processes": parts.ranks.world,
        "warnings": tuple(trained.watch.warnings),
    }
    if settings.training.average:
        training["average"] = settings.training.average
    if last["epoch"] < settings.training.epochs:
        parts.console.print(
            f"{settings.name}: stopped after epoch {last['epoch']}: dev WER has not fallen since "
            f"epoch {best['epoch']} (training.patience={settings.training.patience})",
            highlight=False,
        )
    distillation = None
    if teacher := parts.module.teacher:
        losses = {name: last[name] for name in ("ctc_loss", "distillation_loss")}
        distillation = teacher.to_plain() | losses
    pruner = pruning.pruner if pruning else None
    return finish(settings, parts.folder, training, pruner, distillation)


def _assemble(
    settings: Run, folder: Path, console: Console, prepared: Prepared, ranks: Ranks
) -> TrainingParts:
    """Data, network, teacher and average of a training."""
    tokenizer = prepared.tokenizer
    data = SpeechData(
        prepared.train,
        prepared.dev,
        tokenizer,
        settings.frontend,
        settings.augment,
        settings.data,
        settings.seed,
        ranks.rank,
        ranks.world,
    )
    model = build_model(settings)
    if warning := zeros_that_are_lost(model, settings):
        console.print(f"{settings.name}: {warning}", highlight=False)
    total_steps = steps_per_epoch(data, settings) * settings.training.epochs
    teacher = None
    if settings.distillation.teacher:
        teacher = Teacher.load(settings.distillation, model, tokenizer, settings.frontend)
    decay = settings.training.average
    module = SpeechTraining(
        model,
        tokenizer,
        settings.optimiser,
        total_steps,
        settings.training.invalid_loss,
        teacher,
        average_of(model, decay) if decay else None,
        ranks,
    )
    return TrainingParts(
        settings, folder, console, tokenizer, model, module, data, total_steps, ranks
    )


def _precision(settings: Run, folder: Path) -> Literal["auto", "float32", "bf16"]:
    if settings.training.precision != "auto":
        return settings.training.precision
    if resume_point(folder).exists():
        return load(Run, folder / "config.yaml").training.precision
    return fast_precision()


def steps_per_epoch(data: SpeechData, settings: Run) -> int:
    """Optimiser steps of an epoch."""
    return -(-data.steps_per_epoch // settings.training.accumulate)


def build_model(settings: Run) -> DeepSpeech:
    """The network that training starts with: of random weights, or of those of `init`."""
    _check_memory(settings.model)
    model = DeepSpeech(settings.model)
    if settings.init:
        start_from_init(model, settings)
    return model


def _check_memory(dimensions: Model) -> None:
    """AsrError for a network whose weights alone are larger than the memory of the machine."""
    count = sum(math.prod(shape) for shape in parameter_shapes(dimensions).values())
    needed, there = 4 * count / 2**30, environment.machine()["memory_gib"]
    if there is not None and needed > there:
        raise AsrError(
            f"model: {count:,} parameters need {needed:,.0f} GiB, and this machine has "
            f"{there:,.0f}: make model.hidden (now {dimensions.hidden}), model.layers (now "
            f"{dimensions.layers}) or model.conv_channels smaller"
        )


def _check_sparsity(settings: Run, record: RunRecord, folder: Path) -> None:
    pruning = settings.pruning
    if not pruning.final_sparsity or not record.pruning:
        return
    reached = record.pruning.sparsity
    if abs(reached - pruning.final_sparsity) <= pruning.tolerance:
        return
    remedy = (
        "Check pruning.pattern"
        if pruning.target
        else f"Change pruning.percentile (now {pruning.percentile}), or set pruning.target"
    )
    raise AsrError(
        f"{settings.name}: pruning reached {reached:.1%} instead of {pruning.final_sparsity:.1%}, "
        f"more than {pruning.tolerance:.0%} off. {remedy} and train again; the record is in "
        f"{folder}"
    )
