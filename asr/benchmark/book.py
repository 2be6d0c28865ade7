"""A benchmark's record: parts that are written as soon as they are measured, and kept on a rerun.

Each part carries what it was measured on; a record may grow over several runs.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asr import environment
from asr.benchmark import dense
from asr.benchmark.load_monitor import LIMIT
from asr.benchmark.sparse import used_level
from asr.errors import AsrError
from asr.files import atomic_write_text

SCHEMA = 1


@dataclass
class Book:
    """The record of one benchmark; `path` None: nothing is written."""

    name: str
    path: Path | None = None
    command: str = ""
    quick: bool = False
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, name: str, path: Path | None, command: str, quick: bool, again: bool) -> "Book":
        """A new record, or one that goes on; `again` forgets the parts that are there."""
        book = cls(name, path, command, quick)
        if path is not None and path.exists() and not again:
            book.parts = read_book(path).parts
        return book

    def add(self, key: str, part: Mapping[str, Any], others: float | None) -> dict[str, Any]:
        """Write a part down with the machine, versions and revision that it was measured with.

        `others` is the share of a core that other programs used meanwhile.
        """
        whole = {
            **part,
            "others": others,
            "busy": others is not None and others > LIMIT,
            "quick": self.quick,
            "level": used_level(),
            "command": self.command,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": environment.git_state(),
            "machine": environment.machine(),
            "versions": environment.versions() | dense.versions(),
        }
        self.parts[key] = whole
        if self.path is not None:
            atomic_write_text(self.path, self.text())
        return whole

    def text(self) -> str:
        """JSON with every result on a line of its own; a rerun of one part changes little else."""
        parts = []
        for key, part in self.parts.items():
            rest = {name: value for name, value in part.items() if name != "results"}
            results = ",\n   ".join(_json(row) for row in part["results"])
            lines = [f"{_json(name)}: {_json(value)}" for name, value in rest.items()]
            lines.append(f'"results": [\n   {results}\n  ]')
            parts.append(f"  {_json(key)}: {{\n  " + ",\n  ".join(lines) + "}")
        head = f'"schema": {SCHEMA},\n "benchmark": {_json(self.name)},\n "parts": {{\n'
        return "{" + head + ",\n".join(parts) + "\n}}\n"


def _json(value: Any) -> str:
    return json.dumps(_rounded(value), ensure_ascii=False, allow_nan=False)


def _rounded(value: Any) -> Any:
    """Five significant digits; what JSON has no number for becomes null."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def read_book(path: Path) -> Book:
    """A record from its file. Raises AsrError for what is none."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AsrError(f"{path}: cannot be read as a benchmark's record ({error})") from error
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA or "benchmark" not in plain:
        raise AsrError(f"{path}: no benchmark's record of schema {SCHEMA}; remove it, run again")
    return Book(plain["benchmark"], path, parts=plain["parts"])
