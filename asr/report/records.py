"""Reading `record.json` files, every error by file and key; writing them for small diffs.

Keys that a record has beyond the schema are left alone.
"""

import dataclasses
import json
import math
import numbers
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.plain import Reader
from asr.report.schema import SCHEMA, RunRecord, sort_key


def read_records(sources: str | Path | Iterable[str | Path]) -> list[RunRecord]:
    """Records of files and folders, in the order of `sort_key`.

    A folder gives its `record.json` if it has one (a run folder), else every `*.json` in it and
    the `record.json` of each run folder in it. Raises AsrError when there is none, when one
    breaks the schema (file and keys named), or when two are of the same recipe and name.
    """
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    paths = sorted({path for source in listed for path in find_records(Path(source))})
    if not paths:
        raise AsrError(
            f"no record in {', '.join(str(source) for source in listed) or 'an empty list'}: "
            "every training writes record.json into its run folder; give that folder"
        )
    found: dict[tuple[str, str], Path] = {}
    records = []
    for path in paths:
        record = read_record(path)
        other = found.setdefault((record.recipe, record.name), path)
        if other != path:
            raise AsrError(
                f"{path}: name {record.name!r} of recipe {record.recipe!r} is already in {other}; "
                "remove one of them"
            )
        records.append(record)
    return sorted(records, key=sort_key)


def find_records(source: Path) -> list[Path]:
    """The files of a source: itself, or in a folder its records and those of its run folders."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise AsrError(f"{source}: no such file or folder; give a folder with records (*.json)")
    if (source / "record.json").is_file():
        return [source / "record.json"]
    return [*source.glob("*.json"), *source.glob("*/record.json")]


def read_record(path: str | Path) -> RunRecord:
    """One record; AsrError names the file and every key that does not fit the schema."""
    path = Path(path)
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AsrError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AsrError(f"{path}: not a record, not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise AsrError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        given = plain.get("schema") if isinstance(plain, dict) else type(plain).__name__
        raise AsrError(
            f"{path}: schema is {given!r}, this version reads {SCHEMA}; not a record of a run, "
            "or of another version: run it again, or take the file out of the folder"
        )
    reader = Reader(unknown="ignore")
    record: RunRecord | None = reader.read(RunRecord, plain)
    problems = _contradictions(record) if record else [str(p) for p in reader.problems]
    if problems or record is None:
        raise AsrError(f"{path}: not a whole record:\n  " + "\n  ".join(problems))
    return record


def _contradictions(record: RunRecord) -> list[str]:
    model = record.model
    pairs = [
        ("model.nonzeros", model.nonzeros, model.parameters),
        ("model.prunable_nonzeros", model.prunable_nonzeros, model.prunable_parameters),
        *((f"model.tensors: {t.name}", t.nonzeros, t.elements) for t in model.tensors),
    ]
    problems = [
        f"{where}: {nonzeros} non-zeros of {elements} elements"
        for where, nonzeros, elements in pairs
        if not 0 <= nonzeros <= elements
    ]
    problems += [f"model.tensors: {t.name}: no elements" for t in model.tensors if t.elements < 1]
    if record.speed and min(record.speed.dense_seconds, record.speed.packed_seconds) <= 0:
        problems.append("speed: seconds must be above 0")
    return problems


def write_record(path: str | Path, record: RunRecord | Mapping[str, Any]) -> None:
    """Write a record whole or not at all, laid out so that a rerun changes few lines.

    Floats keep six significant digits; NaN and infinity, which JSON lacks, become null.
    """
    atomic_write_text(path, text_of(record))


def text_of(record: RunRecord | Mapping[str, Any]) -> str:
    """The file of a record."""
    plain = dataclasses.asdict(record) if isinstance(record, RunRecord) else record
    return _dump(_plain(plain), 0) + "\n"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if not math.isfinite(number):
            return None
        return round(number, 1) if abs(number) >= 1e5 else float(f"{number:.6g}")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"a record holds plain values, not {type(value).__name__}: {value!r}")


def _dump(value: Any, indent: int, row: bool = False) -> str:
    """JSON with whatever fits on one line on one line, and every flat `row` of a list too."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not value or not isinstance(value, dict | list) or indent + len(flat) <= 140:
        return flat
    if (
        row
        and isinstance(value, dict)
        and not any(isinstance(v, dict | list) for v in value.values())
    ):
        return flat
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        lines = [
            f"{pad}{json.dumps(key, ensure_ascii=False)}: {_dump(item, indent + 1)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    return (
        "[\n"
        + ",\n".join(pad + _dump(item, indent + 1, row=True) for item in value)
        + "\n"
        + " " * indent
        + "]"
    )
