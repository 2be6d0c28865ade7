"""Streams of networks that need the future: the last seconds are transcribed again and again.

Every `step_seconds` the network runs on the last `window_seconds`. At the end of a window words
lack what follows, so they are provisional until they ended `settle_seconds` ago:

    window    |  stable words, again  | became stable |  provisional  |
                                      ^ settled       ^ settle_seconds ^ now

The words do not depend on how the stream is split into pushes. A second of audio costs as much as
transcribing `window_seconds / step_seconds` seconds of a recording.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.decode.hypothesis import Word
from asr.errors import AsrError
from asr.transcribe.stitch import words_behind

Floats = npt.NDArray[np.float32]
_LONGEST_SECONDS = 3600


@dataclass(frozen=True)
class WindowOptions:
    """How a stream is transcribed by a network that cannot stream exactly."""

    window_seconds: float = 8.0
    """Audio that the network runs on each time."""
    step_seconds: float = 0.5
    """Audio between two runs; a word appears this much later at most."""
    settle_seconds: float = 1.5
    """A word that ended so long ago is stable: it never changes again."""

    def __post_init__(self) -> None:
        if not 1 <= self.window_seconds <= _LONGEST_SECONDS:
            raise AsrError(
                f"window_seconds={self.window_seconds}: at least 1, at most {_LONGEST_SECONDS:,}"
            )
        if not 0.02 <= self.step_seconds <= self.window_seconds / 2:
            raise AsrError(
                f"step_seconds={self.step_seconds}: from 0.02 to half of "
                f"window_seconds={self.window_seconds:g}"
            )
        if not 0 <= self.settle_seconds <= self.window_seconds / 2:
            raise AsrError(
                f"settle_seconds={self.settle_seconds}: from 0 to half of "
                f"window_seconds={self.window_seconds:g}"
            )


class WindowCore:
    """A core of `Stream`.

    `transcribe` gives the words of some samples `(n,)` at `rate`, their times from the first one.
    """

    def __init__(
        self, transcribe: Callable[[Floats], list[Word]], rate: int, options: WindowOptions
    ) -> None:
        self._transcribe, self._rate = transcribe, rate
        self._window, self._step = (
            round(seconds * rate) for seconds in (options.window_seconds, options.step_seconds)
        )
        self._settle = options.settle_seconds
        # Samples:  |------- _held -------|
        #           |---- _ran ----|         what the last run had, from _start on
        self._held, self._start, self._ran = np.zeros(0, np.float32), 0, 0
        self._last: Word | None = None
        self._provisional: list[Word] = []

    def push(self, samples: Floats) -> tuple[list[Word], list[Word]]:
        """As in `Core`."""
        stable: list[Word] = []
        self._held = np.concatenate([self._held, samples])
        while len(self._held) - self._ran >= self._step:
            excess = self._ran + self._step - self._window
            if excess > 0:
                self._held = self._held[excess:]
                self._start, self._ran = self._start + excess, self._ran - excess
            self._ran += self._step
            self._run()
            limit = (self._start + self._ran) / self._rate - self._settle
            count = next(
                (i for i, word in enumerate(self._provisional) if word.end > limit),
                len(self._provisional),
            )
            if count:
                stable += self._provisional[:count]
                self._last = self._provisional[count - 1]
                self._provisional = self._provisional[count:]
        return stable, self._provisional

    def finish(self) -> list[Word]:
        """As in `Core`."""
        if len(self._held) > self._ran:
            self._ran = len(self._held)
            self._run()
        return self._provisional

    def _run(self) -> None:
        """Transcribe the window: its words behind the stable ones are provisional."""
        begin = self._start / self._rate
        found = self._transcribe(self._held[: self._ran])
        words = [word.shifted(begin, (self._start + self._ran) / self._rate) for word in found]
        self._provisional = words_behind(self._last, words) if self._last else words
