"""Timing several ways to compute the same thing in one process, in turn, so that they meet the
same machine: warmed, interleaved, the median with its quartiles; windows in which other programs
ran are thrown away.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from asr.benchmark import load_monitor as idle
from asr.errors import AsrError

ROUNDS = 3
SLOT_SECONDS = 0.12
WINDOW_SECONDS = 1.0
"""A round lasts at least this long: the system counts in hundredths of a second."""
MOST_CALLS = 60
PATIENCE, SLOW_SECONDS = 4.0, 0.5
"""What is this many times slower than the quickest, and slower than this, may be timed once."""
ATTEMPTS = 5
"""Rounds that may be thrown away because other programs ran."""


@dataclass(frozen=True)
class Timing:
    """Seconds a call."""

    seconds: float
    """Median of wall time."""
    low: float
    """Lower quartile."""
    high: float
    """Upper quartile."""
    calls: int
    cpu_seconds: float
    """Median of the processor time of all threads; preemption does not disturb it."""

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
class Measured:
    """What `interleave` found."""

    timings: dict[str, Timing]
    others: float | None
    """Largest share of a core that other programs used in a round that counts; None: unknown."""

    @property
    def busy(self) -> bool:
        """Whether these figures may not be published."""
        return self.others is not None and self.others > idle.LIMIT


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    slot_seconds: float = SLOT_SECONDS,
    allow_busy: bool = False,
    patience: float = PATIENCE,
    warm: bool = True,
    kinds: Mapping[str, str] | None = None,
) -> Measured:
    """Time every contestant `rounds` times in turn, each time for about `slot_seconds`.

    The first call of each is not timed, unless `warm` is False. One that is `patience` times
    slower than the quickest of its kind (and than `SLOW_SECONDS`) is timed once. Raises AsrError
    when other programs use too much of the machine, unless `allow_busy`.
    """
    first = {name: _once(call)[0] if warm else SLOW_SECONDS for name, call in contestants.items()}
    kind = {name: (kinds or {}).get(name, "") for name in contestants}
    quickest = {k: min(s for n, s in first.items() if kind[n] == k) for k in kind.values()}
    once = {n for n, s in first.items() if s > max(patience * quickest[kind[n]], SLOW_SECONDS)}
    slot_seconds = max(slot_seconds, WINDOW_SECONDS / len(contestants) if not allow_busy else 0.0)
    kept: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    shares: list[float | None] = []
    thrown = 0
    while len(shares) < rounds:
        watch = idle.Watch()
        names = [name for name in contestants if not (name in once and kept[name])]
        if len(shares) % 2:
            names.reverse()
        found = {name: _turn(contestants[name], first[name], slot_seconds) for name in names}
        others = watch.others()
        if others is not None and others > idle.LIMIT and not allow_busy:
            thrown += 1
            if thrown >= ATTEMPTS:
                raise AsrError(
                    f"other programs use {others:.0%} of a core; figures taken beside them say "
                    "nothing: stop them, or pass --allow-busy, and the record will say so"
                )
            time.sleep(1.0)
            continue
        for name, times in found.items():
            kept[name] += times
        shares.append(others)
    known = [share for share in shares if share is not None]
    return Measured({n: _timing(t) for n, t in kept.items()}, max(known) if known else None)


def _turn(
    call: Callable[[], object], expected: float, slot_seconds: float
) -> list[tuple[float, float]]:
    """Wall and processor seconds of as many calls as fit into the slot, at least one."""
    time.sleep(0.02)  # threads of the one before, spinning for more work, go to sleep
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
