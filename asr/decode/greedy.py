"""Greedy CTC decoding: the best token of every frame, repeats collapsed, blanks dropped."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from asr.decode.hypothesis import Hypothesis
from asr.text.tokenizer import BLANK, Tokenizer


def best_path(log_probs: npt.NDArray[np.floating], blank: int = BLANK) -> list[int]:
    """Tokens of the most probable alignment of one utterance (Graves et al. 2006, section 3.2).

    `log_probs (frames, tokens)` must end where the utterance ends. Of equally probable tokens the
    first is taken. Repeats count once, unless there is a blank between them.
    """
    best = log_probs.argmax(axis=1)
    kept = best != blank
    kept[1:] &= best[1:] != best[:-1]
    return [int(token) for token in best[kept]]


def decode(
    log_probs: npt.NDArray[np.floating],
    lengths: Sequence[int] | npt.NDArray[np.integer],
    tokenizer: Tokenizer,
) -> list[str]:
    """The text of every utterance of a batch.

    `log_probs (batch, frames, tokens)`; what is beyond each of `lengths (batch,)` is not read.
    """
    assert log_probs.shape[2] == tokenizer.size, (log_probs.shape, tokenizer.size)
    return [
        tokenizer.decode(best_path(rows[: int(length)]))
        for rows, length in zip(log_probs, lengths, strict=True)
    ]


class GreedyStream:
    """The best path of a stream: as in `DecoderStream`. All its tokens are decided at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._size = tokenizer.size
        self._last = BLANK
        self.tokens: tuple[int, ...] = ()

    def push(self, log_probs: npt.NDArray[np.floating]) -> None:
        assert log_probs.shape[1] == self._size, (log_probs.shape, self._size)
        best = log_probs.argmax(axis=1)
        new = (best != BLANK) & (np.concatenate([[self._last], best[:-1]]) != best)
        self._last = int(best[-1])
        self.tokens += tuple(best[new].tolist())

    @property
    def decided(self) -> int:
        return len(self.tokens)

    def decide(self, count: int) -> None:
        assert count <= self.decided, (count, self.decided)

    def drop(self, count: int) -> None:
        assert count <= self.decided, (count, self.decided)
        self.tokens = self.tokens[count:]

    def finish(self) -> tuple[int, ...]:
        return self.tokens


class GreedyDecoder:
    """`best_path` as a decoder; the frame of a token is the most probable one of its run."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def stream(self) -> GreedyStream:
        """As in `Decoder`."""
        return GreedyStream(self._tokenizer)

    def decode(self, log_probs: npt.NDArray[np.floating]) -> list[Hypothesis]:
        """The one hypothesis of `log_probs (frames, tokens)`, scored by its best alignment."""
        assert log_probs.shape[1] == self._tokenizer.size, (log_probs.shape, self._tokenizer.size)
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
                text=self._tokenizer.decode(tokens),
                score=score,
                acoustic_score=score,
                lm_score=0.0,
            )
        ]
