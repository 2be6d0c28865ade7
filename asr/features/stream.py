"""Waveform -> log-mel features piece by piece, those of the whole waveform to the last bit."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from asr.features.normalise import RunningState, normalise_running
from asr.features.settings import Frontend

Floats = NDArray[np.float32]


class FeatureStream:
    """The features of a waveform that comes in pieces.

    `log_mel(samples, settings)` gives the features `(frames, mels)` of a waveform: `features` of
    `asr.features.logmel` or of its twin in torch. `settings.normalise` must be `running` or `none`.

    >>> from asr.features.logmel import features
    >>> stream = FeatureStream(Frontend(normalise="running"), features)
    >>> [len(stream.push(np.zeros(size, np.float32))) for size in (300, 300, 300)]
    [0, 2, 2]
    """

    def __init__(self, settings: Frontend, log_mel: Callable[[Floats, Frontend], Floats]) -> None:
        assert settings.normalise in ("running", "none"), settings.normalise
        self._settings, self._log_mel = settings, log_mel
        self._plain = replace(settings, normalise="none")
        self._held = np.zeros(0, np.float32)
        self._state: RunningState | None = None

    def push(self, samples: Floats) -> Floats:
        """The features `(frames, mels)` of all windows that the next `(samples,)` complete."""
        self._held = np.concatenate([self._held, samples])
        rows = self._log_mel(self._held, self._plain)
        self._held = self._held[len(rows) * self._settings.step :]
        if self._settings.normalise == "running":
            rows, self._state = normalise_running(rows, self._settings, self._state)
        return rows
