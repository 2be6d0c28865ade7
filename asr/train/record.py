"""The end of a run: the best network is packed and tested once, and `record.json` is written."""

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asr import environment
from asr.corpus import sources
from asr.errors import counted
from asr.evaluate import ref_hyp
from asr.evaluate.dataset import evaluate
from asr.model.file import load_model
from asr.model.pack import pack
from asr.plain import to_plain
from asr.pruning import Pruner, Statistics, statistics
from asr.report.records import write_record
from asr.report.schema import (
    SCHEMA,
    DistillationRecord,
    EvaluationRecord,
    FilesRecord,
    GitState,
    MachineRecord,
    ModelRecord,
    PruningRecord,
    ResumeRecord,
    RunRecord,
    TensorRecord,
    TrainingRecord,
)
from asr.settings.run import Run
from asr.text.normalise import NORMALISATION
from asr.train.folder import read_starts
from asr.train.trainer import gpu
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load


def finish(
    settings: Run,
    folder: Path,
    training: dict[str, Any],
    pruner: Pruner | None,
    distillation: dict[str, Any] | None = None,
) -> RunRecord:
    """Pack and test `model.asr` of a run folder and write its `record.json`, last of all.

    `training` holds the figures of the training itself; seconds, steps, epochs, audio_hours at
    least; `distillation` the teacher and the two losses. Each test set is read here and nowhere
    else. Returns the record.
    """
    loaded = load_model(folder / "model.asr")
    packed = pack(folder / "model.asr", folder / "packed.asr", values="fp16")
    # Where it was trained: `auto` finds the device that the Trainer found.
    recogniser = load(folder / "model.asr", settings.threads, backend="torch", device="auto")
    evaluation = {}
    for entry in settings.data.test:
        name = sources.describe(entry)
        path = folder / ref_hyp.file_name(name)
        evaluation[name] = _evaluate(recogniser, entry, path, settings)
    stats = statistics(loaded.model, settings.pruning.tensors)
    starts = [ResumeRecord(s["date"], GitState(**s["git"])) for s in read_starts(folder)]
    record = RunRecord(
        schema=SCHEMA,
        name=settings.name,
        recipe=settings.recipe,
        **_names(settings, pruned=pruner is not None),
        seed=settings.seed,
        command=command(),
        git=starts[0].git,
        resumed=tuple(starts[1:]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=environment.versions(),
        machine=MachineRecord(**environment.machine(), **gpu()),
        threads=settings.threads,
        settings=without_folders(to_plain(settings)),
        training=TrainingRecord(
            **training,
            audio_seconds_per_second=3600 * training["audio_hours"] / training["seconds"],
            peak_memory_mib=environment.peak_memory_mib(),
        ),
        model=_model(settings, stats),
        pruning=_pruning(settings, pruner, stats) if pruner else None,
        distillation=DistillationRecord(**distillation) if distillation else None,
        files=FilesRecord(
            model_bytes=(folder / "model.asr").stat().st_size,
            packed_bytes=packed.bytes,
            packed_values="fp16",
        ),
        evaluation=evaluation,
    )
    write_record(folder / "record.json", record)
    return record


def rename(path: Path, settings: Run) -> None:
    """Give the record of a finished run the label and the group that it has in the settings."""
    record = json.loads(path.read_bytes())
    names = _names(settings, pruned=record.get("pruning") is not None)
    if names != {key: record[key] for key in names}:
        own = {key: getattr(settings, key) for key in names}
        write_record(path, record | names | {"settings": record.get("settings", {}) | own})


def _names(settings: Run, pruned: bool) -> dict[str, Any]:
    return {
        "group": settings.group or ("sparse" if pruned else "dense"),
        "label": settings.label or settings.name,
    }


def _evaluate(recogniser: Recogniser, entry: str, path: Path, settings: Run) -> EvaluationRecord:
    utterances = sources.resolve(entry, settings.data.root, settings.data.spoken)
    options = TranscribeOptions(batch_seconds=settings.data.batch_limit)
    score, rows, seconds = evaluate(recogniser, utterances, options)
    ref_hyp.write(path, rows)
    return EvaluationRecord(
        **score.to_plain(),
        speakers=len({u.speaker for u in utterances} - {""}) or None,
        audio_seconds=sum(u.duration for u in utterances),
        seconds=seconds,
        normalisation=NORMALISATION,
        interval_over=counted(score.groups, "speaker") if score.groups else "utterances",
    )


def _model(settings: Run, stats: Statistics) -> ModelRecord:
    return ModelRecord(
        parameters=stats.parameters,
        nonzeros=stats.nonzeros,
        prunable_parameters=stats.prunable_parameters,
        prunable_nonzeros=stats.prunable_nonzeros,
        cell=settings.model.cell,
        hidden=settings.model.hidden,
        layers=settings.model.layers,
        tokenizer=settings.tokenizer.kind,
        tensors=tuple(
            TensorRecord(t.name, tuple(t.shape), t.elements, t.nonzeros, t.group)
            for t in stats.tensors
        ),
    )


def _pruning(settings: Run, pruner: Pruner, stats: Statistics) -> PruningRecord:
    (rule,) = pruner.rules
    schedule = rule.schedule
    sparsities = [t.sparsity for t in stats.tensors]
    steps = ("start", "ramp", "end", "frequency")
    return PruningRecord(
        method=settings.pruning.method,
        target_sparsity=settings.pruning.final_sparsity or None,
        pattern=rule.pattern.to_plain(),
        scope=rule.scope,
        sparsity=stats.prunable_sparsity,
        sparsity_min=min(sparsities),
        sparsity_max=max(sparsities),
        curve=tuple((step, sparsity) for step, sparsity in pruner.curve),
        thresholds={name: {"q": q} for name, q in pruner.thresholds.items()},
        mask_updates=schedule.mask_updates,
        **{k: v for k, v in schedule.to_plain().items() if k in steps},
    )


def command() -> str:
    """The command line as a person would type it, without this machine's paths."""
    words = [*_program(Path(sys.argv[0])), *sys.argv[1:]]
    words = [w for w in words if not w.startswith(("runs=", "data.root=", "data.spoken.folder="))]
    return shlex.join(name_only(w) for w in words)


_ROOT = Path(__file__).resolve().parents[2]


def _program(path: Path) -> list[str]:
    if path.suffix != ".py" or path.name == "__main__.py":
        return ["asr" if path.name == "__main__.py" else path.name]
    path = path.resolve()
    return ["python", str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else path.name]


def name_only(word: str) -> str:
    """`key=/some/folder/run/model.asr` -> `key=run/model.asr`; also in a list, `key=[...]`.

    A file of this project is named from the project's folder on.
    """
    key, separator, value = word.rpartition("=")
    if value.startswith("[") and value.endswith("]"):
        return key + separator + f"[{','.join(map(name_only, value[1:-1].split(',')))}]"
    path = Path(value)
    if not path.is_absolute():
        return word
    inside = path.is_relative_to(_ROOT)
    return key + separator + "/".join(path.relative_to(_ROOT).parts if inside else path.parts[-2:])


def without_folders(plain: dict[str, Any]) -> dict[str, Any]:
    """Settings for a record: names of files, not their folders on this machine."""
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
        plain[section][key] = name_only(plain[section][key])
    for part in ("train", "dev", "test"):
        plain["data"][part] = [name_only(entry) for entry in plain["data"][part]]
    plain["init"] = name_only(plain["init"])
    spoken = plain["data"]["spoken"]
    spoken["folder"] = ""
    spoken["text"] = [name_only(file) for file in spoken["text"]]
    return plain
