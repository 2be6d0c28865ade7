"""The network that a training starts from: new, or that of `init`, with what belongs to it.

Weights mean something only behind the same features, in the same dimensions and before the same
tokens. So all of these come from the file, and a recipe that says something else is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError
from asr.model.file import ModelFile, load_model, read_without_tensors
from asr.plain import to_plain
from asr.pretrained import registry
from asr.settings.data import TokenizerSettings
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.text.tokenizer import Tokenizer, load_tokenizer_file

if TYPE_CHECKING:
    from asr.model.torch_network import DeepSpeech

_OWN = ("outputs", "dropout")
"""Dimensions that a training sets: from its tokenizer, and as it likes."""
_OUTPUT = "output.linear."
"""Begins the names of the tensors that are made for the tokens; the norm before them is not."""
_MANY = 0.1
"""Zeros from this fraction on were put there by pruning."""


def read_settings(recipe: str | Path, overrides: Sequence[str] = ()) -> Run:
    """Settings of a recipe; what it leaves out of those of a network is taken from `init`.

    Raises AsrError as `asr.settings.yaml.load`, and for an `init` that is not a model.
    """
    return load(Run, recipe, overrides, _of_init)


def _of_init(given: dict[str, Any]) -> Mapping[str, Any]:
    init = given.get("init")
    if not isinstance(init, str) or not init:
        return {}
    file = _opened(init)
    model, frontend = to_plain(file.metadata.model), to_plain(file.metadata.frontend)
    found: dict[str, Any] = {"model": model, "frontend": frontend}
    if given.get("init_output") != "new" and not given.get("tokenizer"):
        found["tokenizer"] = _described(file.tokenizer)
    return found


def check_initial(settings: Run) -> None:
    """AsrError if features, dimensions or tokenizer of the settings are not those of `init`."""
    if not settings.init:
        return
    file = _opened(settings.init)
    if file.metadata.folded:
        raise AsrError(
            f"init={settings.init}: its batch norms were folded into the weights; start from the "
            "file that it was packed from, or pack that one without --fold"
        )
    problems = []
    for section, there in (("frontend", file.metadata.frontend), ("model", file.metadata.model)):
        here, known = to_plain(getattr(settings, section)), to_plain(there)
        problems += [
            f"{section}.{key}={value}: it has {known[key]}"
            for key, value in here.items()
            if value != known[key] and key not in _OWN
        ]
    if problems:
        raise AsrError(
            f"init={settings.init} does not fit the network described by the settings:\n"
            + "".join(f"  {problem}\n" for problem in problems)
            + "Leave these settings out: asr train then takes them from that file"
        )
    if settings.init_output == "keep":
        _check_tokenizer(settings, file.tokenizer)


def tokenizer_of_init(settings: Run) -> Tokenizer | None:
    """The tokenizer that `init` brings; None if the tokens are those of `settings.tokenizer`."""
    if not settings.init or settings.init_output == "new":
        return None
    return _opened(settings.init).tokenizer


def start_from_init(model: "DeepSpeech", settings: Run) -> None:
    """Load the weights of `init` into a new network, all but those of a new output layer.

    Raises AsrError as `check_initial`.
    """
    check_initial(settings)
    loaded = load_model(registry.resolve(settings.init))
    weights = loaded.model.state_dict()
    if settings.init_output == "new":
        own = model.state_dict()
        weights |= {name: own[name] for name in own if name.startswith(_OUTPUT)}
    model.load_state_dict(weights)


def zeros_that_are_lost(model: "DeepSpeech", settings: Run) -> str:
    """What to tell about a pruned `init` whose zeros the training fills; empty if it does not.

    Raises AsrError if it should keep zeros and there are none.
    """
    from asr.pruning import find, statistics

    pruning = settings.pruning
    if not settings.init or pruning.method not in ("none", "fixed_mask"):
        return ""
    kept = find(model, pruning.tensors) if pruning.method == "fixed_mask" else {}
    tensors = statistics(model).tensors
    if kept and not any(t.sparsity for t in tensors if t.name in kept):
        raise AsrError(
            f"init={settings.init}: no weight of {', '.join(pruning.tensors)} is zero, so "
            "pruning.method=fixed_mask has nothing to keep; pruning.method=none trains it dense"
        )
    lost = [t for t in tensors if t.name not in kept and t.sparsity >= _MANY]
    if not lost:
        return ""
    zeros = sum(t.elements - t.nonzeros for t in lost)
    remedy = "pruning.method=fixed_mask keeps them"
    if kept:
        remedy = f"name them in pruning.tensors (now {pruning.tensors})"
    return (
        f"init={settings.init}: {zeros:,} zeros in {len(lost)} tensors, such as {lost[0].name}, "
        f"will be trained away; {remedy}"
    )


def _opened(init: str) -> ModelFile:
    return read_without_tensors(registry.resolve(init))


def _described(tokenizer: Tokenizer) -> dict[str, Any]:
    """The settings that describe a tokenizer."""
    learnt = {"size": tokenizer.size - 1} if tokenizer.kind == "sentencepiece" else {}
    return {"kind": tokenizer.kind, **learnt}


def _check_tokenizer(settings: Run, there: Tokenizer) -> None:
    here: TokenizerSettings = settings.tokenizer
    own = f"{there.kind}, {there.size} tokens"
    if here.file:
        same = load_tokenizer_file(here.file) == there
        named = f"tokenizer.file={here.file}"
    else:
        found = to_plain(here)
        different = {k: found[k] for k, v in _described(there).items() if found[k] != v}
        same = not different
        named = " ".join(f"tokenizer.{key}={value}" for key, value in different.items())
    if not same:
        raise AsrError(
            f"{named}: init={settings.init} has another tokenizer ({own}), and each output of a "
            "network means one token. Leave `tokenizer` out to go on with the old tokens, or "
            "set init_output=new for a new output layer"
        )
