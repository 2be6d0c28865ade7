"""One training from settings to a run folder: where data, network, pruning and records meet.

A run folder holds `config.yaml`, `starts.json`, `metrics.csv`, `checkpoints/last.ckpt` (to resume),
`model.asr` (the best network, dense), `packed.asr`, `sparsity.csv` of a pruned network (a row for
each update of the masks), `ref_hyp.<set>.txt`, and `record.json`, which is written last: a folder
with a record is finished.
"""

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from asr import environment
from asr.errors import AsrError
from asr.files import check_folder_writable
from asr.model.dimensions import Model
from asr.model.file import load_weights
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
from asr.train.fit import TrainingParts, fit, try_largest_batch
from asr.train.folder import begin, check_same, exclusive, resume_point, run_folder
from asr.train.module import SpeechTraining
from asr.train.prepare import Prepared, prepare
from asr.train.pruning import check_pruning, rule_of
from asr.train.record import finish
from asr.train.trainer import fast_precision


def train(settings: Run, console: Console | None = None) -> Path:
    """Train, or continue a training that was interrupted; returns the run folder.

    A finished run is left as it is.

    Raises:
        AsrError: for data that cannot be trained on, a folder that holds another run, an invalid
            loss, a sparsity that missed `pruning.target` or `pruning.expected_sparsity`.
    """
    check_pruning(settings.pruning)
    console = console or Console(stderr=True)
    folder = run_folder(settings)
    if os.path.exists(folder / "record.json"):  # not Path.exists: it raises for some odd names
        check_same(folder, settings)
        # A run that ended with this error has a record too, and must not look like a success.
        _check_sparsity(settings, read_record(folder / "record.json"), folder)
        console.print(f"{settings.name}: finished before, see {folder}", highlight=False)
        return folder
    check_folder_writable(folder)
    with exclusive(folder):
        return _train(settings, folder, console)


def _train(settings: Run, folder: Path, console: Console) -> Path:
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    prepared = prepare(settings, folder, console)
    settings = replace(
        settings,
        model=replace(settings.model, outputs=prepared.tokenizer.size),
        training=replace(settings.training, precision=_precision(settings, folder)),
    )
    begin(folder, settings, [*prepared.train, *prepared.dev])
    parts = _assemble(settings, folder, console, prepared)
    rule = rule_of(settings.pruning, parts.model, parts.total_steps)
    pruning = PruningCallback(rule, parts.model) if rule else None
    if not resume_point(folder).exists():
        try_largest_batch(parts)
    figures, best = fit(parts, pruning)
    if best.best["epoch"] is None:  # pruning ended after the last validation
        parts.save()
        best.best = {"epoch": settings.training.epochs, "wer": figures.rows[-1]["dev_wer"]}
    training = {
        "seconds": figures.seconds,
        "steps": parts.total_steps,
        "epochs": settings.training.epochs,
        "audio_hours": settings.training.epochs * sum(u.duration for u in prepared.train) / 3600,
        "final_loss": figures.rows[-1]["train_loss"],
        "best_epoch": best.best["epoch"],
        "dev_wer": best.best["wer"],
        "excluded_utterances": prepared.excluded,
        "skipped_batches": len(parts.module.skipped),
    }
    if settings.training.average:
        training["average"] = settings.training.average
    distillation = None
    if teacher := parts.module.teacher:
        losses = {name: figures.rows[-1][name] for name in ("ctc_loss", "distillation_loss")}
        distillation = teacher.to_plain() | losses
    record = finish(settings, folder, training, pruning.pruner if pruning else None, distillation)
    _check_sparsity(settings, record, folder)
    return folder


def _assemble(settings: Run, folder: Path, console: Console, prepared: Prepared) -> TrainingParts:
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
    )
    model = build_model(settings)
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
    )
    return TrainingParts(settings, folder, console, tokenizer, model, module, data, total_steps)


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
    """The network that training starts with; weights of `init` that do not fit are an AsrError."""
    _check_memory(settings.model)
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
