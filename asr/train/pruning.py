"""The pruning that settings ask for, as a rule of `asr.pruning`."""

from dataclasses import asdict
from typing import Any

from asr.errors import AsrError
from asr.model.file import load_model
from asr.model.torch_network import DeepSpeech
from asr.pruning import (
    Bank,
    Block,
    Constant,
    Cubic,
    Element,
    Frozen,
    GroupLasso,
    Linear,
    OneCut,
    Pattern,
    RigL,
    Rule,
    Schedule,
    ThresholdRamp,
    calibrate,
    find,
)
from asr.settings.pruning import PruningSettings


def rule_of(pruning: PruningSettings, model: DeepSpeech, total_steps: int) -> Rule | None:
    """The rule for a training of so many optimiser steps; None for pruning.method=none.

    Raises:
        AsrError: for a window without room for its updates, tensors that are not there, a dense
            model of other dimensions.
    """
    if pruning.method == "none":
        return None
    schedule = _schedule(pruning, total_steps)
    if isinstance(schedule, Frozen):
        return Rule(schedule, pruning.tensors)
    ramp = isinstance(schedule, ThresholdRamp)
    return Rule(
        schedule,
        pruning.tensors,
        _pattern(pruning),
        pruning.scope,
        target=(pruning.target or None) if ramp else None,
        thresholds=_thresholds(pruning, model) if pruning.dense else None,
        rates=pruning.rate_of or None,
        floor=pruning.floor,
        regrow=pruning.method == "rigl",
        keep_zeros=pruning.keep_zeros,
    )


def lasso_of(pruning: PruningSettings, model: DeepSpeech) -> GroupLasso | None:
    """The penalty that `pruning.lasso` asks for, on the tensors that are pruned; None without."""
    if not pruning.lasso:
        return None
    rows, columns = pruning.block
    return GroupLasso(model, pruning.lasso, rows, columns, pruning.tensors)


def _schedule(pruning: PruningSettings, total_steps: int) -> Schedule:
    start, end, updates = pruning.start, pruning.end, pruning.updates
    match pruning.method:
        case "ramp":
            return ThresholdRamp.from_fractions(
                total_steps, start, pruning.ramp, end, updates, pruning.ramp_ratio
            )
        case "cubic":
            return Cubic.from_fractions(total_steps, start, end, updates, pruning.target)
        case "linear":
            return Linear.from_fractions(total_steps, start, end, updates, pruning.target)
        case "constant":
            return Constant(pruning.target)
        case "rigl":
            return RigL.from_fractions(total_steps, end, updates, pruning.target, pruning.exchange)
        case "one_cut":
            return OneCut.from_fractions(total_steps, pruning.cut, pruning.target)
        case _:
            return Frozen()


def _pattern(pruning: PruningSettings) -> Pattern:
    if pruning.pattern == "bank":
        return Bank(pruning.bank)
    if pruning.pattern == "block":
        rows, columns = pruning.block
        return Block(rows, columns, pruning.block_score)
    return Element()


def _thresholds(pruning: PruningSettings, model: DeepSpeech) -> dict[str, float]:
    dense = load_model(pruning.dense).model
    if dense.dimensions != model.dimensions:
        raise AsrError(
            f"pruning.dense={pruning.dense} has other dimensions than this network: "
            + _difference(asdict(dense.dimensions), asdict(model.dimensions))
        )
    tensors = find(model, pruning.tensors)
    return calibrate(dense, tensors, pruning.percentile, pruning.calibrate)


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    return ", ".join(f"{k} {there[k]} against {here[k]}" for k in here if there[k] != here[k])
