"""What a training will prune, and when, before it starts: `asr.pruning.plan` for a recipe."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from asr.corpus import sources
from asr.errors import AsrError
from asr.files import atomic_path, check_writable, print_if_lost
from asr.model.file import load_weights
from asr.pruning.plan import Plan, plan
from asr.settings.run import Run
from asr.text.tokenizer import CharacterTokenizer, load_tokenizer_file
from asr.train.data import plan_epoch, slowest
from asr.train.pruning import check_pruning, rule_of
from asr.train.run import build_model, optimiser_steps
from asr.train.stats import check_picture


def plan_to(settings: Run, plot: Path | None = None) -> str:
    """The plan of a training as text, and its curve as a picture if `plot` names one.

    Raises AsrError as the training itself would at its start, and for `pruning.method=none`.
    """
    check_picture(plot)
    check_writable(plot)
    check_pruning(settings.pruning)
    durations = _durations(settings)
    longest = slowest(durations, settings.augment)
    world = max(1, settings.training.devices) * max(1, settings.training.nodes)
    batches = plan_epoch(longest, settings.data.batch_limit, settings.seed, 0, world=world)
    steps = optimiser_steps(len(batches), settings)
    total = steps * settings.training.epochs
    found = plan_of(settings, total)
    hours = durations.sum(dtype=float) / 3600
    accumulated = f" of {settings.training.accumulate} batches" * (settings.training.accumulate > 1)
    lines = [
        f"{len(durations):,} utterances, {hours:.2f} hours: {total:,} optimiser steps, "
        f"{settings.training.epochs} epochs of {steps:,} steps{accumulated}",
        "(fewer, if training finds utterances that cannot be used)",
        "",
        found.table(),
    ]
    if plot is not None:
        with print_if_lost("\n".join(lines)), atomic_path(plot) as temporary:
            found.draw().savefig(temporary, dpi=160)
        lines.append(f"written to {plot}")
    return "\n".join(lines)


def plan_of(settings: Run, total_steps: int) -> Plan:
    """The plan of a training of `total_steps` optimiser steps.

    Predicted from the weights of `pruning.dense` or `init`, if there are any.
    """
    torch.manual_seed(settings.seed)
    size = replace(settings.model, outputs=_outputs(settings))
    model = build_model(replace(settings, model=size))
    rule = rule_of(settings.pruning, model, total_steps, settings.seed)
    if rule is None:
        raise AsrError(
            "pruning.method=none: nothing is pruned. For the paper's ramp to 90 % zeros set "
            "pruning.method=threshold_ramp pruning.target=0.9"
        )
    known = None
    if settings.pruning.dense:
        known = load_weights(settings.pruning.dense)
    elif settings.init:
        known = model.state_dict()
    return plan(model, rule, known, total_steps)


def _durations(settings: Run) -> np.ndarray:
    """Of what can be used for training, by duration."""
    data = settings.data
    if not data.train:
        raise AsrError("data.train must name at least one manifest or folder")
    with tempfile.TemporaryDirectory() as folder:
        found = sources.index(data.train, data.root, data.spoken, Path(folder)).durations
    kept = found[found <= data.max_seconds]
    if not len(kept):
        raise AsrError(f"data.train: none of {len(found)} utterances is short enough to use")
    return kept


def _outputs(settings: Run) -> int:
    """Outputs of the network; a tokenizer that is not trained yet has the size asked for."""
    if settings.tokenizer.kind == "characters":
        return CharacterTokenizer().size
    if settings.tokenizer.file:
        return load_tokenizer_file(Path(settings.tokenizer.file)).size
    return settings.tokenizer.size + 1
