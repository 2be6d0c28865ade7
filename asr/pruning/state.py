"""The state of a Pruner in a checkpoint: its version, and whether it fits this Pruner."""

from collections.abc import Mapping, Sequence
from typing import Any

from asr.errors import AsrError
from asr.pruning.rule import Rule

STATE_VERSION = 3


def check_same(
    state: Mapping[str, Any], rules: Sequence[Rule], shapes: Mapping[str, list[int]]
) -> None:
    """Raise AsrError that names each difference between a state's pruning and this one."""
    saved = {"tensors and shapes": {k: list(v) for k, v in state["shapes"].items()}}
    here: dict[str, dict[str, Any]] = {"tensors and shapes": dict(shapes)}
    for place, plain in ((saved, state["rules"]), (here, [rule.to_plain() for rule in rules])):
        for number, rule in enumerate(plain, 1):
            place[f"rule {number}"] = _flatten(rule)
    for what in sorted(set(saved) | set(here), key=lambda key: (key != "tensors and shapes", key)):
        there, own = saved.get(what, {}), here.get(what, {})
        differences = [
            f"{key}: {there.get(key, 'absent')} in the checkpoint, {own.get(key, 'absent')} here"
            for key in sorted(set(there) | set(own))
            if there.get(key) != own.get(key)
        ]
        if differences:
            raise AsrError(
                f"the checkpoint was made with other pruning ({what}):\n  "
                + "\n  ".join(differences)
                + "\nresume with the same settings, or start anew from its weights"
            )


def _flatten(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
