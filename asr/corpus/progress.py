"""How far the making of a corpus is, on standard error: a bar, or now and then a line in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LINE_SECONDS = 60.0


@contextmanager
def fraction_bar(label: str) -> Iterator[Callable[[float], None]]:
    """Yield what to call with the fraction that is done, from 0 to 1.

    A terminal shows a bar with the time left; anything else gets a line a minute. Work that ends
    within a second or was done before shows nothing.
    """
    if not sys.stderr.isatty():
        yield _Lines(label).update
        return
    from rich.console import Console
    from rich.progress import Progress

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
