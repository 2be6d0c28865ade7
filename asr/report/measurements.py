"""Records of measurements other than trainings: speed, bytes, decoders, confidence.

A training's record has a schema of its own (`schema.RunRecord`). A measurement brings its columns
along: each says which value of a row it displays and how, so that one reader and one mechanism for
tables serve every benchmark.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asr import environment
from asr.errors import AsrError, counted
from asr.plain import Reader
from asr.report.records import find_records, write_record
from asr.report.schema import SCHEMA, GitState, MachineRecord
from asr.report.table import Column, Table, count, days, escape, megabytes

KIND = "measurement"


@dataclass(frozen=True)
class DisplayColumn:
    """A column: its heading, the key of the rows' values, and how they are displayed.

    `format`: `text`, `code`, `figure` (text that is set like a number), `count`, `percent` (of a
    fraction), `megabytes` (of bytes), `rate` and `change` (a mapping of wer, or value, low and
    high, fractions), or a format such as `.2f`.
    """

    heading: str
    key: str
    format: str = "text"


@dataclass(frozen=True)
class ExtraTable:
    """A table below the first, with columns and a heading of its own."""

    heading: str
    columns: tuple[DisplayColumn, ...]
    rows: tuple[dict[str, Any], ...] | None = None
    """Null: other values of the record's rows."""


@dataclass(frozen=True)
class Measurement:
    """What a benchmark measured: rows of plain values, the columns that display them, conditions.

    A benchmark that was measured in several runs has the provenance of each part in `details`.
    """

    schema: int
    kind: str
    name: str
    recipe: str
    label: str
    command: str
    git: GitState
    date: str
    machine: MachineRecord
    threads: int
    columns: tuple[DisplayColumn, ...]
    rows: tuple[dict[str, Any], ...]
    tables: tuple[ExtraTable, ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    """Values that no table displays."""

    def displayed(self) -> list[ExtraTable]:
        """All tables, the first one without a heading, each with its rows."""
        first = ExtraTable("", self.columns, self.rows)
        return [first, *(replace(t, rows=self.rows) if t.rows is None else t for t in self.tables)]


def write_measurement(
    path: str | Path,
    recipe: str,
    label: str,
    command: str,
    columns: Sequence[DisplayColumn],
    rows: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    details: Mapping[str, Any] | None = None,
    threads: int = 1,
    tables: Sequence[ExtraTable] = (),
) -> None:
    """Write what was measured, with code, machine and day, to `path`, whole or not at all."""
    record = {
        "schema": SCHEMA,
        "kind": KIND,
        "name": Path(path).stem,
        "recipe": recipe,
        "label": label,
        "command": command,
        "git": environment.git_state(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": environment.versions(),
        "machine": environment.machine(),
        "threads": threads,
        "columns": [asdict(column) for column in columns],
        "rows": list(rows),
        **({"tables": [asdict(table) for table in tables]} if tables else {}),
        "notes": list(notes),
        "details": details or {},
    }
    write_record(path, record)


def is_measurement(path: Path) -> bool:
    """Whether a file is a record of this kind; its other mistakes are for its reader to name."""
    try:
        plain_record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(plain_record, dict) and plain_record.get("kind") == KIND


def read_measurements(sources: str | Path | Iterable[str | Path]) -> list[Measurement]:
    """Measurements among files and folders, by file name; empty if there are none.

    Raises AsrError for records of trainings beside them, for one that breaks the schema, and for
    records of one recipe whose columns differ.
    """
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    paths = sorted({path for source in listed for path in find_records(Path(source))})
    chosen = [path for path in paths if is_measurement(path)]
    if not chosen:
        return []
    if len(chosen) < len(paths):
        other = next(path for path in paths if path not in chosen)
        raise AsrError(f"{other}: not a {KIND}, beside {chosen[0]}: report them separately")
    records = [read_measurement(path) for path in chosen]
    for record, path in zip(records, chosen, strict=True):
        if _form(record) != _form(records[0]):
            raise AsrError(f"{path}: other columns than {chosen[0]}; make both with one version")
    return records


def _form(record: Measurement) -> tuple[str, list[tuple[str, tuple[DisplayColumn, ...]]]]:
    return record.recipe, [(table.heading, table.columns) for table in record.displayed()]


def read_measurement(path: Path) -> Measurement:
    """One record; AsrError names the file and every key that does not fit."""
    plain_record = json.loads(path.read_text(encoding="utf-8"))
    if plain_record.get("schema") != SCHEMA:
        raise AsrError(f"{path}: schema is {plain_record.get('schema')!r}, not {SCHEMA}")
    reader = Reader(unknown="ignore")
    record: Measurement | None = reader.read(Measurement, plain_record)
    problems = [str(problem) for problem in reader.problems]
    if record:
        problems = [
            f"{table.heading + ': ' if table.heading else ''}rows[{number}]: no value "
            f"{column.key!r} that fits the format {column.format}"
            for table in record.displayed()
            for number, row in enumerate(table.rows or ())
            for column in table.columns
            if not _fits(column, row)
        ]
    if problems or record is None:
        raise AsrError(f"{path}: not a whole record:\n  " + "\n  ".join(problems))
    return record


def _fits(column: DisplayColumn, row: Mapping[str, Any]) -> bool:
    try:
        cell(column, row)
    except (KeyError, TypeError, ValueError):
        return False
    return True


def _percents(value: Any) -> tuple[float, float, float]:
    middle = value["wer"] if "wer" in value else value["value"]
    return 100 * middle, 100 * value["low"], 100 * value["high"]


def _rate(value: Any) -> str:
    return "{:.1f} ({:.1f}-{:.1f})".format(*_percents(value))


def _change(value: Any) -> str:
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*_percents(value))


_FORMATS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "code": str,
    "figure": str,
    "count": count,
    "megabytes": megabytes,
    "percent": lambda value: f"{100 * value:.1f}",
    "rate": _rate,
    "change": _change,
}


