"""What a folder of results was made from: the list, how many shards, all that decides a text.

It is written once, by whichever process comes first. Another command with other recordings, another
number of shards or another model is refused: its rows would not belong to those that are there.

    OUTPUT/shard-00003-of-00064.jsonl       a finished shard
    OUTPUT/sub/talk.srt                     what else was asked for
    OUTPUT/.asr-bulk/plan.json              the plan
    OUTPUT/.asr-bulk/recordings.jsonl       the list
    OUTPUT/.asr-bulk/shard-...              unfinished shards, counts of finished ones, locks
"""

import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.bulk.listing import write_list
from asr.errors import AsrError, counted
from asr.files import atomic_write_text, check_folder_writable, locked
from asr.plain import Reader, to_plain
from asr.transcribe.provenance import RECORD

STATE = ".asr-bulk"
"""Folder of what is not a result, in that of the results."""
SCHEMA = 1
MOST_SHARDS = 99_999


@dataclass(frozen=True)
class BulkPlan:
    """The content of `plan.json`."""

    schema: int
    shards: int
    recordings: int
    inputs: list[str]
    """Absolute paths, as they were given."""
    settings: dict[str, str]
    """What decides the rows: the model file, the decoder, formats, by name."""
    listed: str
    """When the list was made."""
    token: str
    """Tells this folder from any other."""


def list_of(folder: Path) -> Path:
    """The list of recordings of a folder of results."""
    return folder / STATE / "recordings.jsonl"


def read_plan(folder: Path) -> BulkPlan | None:
    """The plan of a folder; None if there is none. Raises AsrError for one that is damaged."""
    path = folder / STATE / "plan.json"
    reader = Reader(missing="refuse")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AsrError(f"{path}: cannot be read: {error}") from None
    plan: BulkPlan | None = reader.read(BulkPlan, plain)
    if plan is None or plan.schema != SCHEMA:
        problems = "; ".join(map(str, reader.problems)) or f"schema {plain.get('schema')}"
        raise AsrError(f"{path}: not of this version of asr ({problems}); give another folder")
    return plan


def begin(
    folder: Path, inputs: Sequence[str | Path], shards: int | None, settings: dict[str, str]
) -> tuple[BulkPlan, bool]:
    """The plan of a folder, made if there is none yet; and whether it was there.

    `shards` None: as many as the plan that is there has, else one for 500 recordings and at least
    16. Raises AsrError if the plan that is there is another one, and for whatever `write_list`
    refuses.
    """
    absolute = [os.path.abspath(path) for path in inputs]
    if folder.exists() and not folder.is_dir():
        raise AsrError(f"{folder}: is a file; the output must be a folder")
    check_folder_writable(folder)
    with locked(folder / STATE / "plan.lock"):
        plan = read_plan(folder)
        if plan is not None:
            _refuse_another(plan, folder, absolute, shards, settings)
            return plan, True
        _refuse_foreign(folder, settings)
        recordings = write_list(list_of(folder), inputs)
        plan = BulkPlan(
            SCHEMA,
            shards or default_shards(recordings),
            recordings,
            absolute,
            settings,
            time.strftime("%Y-%m-%d %H:%M:%S %z"),
            secrets.token_hex(8),
        )
        text = json.dumps(to_plain(plan), indent=2) + "\n"
        atomic_write_text(folder / STATE / "plan.json", text)
        return plan, False


def default_shards(recordings: int) -> int:
    """One for 500 recordings, but at least 16: what a worker repeats or waits for is small."""
    return min(max(-(-recordings // 500), min(recordings, 16)), MOST_SHARDS)


def _refuse_another(
    plan: BulkPlan, folder: Path, inputs: list[str], shards: int | None, settings: dict[str, str]
) -> None:
    if shards is not None and shards != plan.shards:
        raise AsrError(
            f"{folder}: holds results of {counted(plan.shards, 'shard')}, and {shards} are asked "
            f"for: recordings would be missing or doubled. Divide by {plan.shards}, or give "
            "another folder"
        )
    if inputs != plan.inputs:
        raise AsrError(
            f"{folder}: holds results of {', '.join(plan.inputs)}, and {', '.join(inputs)} is "
            "asked for; give another folder"
        )
    for name in sorted(settings.keys() | plan.settings.keys()):
        there, now = plan.settings.get(name), settings.get(name)
        if there != now:
            raise AsrError(
                f"{folder}: was begun with {name}={there}, and {now} is asked for; give the same "
                "options, or another folder"
            )


def _refuse_foreign(folder: Path, settings: dict[str, str]) -> None:
    """Refuse a folder with results that no plan explains."""
    known = next(folder.glob("shard-*-of-*"), None)
    if known is not None:
        raise AsrError(f"{known}: a result without the plan in {STATE}; give another folder")
    if settings.get("formats") and (folder / RECORD).exists():
        raise AsrError(
            f"{folder}: holds texts of `asr transcribe` without --shard, which would be taken for "
            "results; give another folder"
        )
