"""A cache of the results of a long benchmark, so that a run that was stopped can be continued.

Each result is a file with what it depends on, and when and where it was computed. If what it
depends on changes, it is computed again.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asr import environment
from asr.benchmark.timing import LoadMonitor
from asr.errors import AsrError
from asr.files import atomic_write_text

Compute = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class CachedResult:
    """A result and its provenance."""

    depends_on: dict[str, Any]
    result: dict[str, Any]
    run: str
    """Start of the run of the script that computed it."""
    date: str
    revision: str
    machine: str
    other_load: float | None
    """Fraction of a core that other programs used in the meantime; None: not known."""

    def provenance(self) -> str:
        """For a note: `the run of 2026-01-31 10:20 UTC on ... with revision ...`."""
        revision = f"revision {self.revision}" if self.revision else "code of an unknown revision"
        day = self.run[:16].replace("T", " ")
        return f"the run of {day} UTC on {self.machine} with {revision}"


class Cache:
    """A folder of results; with `again` results of earlier runs are not used."""

    def __init__(self, folder: Path, again: bool = False) -> None:
        self.folder, self._again = folder, again
        self.run = _now()
        git, here = environment.git_state(), environment.machine()
        self._revision = git["revision"] + ("+changes" if git["dirty"] else "")
        self._machine = f"{here['cpu']}, {here['cores']} cores, {here['memory_gib']} GiB"

    def from_this_run(self, cached: CachedResult) -> bool:
        """Whether a result was computed in this run, with this code."""
        return (cached.run, cached.revision) == (self.run, self._revision)

    def get(self, name: str, depends_on: Mapping[str, Any], compute: Compute) -> CachedResult:
        """The result called `name`; it is computed unless one with the same dependencies is cached.

        All values are plain. Raises AsrError for a file that is not a cached result.
        """
        path = self.folder / f"{_file_name(name)}.json"
        needed = json.loads(json.dumps(depends_on))
        cached = _read(path)
        same = cached is not None and cached.depends_on == needed
        if cached and same and (not self._again or cached.run == self.run):
            return cached
        if cached:
            reason = "--again" if same else _changed(cached.depends_on, needed)
            print(f"{name}: computed again ({reason})", flush=True)
        monitor = LoadMonitor()
        result = json.loads(json.dumps(compute()))
        here = (self._revision, self._machine, monitor.other_load())
        cached = CachedResult(needed, result, self.run, _now(), *here)
        atomic_write_text(path, json.dumps(asdict(cached), ensure_ascii=False, indent=1) + "\n")
        return cached


def _read(path: Path) -> CachedResult | None:
    try:
        return CachedResult(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise AsrError(f"{path}: not a result of this benchmark ({error}); remove it") from None


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return f"changed: {', '.join(keys)}"


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.,-]+", "_", name)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
