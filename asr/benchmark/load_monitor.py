"""Is the machine idle? The share of a core that other programs used, from the system's own count.

Thread teams of the dense libraries collapse when anything else runs (a barrier in every step), so
a figure taken beside other programs flatters the sparse side. Such figures are not published.
"""

import os
import time
from pathlib import Path

LIMIT = 0.06
"""Largest share of one core that other programs may use while something is measured."""

_BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat that are work: user, nice, system, irq, softirq, stolen by a host."""


class Watch:
    """Started when made; `others()` is what other programs used since then."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._started = time.perf_counter()
        self._busy, self._own = _busy_seconds(stat), _own_seconds()

    def others(self) -> float | None:
        """Share of one core, 0 and up; None where the system does not count (no /proc/stat)."""
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
    return sum(ticks[i] for i in _BUSY if i < len(ticks)) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Processor seconds of this process and of those of its children that have ended."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system
