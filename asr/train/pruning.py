"""The pruning that settings ask for, as a rule of `asr.pruning`."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any, get_args

from asr.errors import AsrError, problems
from asr.model.file import load_model
from asr.model.torch_network import DeepSpeech
from asr.plain import refuse_unused
from asr.pruning import (
    FewUpdates,
    GroupLasso,
    Pattern,
    Rule,
    calibrate,
    find,
    pattern_from_plain,
    schedule_from_fractions,
)
from asr.pruning.schedule import options_of
from asr.settings.pruning import PruningSettings

_WINDOW = ("start", "ramp", "end", "mask_updates")
"""Options that recipes set for whatever method: one that does not take them leaves them out."""
_ANY_STEPS = 1_000_000


def check_pruning(pruning: PruningSettings) -> None:
    """Raise AsrError, with the keys, for settings that contradict each other or do nothing.

    Needs neither network nor data, so that a run is refused before it starts.
    """
    _check_unused(pruning)
    if pruning.method == "none":
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewUpdates)  # warned of when the number of steps is known
        # Thresholds are those of a network: any will do to see whether they are allowed.
        _rule(pruning, _ANY_STEPS, {"any": 1.0} if pruning.dense else None, seed=0)


def rule_of(
    pruning: PruningSettings, model: DeepSpeech, total_steps: int, seed: int = 0
) -> Rule | None:
    """The rule for a training of `total_steps` optimiser steps; None for pruning.method=none.

    seed: of what a schedule draws at random (RigL's first mask).

    Raises:
        AsrError: as `check_pruning`; for a window without room for its updates, tensors that are
            not there, a dense model of other dimensions.
    """
    check_pruning(pruning)
    if pruning.method == "none":
        return None
    thresholds = _thresholds(pruning, model) if pruning.dense else None
    return _rule(pruning, total_steps, thresholds, seed)


def lasso_of(pruning: PruningSettings, model: DeepSpeech) -> GroupLasso | None:
    """The penalty that `pruning.lasso` asks for, on the tensors that are pruned; None without."""
    if not pruning.lasso:
        return None
    rows, columns = pruning.block
    return GroupLasso(model, pruning.lasso, rows, columns, pruning.tensors)


def _rule(
    pruning: PruningSettings, total_steps: int, thresholds: Mapping[str, float] | None, seed: int
) -> Rule:
    # A schedule takes what it needs of all the settings; a ramp without a target has None there.
    options = asdict(pruning) | {"target": pruning.target or None, "seed": seed}
    with _naming_keys(pruning):
        return Rule(
            schedule_from_fractions(pruning.method, total_steps, options),
            pruning.tensors,
            _pattern(pruning),
            pruning.scope,
            thresholds,
            pruning.keep_zeros,
        )


def _pattern(pruning: PruningSettings) -> Pattern:
    rows, columns = pruning.block
    options: dict[str, dict[str, Any]] = {
        "element": {},
        "block": {"rows": rows, "columns": columns, "score": pruning.block_score},
        "bank": {"columns": pruning.bank},
    }
    return pattern_from_plain({"name": pruning.pattern, **options[pruning.pattern]})


@contextmanager
def _naming_keys(pruning: PruningSettings) -> Iterator[None]:
    """Begin the message of an AsrError with the settings in question."""
    try:
        yield
    except AsrError as error:
        here, default = asdict(pruning), asdict(PruningSettings())
        keys = ("method", "dense", "pattern", "scope", "keep_zeros")
        words = [f"pruning.{key}={here[key]}" for key in keys if here[key] != default[key]]
        raise AsrError(f"{' '.join(words)}: {error}") from None


def _check_unused(pruning: PruningSettings) -> None:
    """Refuse options that the method does not take, as `asr.pruning` has them."""
    options = {m: options_of(m) for m in _methods()}
    named = {option for taken in options.values() for option in taken}
    rows = []
    for option in sorted(named & vars(pruning).keys() - set(_WINDOW)):
        takers = [method for method, taken in options.items() if option in taken]
        used = pruning.method == "none" or pruning.method in takers
        rows.append(((option,), used, f"pruning.method={' or '.join(takers)}"))
    with problems() as check:
        refuse_unused(check, "pruning", pruning, *rows)


def _methods() -> list[str]:
    (choices,) = (f.type for f in fields(PruningSettings) if f.name == "method")
    return [name for name in get_args(choices) if name != "none"]


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
