"""Synthetic speech to measure with."""

import numpy as np

from asr.corpus.spoken import build as spoken
from asr.corpus.spoken import espeak
from asr.corpus.spoken.record import perform
from asr.corpus.spoken.settings import Spoken

RATE = 16000


def speech(seconds: float) -> np.ndarray:
    """Sentences of the built-in corpus, one after another, at 16 kHz."""
    espeak.require()
    settings = Spoken()
    parts: list[np.ndarray] = []
    for line in spoken.lines("test", settings):
        if sum(map(len, parts)) >= seconds * RATE:
            break
        parts.append(perform(line, "test", settings.seed))
    return np.concatenate(parts)[: round(seconds * RATE)]
