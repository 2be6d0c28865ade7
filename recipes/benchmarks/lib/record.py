"""The record of a benchmark of many parts: written after each part, and continued by a rerun.

It is a measurement like any other (`asr.report.measurements`). Its tables are made from the parts.
As a record may grow over several runs, `details` holds each part with its machine, versions and
revision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asr import environment
from asr.benchmark import dense
from asr.benchmark.compare import instruction_set
from asr.benchmark.timing import LOAD_LIMIT
from asr.errors import AsrError
from asr.report.measurements import (
    DisplayColumn,
    ExtraTable,
    is_measurement,
    read_measurement,
    write_measurement,
)
from asr.report.table import Table

Part = dict[str, Any]


@dataclass(frozen=True)
class Display:
    """How a benchmark is displayed: the first table, further ones with titles, notes."""

    first: Table
    others: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class PartedRecord:
    """The record of one benchmark; `path` None: nothing is written."""

    name: str
    display: Callable[[list[Part]], Display]
    path: Path | None = None
    command: str = ""
    quick: bool = False
    parts: dict[str, Part] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        name: str,
        display: Callable[[list[Part]], Display],
        path: Path | None,
        command: str,
        quick: bool,
        again: bool,
        only: str = "",
    ) -> "PartedRecord":
        """A new record, or one that is continued.

        With `again` the parts whose keys begin with `only` are measured anew; others are kept.
        """
        record = cls(name, display, path, command, quick)
        if path is not None and path.exists():
            found = read_parts(path)
            record.parts = {k: p for k, p in found.items() if not (again and k.startswith(only))}
        return record

    def add(self, key: str, part: Mapping[str, Any], other_load: float | None) -> Part:
        """Add a part with its machine, versions and revision, and write the record.

        `other_load` is the fraction of a core that other programs used in the meantime.
        """
        whole = {
            **part,
            "other_load": other_load,
            "busy": other_load is not None and other_load > LOAD_LIMIT,
            "quick": self.quick,
            "level": instruction_set(),
            "command": self.command,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": environment.git_state(),
            "machine": environment.machine(),
            "versions": environment.versions(*dense.PACKAGES),
        }
        self.parts[key] = whole
        if self.path is not None:
            self.write(self.path)
        return whole

    def begin_again(self) -> None:
        """Write the record without the parts that are measured anew, or remove it if none is left.

        For benchmarks whose parts are measured, and added, by other processes.
        """
        if self.path is not None and self.parts:
            self.write(self.path)
        elif self.path is not None:
            self.path.unlink(missing_ok=True)

    def write(self, path: Path) -> None:
        """Write all parts and the tables that are made from them."""
        parts = list(self.parts.values())
        display = self.display(parts)
        write_measurement(
            path,
            self.name,
            self.name,
            self.command,
            _columns(display.first),
            _rows(display.first),
            [*display.notes, *provenance(self.parts)],
            {"parts": self.parts},
            max((part.get("threads", 1) for part in parts), default=1),
            [ExtraTable(t.title, tuple(_columns(t)), tuple(_rows(t))) for t in display.others],
        )


def _columns(table: Table) -> list[DisplayColumn]:
    return [
        DisplayColumn(c.heading, c.heading, "figure" if c.numeric else "text")
        for c in table.columns
    ]


def _rows(table: Table) -> list[dict[str, Any]]:
    headings = [column.heading for column in table.columns]
    return [dict(zip(headings, row, strict=True)) for row in table.rows]


def read_parts(path: Path) -> dict[str, Part]:
    """The parts of a record. Raises AsrError for a file that is not one."""
    if not is_measurement(path):
        raise AsrError(f"{path}: not the record of a benchmark; remove it and run again")
    details = read_measurement(path).details
    if "parts" not in details:
        raise AsrError(f"{path}: a record without parts; remove it and run again")
    return dict(details["parts"])


def provenance(parts: Mapping[str, Part]) -> list[str]:
    """Machines, versions, revisions and days of the parts, and how much their times vary."""
    values = list(parts.values())

    def each(get: Callable[[Part], str]) -> str:
        return "; ".join(dict.fromkeys(get(part) for part in values))

    machine = each(lambda p: f"{p['machine']['cpu']}, {p['machine']['cores']} cores, {p['level']}")
    versions = each(
        lambda p: ", ".join(
            f"{name} {p['versions'][name]}"
            for name in ("torch", "onnxruntime", "openvino")
            if name in p["versions"]
        )
    )
    revisions = each(lambda p: p["git"]["revision"] + ("+changes" if p["git"]["dirty"] else ""))
    days = each(lambda p: p["date"][:10])
    lines = [f"{machine}; {versions}; revision {revisions}; {days}."]
    loads = [p["other_load"] for p in values if p["other_load"] is not None]
    if loads:
        lines.append(f"Other programs used at most {100 * max(loads):.0f} % of a core.")
    timed = [r for p in values for r in p["results"] if r.get("calls", 0) > 2]
    if timed:
        spreads = sorted((r["high"] - r["low"]) / r["seconds"] for r in timed)
        lines.append(
            "Medians; the quartiles are apart by "
            f"{100 * spreads[len(spreads) // 2]:.0f} % of the median in half of the rows, by at "
            f"most {100 * spreads[-1]:.0f} %."
        )
    if busy := [key for key, part in parts.items() if part["busy"]]:
        lines.append(f"TAKEN BESIDE OTHER PROGRAMS, not to be quoted: {', '.join(busy)}.")
    if any(p["quick"] and p["results"] for p in values):
        lines.append("TINY SIZES of --quick, not to be quoted.")
    return lines


def absent_lines(parts: Sequence[Part]) -> tuple[str, ...]:
    """A line for each alternative that was not measured, with the reason."""
    reasons: dict[tuple[str, str], int] = {}
    for part in parts:
        for item in part.get("absent", {}).items():
            reasons[item] = reasons.get(item, 0) + 1
    return tuple(
        f"{name}: not measured in {times} of {len(parts)} conditions: {reason}."
        for (name, reason), times in reasons.items()
    )
