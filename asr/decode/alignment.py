"""Finds when each token and each word was said: the best CTC path through given tokens.

Of all paths that collapse to the tokens, the most probable one is found by dynamic programming
(Viterbi) over the states blank, token, blank, token, ..., blank (Graves et al. 2006, section 4.1),
all states of a frame at once. From frame to frame a path stays in its state, moves to the next
one, or skips a blank between two different tokens. For the text A B B:

    state    0      1   2      3   4      5   6
    label    blank  A   blank  B   blank  B   blank      3 may follow 1; 5 may not follow 3

For a greedy text that path is the greedy one itself. So words have the same times whichever
decoder found them, and the same times that forced alignment gives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from asr.decode.confidence import Calibration, span_probabilities
from asr.decode.hypothesis import Word
from asr.errors import AsrError
from asr.text.tokenizer import BLANK, BYTE_TOKEN, WORD_MARK, Tokenizer

_WHOLE = 128 * 2**20
"""Frames x states, which is bytes of back pointers, up to which all states are kept."""
_BAND = 2048
"""States kept around the best one in longer recordings: about a minute of speech in characters."""
_BAND_STEP = 32
"""Frames between two moves of the band; a path gains at most two states in a frame."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Alignment:
    """Frames of each token on the best path: from `starts` up to, not including, `ends`."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    score: float
    """Natural log of the path's probability."""


