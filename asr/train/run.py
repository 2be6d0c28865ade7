"""One training from settings to a run folder: where data, network, pruning and records meet.

A run folder holds `config.yaml`, `starts.json`, `metrics.csv`, `checkpoints/last.ckpt` (to resume),
`model.asr` (the best network, dense), `packed.asr`, `sparsity.csv` of a pruned network (a row for
each update of the masks), `ref_hyp.<set>.txt`, `data/` (where the utterances lie in their
manifests; `asr.corpus.index`), and `record.json`, which is written last: a folder with a record is
finished.
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
from asr.train.data import SpeechData, can_cache
from asr.train.distillation import Teacher
from asr.train.fit import Trained, TrainingParts, fit
from asr.train.folder import begin, check_same, exclusive, resume_point, run_folder
from asr.train.initial import check_initial, start_from_init, zeros_that_are_lost
from asr.train.module import SpeechTraining
from asr.train.prepare import Prepared, prepare
from asr.train.pruning import check_pruning, rule_of
from asr.train.ranks import Ranks, joined
from asr.train.record import finish, rename
from asr.train.trainer import fast_precision, place
from asr.train.trial import check_gpu, find_batch_seconds, most_seconds, try_largest_batch


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
        console = (
            (console or Console(stderr=True, markup=False, highlight=False))
            if ranks.rank == 0
            else Console(quiet=True)
        )
        folder = run_folder(settings)
        if ranks.on_first(lambda: _finished(settings, folder, console)):
            return folder
        with ExitStack() as held:
            ranks.on_first(lambda: _hold(settings, folder, held))
            return _train(settings, folder, console, ranks)


def _finished(settings: Run, folder: Path, console: Console) -> bool:
    """Whether the run was finished before. Raises AsrError if it is another one, or failed."""
    if not os.path.exists(folder / "record.json"):  # not Path.exists: it raises for some odd names
        return False
    check_same(folder, settings)
    # A run that ended with this error has a record too, and must not look like a success.
    _check_sparsity(settings, read_record(folder / "record.json"), folder)
    rename(folder / "record.json", settings)
    console.print(f"{settings.name}: finished before, see {folder}")
    return True


def _hold(settings: Run, folder: Path, held: ExitStack) -> None:
    """Lock the folder. Raises AsrError if it cannot be, or has begun a run of other settings."""
    check_folder_writable(folder)
    held.enter_context(exclusive(folder))
    # Before the data are checked: that takes long, and writes into the folder.
    if resume_point(folder).exists():
        check_same(folder, settings)


def _train(settings: Run, folder: Path, console: Console, ranks: Ranks) -> Path:
    torch.set_num_threads(settings.threads)
    ranks.on_first(lambda: check_initial(settings))
    known = ranks.on_first(lambda: _earlier_batch_seconds(settings, folder))
    if known is None:
        ranks.everywhere(check_gpu)
    if settings.data.cache_gigabytes and not can_cache(settings.data):
        console.print(
            f"{settings.name}: data.cache_gigabytes caches nothing with data.workers="
            f"{settings.data.workers}: this system does not fork processes, and others lose what "
            "they hold at the end of an epoch",
        )
    prepared = ranks.on_first(lambda: prepare(settings, folder, console))
    settings = replace(
        settings,
        model=replace(settings.model, outputs=prepared.tokenizer.size),
        training=replace(
            settings.training, precision=ranks.on_first(lambda: _precision(settings, folder))
        ),
    )

    def assemble(batch_seconds: float) -> TrainingParts:
        data = replace(settings.data, batch_seconds=batch_seconds)
        chosen = replace(settings, data=data)
        return ranks.everywhere(lambda: _assemble(chosen, folder, console, prepared, ranks))

    if known is None:
        # Only the data depends on the size of a batch, and it is asked for others.
        seconds = float(prepared.train.durations.sum(dtype=float))
        any_size = most_seconds(seconds, settings.data.max_seconds, ranks.world)
        known = find_batch_seconds(assemble(any_size))
    settings = replace(settings, data=replace(settings.data, batch_seconds=known))
    ranks.on_first(lambda: begin(folder, settings, prepared.train, prepared.dev, ranks.world))
    resume = ranks.on_first(lambda: resume_point(folder).exists())
    parts = assemble(known)
    rule = rule_of(settings.pruning, parts.model, parts.total_steps, settings.seed)
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
        "audio_hours": last["epoch"] * float(prepared.train.durations.sum(dtype=float)) / 3600,
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
    torch.manual_seed(settings.seed)
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
        ranks.place.devices,
    )
    model = build_model(settings)
    if warning := zeros_that_are_lost(model, settings):
        console.print(f"{settings.name}: {warning}")
    steps = optimiser_steps(data.steps_per_epoch, settings)
    total_steps = steps * settings.training.epochs
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


def _earlier_batch_seconds(settings: Run, folder: Path) -> float | None:
    """`data.batch_seconds`; for `auto` what a run that is resumed has found, None if none has."""
    if settings.data.batch_seconds != "auto":
        return settings.data.batch_seconds
    if resume_point(folder).exists():
        return load(Run, folder / "config.yaml").data.batch_limit
    return None


def _precision(settings: Run, folder: Path) -> Literal["auto", "float32", "bf16"]:
    if settings.training.precision != "auto":
        return settings.training.precision
    if resume_point(folder).exists():
        return load(Run, folder / "config.yaml").training.precision
    return fast_precision()


def optimiser_steps(batches: int, settings: Run) -> int:
    """Optimiser steps of an epoch of so many batches."""
    return -(-batches // settings.training.accumulate)


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
