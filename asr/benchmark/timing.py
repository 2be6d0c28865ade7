"""Times several ways to compute the same thing in one process, in turn, on the same machine.

Every way is warmed up, the ways are interleaved, and the median is given with its quartiles.
Rounds in which other programs used the machine are thrown away: thread teams of the dense
libraries collapse when anything else runs (there is a barrier in every step), so a figure taken
beside other programs flatters the sparse side.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asr.errors import AsrError

LOAD_LIMIT = 0.06
"""Largest fraction of one core that other programs may use during a measurement."""
ROUNDS = 3
SLOT_SECONDS = 0.12
WINDOW_SECONDS = 1.0
"""A round lasts at least this long, because the system counts in hundredths of a second."""
MOST_CALLS = 60
PATIENCE, SLOW_SECONDS = 4.0, 0.5
"""What is this many times slower than the fastest, and slower than this, is timed once."""
ATTEMPTS = 5
"""Rounds that may be thrown away because of other programs."""

_WORK_COLUMNS = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat that are work: user, nice, system, irq, softirq, stolen by a host."""


class LoadMonitor:
    """Counts what other programs use of the machine, from the moment it is made."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._started = time.perf_counter()
        self._busy, self._own = _busy_seconds(stat), _own_seconds()

    def other_load(self) -> float | None:
        """Fraction of one core, 0 and up; None where the system has no /proc/stat."""
        now = _busy_seconds(self._stat)
        if now is None or self._busy is None:
            return None
        elapsed = max(time.perf_counter() - self._started, 1e-9)
        used = (now - self._busy) - (_own_seconds() - self._own)
        return max(0.0, used / elapsed)


def _busy_seconds(stat: Path) -> float | None:
    """Seconds of work of all cores since the system started."""
    try:
        fields = stat.read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    ticks = [int(field) for field in fields[1:]]
    return sum(ticks[i] for i in _WORK_COLUMNS if i < len(ticks)) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Processor seconds of this process and of its children that have ended."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


@dataclass(frozen=True)
class Timing:
    """Seconds per call."""

    seconds: float
    """Median of wall time."""
    low: float
    """Lower quartile."""
    high: float
    """Upper quartile."""
    calls: int
    cpu_seconds: float
    """Median of the processor time of all threads, which preemption does not disturb."""

    def to_plain(self) -> dict[str, float | int]:
        """For a record."""
        return {
            "seconds": self.seconds,
            "low": self.low,
            "high": self.high,
            "calls": self.calls,
            "cpu_seconds": self.cpu_seconds,
        }


@dataclass(frozen=True)
class TimingRun:
    """Timings that were taken together."""

    timings: dict[str, Timing]
    other_load: float | None
    """Largest fraction of a core that other programs used in a round; None: unknown."""

    @property
    def busy(self) -> bool:
        """Whether other programs used too much for these figures to be published."""
        return self.other_load is not None and self.other_load > LOAD_LIMIT


def interleave(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    slot_seconds: float = SLOT_SECONDS,
    allow_busy: bool = False,
    patience: float = PATIENCE,
    warm: bool = True,
    kinds: Mapping[str, str] | None = None,
) -> TimingRun:
    """Time every call in `rounds` turns, each turn for about `slot_seconds`.

    The first call of each is not timed, unless `warm` is False. One that is `patience` times
    slower than the fastest of its kind (and slower than `SLOW_SECONDS`) is timed once. Raises
    AsrError when other programs use too much of the machine, unless `allow_busy`.
    """
    first = {name: _once(call)[0] if warm else SLOW_SECONDS for name, call in calls.items()}
    once = _too_slow(first, patience, kinds or {})
    slot_seconds = max(slot_seconds, WINDOW_SECONDS / len(calls) if not allow_busy else 0.0)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    loads: list[float | None] = []
    thrown = 0
    while len(loads) < rounds:
        monitor = LoadMonitor()
        names = [name for name in calls if not (name in once and times[name])]
        if len(loads) % 2:  # what runs before a call warms or cools the caches for it
            names.reverse()
        found = {name: _turn(calls[name], first[name], slot_seconds) for name in names}
        load = monitor.other_load()
        if load is not None and load > LOAD_LIMIT and not allow_busy:
            thrown += 1
            if thrown >= ATTEMPTS:
                raise AsrError(
                    f"other programs use {load:.0%} of a core, so timings would be wrong: stop "
                    "them, or pass --allow-busy, which the record will say"
                )
            time.sleep(1.0)
            continue
        for name, turn in found.items():
            times[name] += turn
        loads.append(load)
    known = [load for load in loads if load is not None]
    return TimingRun({n: _timing(t) for n, t in times.items()}, max(known) if known else None)


def _too_slow(first: Mapping[str, float], patience: float, kinds: Mapping[str, str]) -> set[str]:
    """Names whose first call took far longer than the fastest of their kind."""
    kind = {name: kinds.get(name, "") for name in first}
    fastest = {k: min(s for n, s in first.items() if kind[n] == k) for k in kind.values()}
    return {n for n, s in first.items() if s > max(patience * fastest[kind[n]], SLOW_SECONDS)}


def _turn(
    call: Callable[[], object], expected: float, slot_seconds: float
) -> list[tuple[float, float]]:
    """Wall and processor seconds of as many calls as fit into the slot, at least one."""
    time.sleep(0.02)  # threads of the call before spin for more work until they go to sleep
    if expected < slot_seconds / 4:
        call()
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + slot_seconds
    while not times or (time.perf_counter() < end and len(times) < MOST_CALLS):
        times.append(_once(call))
    return times


def _once(call: Callable[[], object]) -> tuple[float, float]:
    cpu, started = time.process_time(), time.perf_counter()
    call()
    return time.perf_counter() - started, time.process_time() - cpu


def _timing(times: list[tuple[float, float]]) -> Timing:
    wall = [w for w, _ in times]
    median = statistics.median(wall)
    low, high = median, median
    if len(wall) > 1:
        low, _, high = statistics.quantiles(wall, n=4, method="inclusive")
    return Timing(median, low, high, len(wall), statistics.median(c for _, c in times))
