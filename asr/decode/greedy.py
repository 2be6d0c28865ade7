"""Greedy CTC decoding: the best symbol of every frame, repeats collapsed, blanks dropped."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from asr.decode.hypothesis import Hypothesis
from asr.text.tokenizer import BLANK, Tokenizer


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
    tokenizer: Tokenizer,
) -> list[str]:
    """The text of every utterance of a batch.

    `log_probs (batch, time, tokens)`; what lies beyond each of `lengths (batch,)` is not read.
    """
    assert log_probs.shape[2] == tokenizer.size, (log_probs.shape, tokenizer.size)
    return [
        tokenizer.decode(best_path(rows[: int(length)]))
        for rows, length in zip(log_probs, lengths, strict=True)
    ]


class GreedyDecoder:
    """`best_path` as a decoder; a token's frame is the most probable one of its run."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._units = tokenizer

    def decode(self, log_probs: npt.NDArray[np.floating]) -> list[Hypothesis]:
        """The one reading of `log_probs (frames, units)`; its score is that of the alignment."""
        assert log_probs.shape[1] == self._units.size, (log_probs.shape, self._units.size)
        best = log_probs.argmax(axis=1)
        values = log_probs.max(axis=1)
        starts = np.flatnonzero(np.diff(best, prepend=-1))
        ends = np.append(starts, len(best))[1:]
        runs = [(int(s), int(e)) for s, e in zip(starts, ends, strict=True) if best[s] != BLANK]
        frames = tuple(start + int(values[start:end].argmax()) for start, end in runs)
        tokens = tuple(int(best[start]) for start, _ in runs)
        score = float(values.sum(dtype=np.float64))
        return [
            Hypothesis(
                tokens=tokens,
                frames=frames,
                confidences=tuple(min(1.0, float(np.exp(values[frame]))) for frame in frames),
                text=self._units.decode(tokens),
                score=score,
                acoustic_score=score,
                lm_score=0.0,
            )
        ]
