"""Greedy CTC decoding: the best symbol of every frame, repeats collapsed, blanks dropped."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from asr.text import BLANK, Units


def best_path(log_probs: npt.NDArray[np.floating], blank: int = BLANK) -> list[int]:
    """Symbols of the most probable alignment of one utterance.

    `log_probs (time, symbols)` must end where the utterance ends. Of equally probable symbols
    the first is taken. Repeats count once, unless a blank stands between them.
    """
    best = log_probs.argmax(axis=1)
    kept = best != blank
    kept[1:] &= best[1:] != best[:-1]
    return [int(symbol) for symbol in best[kept]]


def decode(
    log_probs: npt.NDArray[np.floating],
    lengths: Sequence[int] | npt.NDArray[np.integer],
    units: Units,
) -> list[str]:
    """The text of every utterance of a batch.

    `log_probs (batch, time, units.size)`; what lies beyond each of `lengths (batch,)` is not read.
    """
    assert log_probs.shape[2] == units.size, (log_probs.shape, units.size)
    return [
        units.decode(best_path(rows[: int(length)]))
        for rows, length in zip(log_probs, lengths, strict=True)
    ]
