"""Progress of a transcription: messages, results, and a bar with the real-time factor."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Where work reports as it goes; without a bar, for logs and pipes."""

    def advance(self, seconds: float) -> None:
        """That many more seconds of audio are done."""

    def say(self, message: str) -> None:
        """Print a message for the user on standard error at once."""
        print(message, file=sys.stderr, flush=True)

    def write(self, text: str) -> None:
        """Print a result on standard output at once."""
        print(text, flush=True)


class Bar(Progress):
    """A bar on standard error, of `total` seconds of audio."""

    def __init__(self, total: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich

        self._started, self._done = time.perf_counter(), 0.0
        self._console = Console(stderr=True)
        self._bar = Rich(
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} s of audio"),
            TextColumn("{task.fields[factor]}"),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            redirect_stdout=False,  # to standard error, that is: not where results belong
        )
        self._task = self._bar.add_task("", total=total, factor="")

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, seconds: float) -> None:
        """Move the bar."""
        self._done += seconds
        factor = times_real(self._done, time.perf_counter() - self._started)
        self._bar.update(self._task, advance=seconds, factor=factor)

    def say(self, message: str) -> None:
        """Print above the bar."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def write(self, text: str) -> None:
        """Print on standard output; where that is a terminal too, the bar makes room."""
        shared = self._console.is_terminal and sys.stdout.isatty()
        if shared:
            self._bar.stop()
        super().write(text)
        if shared:
            self._bar.start()


@contextmanager
def progress(total: float, bar: bool) -> Iterator[Progress]:
    """A bar for `total` seconds of audio if `bar`, else messages and results only."""
    if not bar:
        yield Progress()
        return
    with Bar(total) as running:
        yield running


def times_real(audio_seconds: float, seconds: float) -> str:
    """Speed and its inverse, the real-time factor: `20.0 x real time (RTF 0.050)`."""
    factor = seconds / audio_seconds if audio_seconds else 0.0
    return f"{audio_seconds / max(seconds, 1e-9):.1f} x real time (RTF {factor:.3f})"
