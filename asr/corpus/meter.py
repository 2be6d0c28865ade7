"""Progress in bytes: a bar on a terminal, else a line in the log now and then."""

import sys
import time
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

_LINE_SECONDS = 30.0
"""Between two lines in the log of a job."""


def size_of(count: float) -> str:
    """Bytes as people say them: `337.9 MB`."""
    return decimal(round(count))


class Meter:
    """Shows how far something is, on standard error: bytes, speed, time left."""

    def __init__(
        self,
        name: str,
        total: int | None = None,
        every: float = _LINE_SECONDS,
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
