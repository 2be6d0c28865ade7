"""The end of a run: the best network is tested once and packed, and `record.json` is written."""

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asr import environment
from asr.corpus import sources
from asr.evaluate.dataset import evaluate_model
from asr.evaluate.ref_hyp import write as write_ref_hyp
from asr.evaluate.wer import counted
from asr.model.file import TorchModel, load_model
from asr.model.pack import pack
from asr.plain import to_plain
from asr.pruning import Pruner, Statistics, statistics
from asr.report.records import write_record
from asr.settings.run import Run
from asr.text.normalise import NORMALISATION
from asr.train.folder import read_starts


def finish(
    settings: Run,
    folder: Path,
    training: dict[str, Any],
    pruner: Pruner | None,
    distillation: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Pack and test `model.asr` of a run folder and write its `record.json`, last of all.

    `training` holds the figures of the training itself; seconds, steps, epochs, audio_hours at
    least; `distillation` the teacher and the two losses. Each test set is read here and nowhere
    else. Returns the record.
    """
    loaded = load_model(folder / "model.asr")
    packed = pack(folder / "model.asr", folder / "packed.asr", values="fp16")
    evaluation = {}
    for entry in settings.data.test:
        name = sources.describe(entry)
        path = folder / f"ref_hyp.{name.replace(' ', '-')}.txt"
        evaluation[name] = _evaluate(loaded, entry, path, settings)
    stats = statistics(loaded.model, settings.pruning.tensors)
    seconds = training["seconds"]
    starts = [{"date": s["date"], "git": s["git"]} for s in read_starts(folder)]
    record = {
        "schema": 1,
        "name": settings.name,
        "recipe": settings.recipe,
        "group": settings.group or ("sparse" if pruner else "dense"),
        "label": settings.label or settings.name,
        "seed": settings.seed,
        "command": command(),
        "git": starts[0]["git"],
        "resumed": starts[1:],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": environment.versions(),
        "machine": environment.machine(),
        "threads": settings.threads,
        "settings": without_places(to_plain(settings)),
        "training": {
            **training,
            "audio_seconds_per_second": 3600 * training["audio_hours"] / seconds,
            "peak_memory_mib": environment.peak_memory_mib(),
        },
        "model": _model(settings, stats),
        "pruning": _pruning(settings, pruner, stats) if pruner else None,
        "distillation": distillation,
        "files": {
            "model_bytes": (folder / "model.asr").stat().st_size,
            "packed_bytes": packed.bytes,
            "packed_values": "fp16",
        },
        "evaluation": evaluation,
    }
    write_record(folder / "record.json", record)
    return record


def _evaluate(loaded: TorchModel, entry: str, ref_hyp: Path, settings: Run) -> dict[str, Any]:
    utterances = sources.resolve(entry, settings.data.root, settings.data.spoken)
    score, rows, seconds = evaluate_model(loaded, utterances, settings.data, settings.threads)
    write_ref_hyp(ref_hyp, rows)
    return {
        **score.to_plain(),
        "speakers": len({u.speaker for u in utterances}),
        "audio_seconds": sum(u.duration for u in utterances),
        "seconds": seconds,
        "decoder": "greedy",
        "lm": None,
        "normalisation": NORMALISATION,
        "interval_over": counted(score.groups, "speaker") if score.groups else "utterances",
    }


def _model(settings: Run, stats: Statistics) -> dict[str, Any]:
    return {
        "parameters": stats.parameters,
        "nonzeros": stats.nonzeros,
        "prunable_parameters": stats.prunable_parameters,
        "prunable_nonzeros": stats.prunable_nonzeros,
        "cell": settings.model.cell,
        "hidden": settings.model.hidden,
        "layers": settings.model.layers,
        "tokenizer": settings.tokenizer.kind,
        "tensors": [
            {
                "name": t.name,
                "shape": list(t.shape),
                "elements": t.elements,
                "nonzeros": t.nonzeros,
                "group": t.group,
            }
            for t in stats.tensors
        ],
    }


def _pruning(settings: Run, pruner: Pruner, stats: Statistics) -> dict[str, Any]:
    (rule,) = pruner.rules
    plan = rule.schedule
    shares = [t.sparsity for t in stats.tensors]
    steps = {k: v for k, v in plan.to_plain().items() if k in ("start", "ramp", "end", "frequency")}
    return {
        "method": settings.pruning.method,
        "wanted": settings.pruning.expected or None,
        "pattern": rule.pattern.to_plain(),
        "scope": rule.scope,
        "sparsity": stats.prunable_sparsity,
        "sparsity_min": min(shares),
        "sparsity_max": max(shares),
        "curve": [list(point) for point in pruner.curve],
        "thresholds": {name: {"q": q} for name, q in pruner.thresholds.items()},
        "updates": plan.updates,
        **steps,
    }


def command() -> str:
    """The command line as a person would type it, without this machine's paths."""
    words = [*_program(Path(sys.argv[0])), *sys.argv[1:]]
    words = [w for w in words if not w.startswith(("runs=", "data.root=", "data.spoken.folder="))]
    return shlex.join(_name_only(w) for w in words)


def _program(path: Path) -> list[str]:
    if path.suffix != ".py" or path.name == "__main__.py":
        return ["asr" if path.name == "__main__.py" else path.name]
    root = Path(__file__).resolve().parents[2]
    path = path.resolve()
    return ["python", str(path.relative_to(root)) if path.is_relative_to(root) else path.name]


def _name_only(word: str) -> str:
    """`key=/some/folder/run/model.asr` -> `key=run/model.asr`; also in a list, `key=[...]`."""
    key, separator, value = word.rpartition("=")
    if value.startswith("[") and value.endswith("]"):
        return key + separator + f"[{','.join(map(_name_only, value[1:-1].split(',')))}]"
    path = Path(value)
    if not path.is_absolute():
        return word
    return key + separator + "/".join(path.parts[-2:])


def without_places(plain: dict[str, Any]) -> dict[str, Any]:
    """Settings for a record: names of files, not the folders that they lie in on this machine."""
    plain = json.loads(json.dumps(plain))
    plain["runs"] = ""
    for section, key in (
        ("data", "root"),
        ("pruning", "dense"),
        ("distillation", "teacher"),
        ("tokenizer", "file"),
        ("augment", "noise_folder"),
        ("augment", "response_folder"),
    ):
        plain[section][key] = _name_only(plain[section][key])
    plain["init"] = _name_only(plain["init"])
    spoken = plain["data"]["spoken"]
    spoken["folder"] = ""
    spoken["text"] = [_name_only(file) for file in spoken["text"]]
    return plain
