"""How far the making of a corpus is, on standard error: a bar, or now and then a line in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_LINE_SECONDS = 60.0
_METER_SECONDS = 30.0
"""Between two lines in the log of a job."""


@contextmanager
def fraction_bar(label: str) -> Iterator[Callable[[float], None]]:
    """Yield what to call with the fraction that is done, from 0 to 1.

    A terminal shows a bar with the time left; anything else gets a line a minute. Work that ends
    within a second or was done before shows nothing.
    """
    if not sys.stderr.isatty():
        yield _Lines(label).update
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0, visible=False)
        started = time.monotonic()

        def update(fraction: float) -> None:
            bar.update(task, completed=fraction, visible=time.monotonic() - started > 1)

        yield update


class _Lines:
    """A line a minute with the fraction and the time left."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._started = self._last = time.monotonic()
        self._first: float | None = None

    def update(self, fraction: float) -> None:
        now = time.monotonic()
        if self._first is None:  # what an earlier call did takes no time now
            self._first, self._started = fraction, now
        if now - self._last < _LINE_SECONDS:
            return
        self._last = now
        done = fraction - self._first
        left = ""
        if done > 0:
            minutes = (now - self._started) * (1 - fraction) / done / 60
            left = f", {minutes:.0f} minutes left"
        print(f"{self.label}: {fraction:.1%}{left}", file=sys.stderr, flush=True)


def size_of(count: float) -> str:
    """Bytes as people say them: `337.9 MB`."""
    return decimal(round(count))


class Meter:
    """Shows how far something is, on standard error: bytes, speed, time left."""

    def __init__(
        self,
        name: str,
        total: int | None = None,
        every: float = _METER_SECONDS,
        console: Console | None = None,
    ) -> None:
        self.name, self.total, self.every = name, total, every
        console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._lines = not console.is_terminal
        self._task = self._bar.add_task(name, total=total)
        self._begun = self._said = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> "Meter":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, done: int) -> None:
        """Say that `done` bytes of all are done."""
        if self._first is None or done < self._first:
            self._first, self._begun = done, time.monotonic()
        self._bar.update(self._task, completed=done, total=self.total)
        now = time.monotonic()
        if self._lines and now - self._said >= self.every:
            self._said = now
            print(self._line(done, now), file=sys.stderr, flush=True)

    def _line(self, done: int, now: float) -> str:
        line = f"{self.name}: {size_of(done)}"
        if self.total:
            line += f" of {size_of(self.total)} ({100 * done / self.total:.0f} %)"
        speed = (done - (self._first or 0)) / max(now - self._begun, 1e-9)
        line += f", {size_of(speed)}/s"
        if self.total and speed:
            left = round((self.total - done) / speed)
            line += f", {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
        return line