def cell(column: DisplayColumn, row: Mapping[str, Any]) -> str:
    """A value as text, `-` for null. Raises KeyError, TypeError, ValueError where none fits."""
    value = row[column.key]
    if value is None:
        return "-"
    show = _FORMATS.get(column.format)
    return show(value) if show else format(value, column.format)


def table_of(columns: Sequence[DisplayColumn], rows: Iterable[Mapping[str, Any]]) -> Table:
    """Rows under these columns."""
    heads = [
        Column(c.heading, c.format not in ("text", "code"), c.format == "code") for c in columns
    ]
    return Table("", tuple(heads), tuple(tuple(cell(c, row) for c in columns) for row in rows))


def tables(records: Sequence[Measurement]) -> list[Table]:
    """The first table, which has the recipe's name, and those below it, of all records together.

    Each row begins with its record's label where there are several.
    """
    made = []
    for parts in zip(*(record.displayed() for record in records), strict=True):
        found = [table_of(part.columns, part.rows or ()) for part in parts]
        columns, rows = found[0].columns, [row for one in found for row in one.rows]
        if len(records) > 1:
            pairs = zip(records, found, strict=True)
            labels = [record.label for record, one in pairs for _ in one.rows]
            taken = any(column.heading == "Network" for column in columns)
            columns = (Column("Record" if taken else "Network", numeric=False), *columns)
            rows = [(label, *row) for label, row in zip(labels, rows, strict=True)]
        made.append(Table(parts[0].heading or records[0].recipe, columns, tuple(rows)))
    return made


def commands(records: Sequence[Measurement]) -> Table:
    """How each record was made."""
    names = ("Record", "Command", "Revision", "Machine", "Threads", "Date")
    columns = tuple(Column(name, name == "Threads", name == "Command") for name in names)
    rows = tuple(
        (r.label, r.command, str(r.git), str(r.machine), str(r.threads), r.date[:10])
        for r in records
    )
    return Table("Commands", columns, rows)


def markdown(records: Sequence[Measurement]) -> str:
    """Tables and notes: the first table open, those below it folded."""
    first, *others = tables(records)
    notes = [(record.label, note) for record in records for note in record.notes]
    lines = []
    for note in dict.fromkeys(note for _, note in notes):
        labels = [label for label, other in notes if other == note]
        lines.append(note if len(labels) == len(records) else f"{', '.join(labels)}: {note}")
    parts = [part.markdown() for part in first.parts(_keys(first))]
    if lines:
        parts.append("".join(f"- {escape(line)}\n" for line in lines))
    return "\n".join([*parts, *(other.folded(_keys(other)) for other in others)])


def _keys(table: Table) -> int:
    """How many columns at the beginning say what a row is about: the ones of text."""
    numeric = [column.numeric for column in table.columns]
    return max(1, min(numeric.index(True) if True in numeric else 1, 3))


def made_from(records: Sequence[Measurement]) -> str:
    """Which records, of which days."""
    return f"{counted(len(records), 'record')} ({days([record.date for record in records])})"