def frames_needed(tokens: Sequence[int]) -> int:
    """The fewest frames that CTC needs: one per token, and a blank between two equal ones."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def align(log_probs: Floats, tokens: Sequence[int], band: int | None = None) -> Alignment:
    """The best path of `tokens` (no blanks) through `log_probs (frames, tokens)`, natural logs.

    At each frame at most `band` states around the best one are kept; None keeps all of them
    unless they need more than 128 MB. Raises AsrError if the tokens need more frames than there
    are, or if text and recording differ so much that the band lost the path.

    >>> sure = np.log([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    >>> found = align(sure, [1, 2])
    >>> found.starts.tolist(), found.ends.tolist()
    ([0, 3], [2, 4])
    """
    frames, count = len(log_probs), len(tokens)
    needed = frames_needed(tokens)
    if needed > frames:
        raise AsrError(
            f"the text does not fit the recording: its {count} tokens need {needed} frames of "
            f"the network, and there are {frames}"
        )
    if not count:
        empty = np.zeros(0, np.int64)
        return Alignment(empty, empty, float(log_probs[:, BLANK].sum()))
    states = 2 * count + 1
    if band is None and frames * states > _WHOLE:
        band = _BAND
    width = min(states, max(band or states, 4))
    moves, lows, score, last = _forward(np.asarray(log_probs), tokens, width)
    path = _backward(moves, lows, last)
    return _spans(path, count, score)


def _forward(
    log_probs: Floats, tokens: Sequence[int], width: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], float, int]:
    """Back pointers of every kept state, the first state kept at each frame, score, last state."""
    frames, states = len(log_probs), 2 * len(tokens) + 1
    labels = np.full(states, BLANK)
    labels[1::2] = tokens
    skips = np.zeros(states, bool)  # a blank may be skipped between different tokens
    skips[3::2] = labels[3::2] != labels[1:-2:2]
    skip_cost = np.where(skips, 0.0, -np.inf)
    moves = np.empty((frames, width), np.uint8)
    lows = np.zeros(frames, np.int64)
    scores = np.full(width, -np.inf)
    scores[:2] = log_probs[0, labels[:2]]
    moves[0] = 0
    low = 0
    # Rows: stay, from one state before, from two before. What is before the band is unreachable.
    choices = np.full((3, width), -np.inf)
    for t in range(1, frames):
        if t % _BAND_STEP == 0:
            # The best state goes to the middle; the band never moves back, as paths do not.
            target = min(low + int(scores.argmax()) - width // 2, states - width)
            if target > low:
                scores = np.concatenate([scores[target - low :], np.full(target - low, -np.inf)])
                low = target
        choices[0] = scores
        choices[1, 1:] = scores[:-1]
        choices[2, 2:] = scores[:-2] + skip_cost[low + 2 : low + width]
        moves[t] = choices.argmax(axis=0)
        lows[t] = low
        scores = choices.max(axis=0) + log_probs[t, labels[low : low + width]]
    ends = [state for state in (states - 1, states - 2) if low <= state < low + width]
    last = max(ends, key=lambda state: scores[state - low], default=-1)
    if last < 0 or not np.isfinite(scores[last - low]):
        raise AsrError(
            "the text cannot be aligned with the recording: they differ too much; "
            "check that they belong together, or align shorter parts"
        )
    return moves, lows, float(scores[last - low]), last


def _backward(
    moves: npt.NDArray[np.uint8], lows: npt.NDArray[np.int64], last: int
) -> npt.NDArray[np.int64]:
    """The state of each frame, by following the back pointers from the last one."""
    path = np.empty(len(moves), np.int64)
    state = last
    for t in range(len(moves) - 1, -1, -1):
        path[t] = state
        state -= int(moves[t, state - lows[t]])
    return path


def _spans(path: npt.NDArray[np.int64], count: int, score: float) -> Alignment:
    states = np.arange(count) * 2 + 1
    starts = np.searchsorted(path, states, side="left")
    ends = np.searchsorted(path, states, side="right")
    return Alignment(starts, ends, score)


@lru_cache(maxsize=8)
def _token_texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """What each token writes, with a leading space where it begins a word."""
    texts = [token.replace(WORD_MARK, " ") for token in tokenizer.tokens]
    # The unknown token writes nothing, whatever its name is.
    return tuple(
        text if i != BLANK and (text.isspace() or tokenizer.decode([i])) else ""
        for i, text in enumerate(texts)
    )


def split_words(tokens: Sequence[int], tokenizer: Tokenizer) -> list[tuple[str, int, int]]:
    """Words of collapsed tokens, each with its first token and the one after its last."""
    words: list[tuple[str, int, int]] = []
    inside = False
    for written, start, end in _written(tokens, _token_texts(tokenizer)):
        for char in written:
            if char == " ":
                inside = False
            elif inside:
                text, first, _ = words[-1]
                words[-1] = (text + char, first, end)
            else:
                words.append((char, start, end))
                inside = True
    return words


def _written(tokens: Sequence[int], texts: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """What tokens write, with the first one and the one after the last; bytes are put together."""
    end = 0
    while end < len(tokens):
        start, found = end, b""
        while end < len(tokens) and (byte := BYTE_TOKEN.fullmatch(texts[tokens[end]])):
            found += bytes([int(byte[1], 16)])
            end += 1
        if found:
            yield found.decode(errors="replace"), start, end
        else:
            end += 1
            yield texts[tokens[start]], start, end


def whole_words(tokens: Sequence[int], tokenizer: Tokenizer) -> int:
    """How many words of collapsed tokens have ended: a space or another word follows them."""
    words = split_words(tokens, tokenizer)
    if not words:
        return 0
    texts = _token_texts(tokenizer)
    ended = any(" " in texts[token] for token in tokens[words[-1][2] :])
    return len(words) if ended else len(words) - 1


def find_words(
    log_probs: Floats,
    tokens: Sequence[int],
    tokenizer: Tokenizer,
    frame_seconds: float,
    calibration: Calibration | None = None,
) -> list[Word]:
    """The words of a hypothesis (`Hypothesis.tokens`) with times and confidence.

    `log_probs (frames, tokens)` are those it was decoded from, `frame_seconds` is the step of an
    output frame (`model.time_stride * frontend.step_seconds`). A word lasts from the first frame
    of its first token to the end of the last frame of its last token. Without `calibration` the
    confidence is the raw one (see `asr.decode.confidence`).
    """
    words = split_words(tokens, tokenizer)
    if not words:
        return []
    alignment = align(log_probs, tokens)
    raw = span_probabilities(log_probs, tokens, words, alignment.starts, alignment.ends)
    confidences = calibration.apply(raw) if calibration else raw
    return [
        Word(
            text,
            float(alignment.starts[first] * frame_seconds),
            float(alignment.ends[end - 1] * frame_seconds),
            float(confidence),
        )
        for (text, first, end), confidence in zip(words, confidences, strict=True)
    ]
