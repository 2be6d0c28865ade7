"""A run folder: where it is, who holds it, when it was started and with which code and data."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asr import environment
from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from asr.files import atomic_write_text, locked
from asr.plain import to_plain
from asr.settings.run import Run
from asr.settings.yaml import load, write_yaml

# Settings of where and how a run computes, not what: a resumed run may change them.
FREE_TO_CHANGE = (
    "runs", "threads", "label", "group", "recipe", "data.root", "data.workers",
    "data.cache_gigabytes", "data.spoken.folder", "training.progress",
    "training.checkpoint_minutes", "training.checkpoint_steps", "training.invalid_loss",
    "training.patience", "training.devices", "training.nodes", "training.strategy",
    "training.timeout_minutes",
)  # fmt: skip


def run_folder(settings: Run) -> Path:
    """Folder of this run: `runs` setting, else the environment variable ASR_RUNS, else `runs/`."""
    root = settings.runs or os.environ.get("ASR_RUNS") or "runs"
    return Path(root).expanduser() / (settings.recipe or ".") / settings.name


def resume_point(folder: Path) -> Path:
    """Lightning's checkpoint that a killed run continues from."""
    return folder / "checkpoints" / "last.ckpt"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the run folder; AsrError if another process is training in it."""
    with locked(folder / ".lock", wait=False) as held:
        if not held:
            raise AsrError(f"{folder}: another process is training in it")
        for stale in folder.glob("checkpoints/.last.ckpt.*"):  # a kill while it was written
            stale.unlink()
        yield


def check_same(folder: Path, settings: Run) -> None:
    """AsrError with every difference if the folder's run was started with other settings.

    `auto` of `training.precision` and of `data.batch_seconds` means what was used then. Networks of
    other runs of a grid may have been moved together with this folder.
    """
    before = _flat(to_plain(load(Run, folder / "config.yaml")))
    now = _flat(to_plain(settings))
    before["model.outputs"] = now["model.outputs"]
    for key in ("training.precision", "data.batch_seconds"):
        if now[key] == "auto":
            now[key] = before[key]
    for key in ("init", "pruning.dense", "distillation.teacher"):
        if _is_sibling(now[key], before[key], folder):
            now[key] = before[key]
    different = [k for k in now if k not in FREE_TO_CHANGE and now[k] != before[k]]
    if before["pruning.method"] == now["pruning.method"] == "none":
        different = [k for k in different if not k.startswith("pruning.")]
    if different:
        lines = [f"  {k}: {before[k]!r} there, {now[k]!r} now" for k in different]
        raise AsrError(
            f"{folder} holds a run with other settings:\n"
            + "\n".join(lines)
            + "\nGive this run another name (name=...), or remove that folder."
        )


def _is_sibling(now: str, before: str, folder: Path) -> bool:
    """Whether `now` is a file of a run beside `folder`, and `before` may be its place earlier."""
    file = Path(now)
    beside = file.is_file() and file.parent.resolve().parent == folder.resolve().parent
    return beside and Path(before).parts[-2:] == file.parts[-2:]


def begin(
    folder: Path,
    settings: Run,
    train: Iterable[Utterance],
    dev: Iterable[Utterance],
    processes: int = 1,
) -> None:
    """Record a start: settings in `config.yaml`, code, data and processes in `starts.json`.

    Raises AsrError if a run is resumed with other data or another number of processes than it
    started with; `check_same` is for the settings.
    """
    digest, earlier = _digests(train, dev)
    starts: list[dict[str, Any]] = []
    if resume_point(folder).exists():
        starts = read_starts(folder)
        if starts and starts[0]["data"] not in (digest, earlier):
            raise AsrError(
                f"{folder}: this run started with other training or dev data; a resumed training "
                "needs the same. Give this one another name (name=...)."
            )
        _check_processes(folder, starts, processes)
    starts.append(
        {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": environment.git_state(),
            "data": digest,
            "processes": processes,
        }
    )
    write_yaml(folder / "config.yaml", settings)
    atomic_write_text(folder / "starts.json", json.dumps(starts, indent=1) + "\n")


def _digests(train: Iterable[Utterance], dev: Iterable[Utterance]) -> tuple[str, str]:
    """The digest of the data, and that which older versions wrote, without channels or parts."""
    now, earlier = hashlib.sha256(), hashlib.sha256()
    for part in (train, dev):
        for u in part:
            line = f"{u.id}\t{u.duration:.4f}\t{u.text}"
            line += "" if u.offset is None else f"\t{u.offset:.4f}"
            channel = "" if u.channel is None else f"\tchannel {u.channel}"
            earlier.update(f"{line}\n".encode())
            now.update(f"{line}{channel}\n".encode())
        now.update(b"\n")
    return now.hexdigest(), earlier.hexdigest()


def _check_processes(folder: Path, starts: Sequence[dict[str, Any]], processes: int) -> None:
    """AsrError if a run goes on in another number of processes: its batches would be others."""
    before = starts[0].get("processes", 1) if starts else processes
    if before != processes:
        raise AsrError(
            f"{folder}: this run started with {before} processes, and {processes} would go on: the "
            f"batches of an epoch are dealt to the processes, so it would be another training. "
            f"Start {before} processes (torchrun --nproc-per-node), or give this run another name "
            "(name=...)."
        )


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """When and with which code the run was started, and resumed."""
    path = folder / "starts.json"
    if not path.exists():
        return []
    try:
        starts = json.loads(path.read_bytes())
        if [start["data"] for start in starts]:
            return starts
    except (ValueError, TypeError, KeyError):
        pass
    raise AsrError(f"{path}: damaged; remove the folder to train from the beginning")


def _flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
