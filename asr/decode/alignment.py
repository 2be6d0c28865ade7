"""When each symbol and each word was said: the best CTC path through given symbols.

Of all paths that collapse to the symbols, the most probable one is found by dynamic programming
over the states blank, symbol, blank, symbol, ..., blank (Graves et al. 2006, section 4), all
states of a frame at once. For a greedy text that path is the greedy one itself, so words have the
same times whichever decoder found them, and the same times that forced alignment gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from asr.decode.confidence import Calibration, span_probabilities
from asr.decode.hypothesis import Word
from asr.errors import AsrError
from asr.text.tokenizer import BLANK, Tokenizer

_WHOLE = 128 * 2**20
"""Frames x states (bytes of back pointers) up to which all states are kept for every frame."""
_BAND = 2048
"""States kept around the best one beyond that: about a minute of speech in characters."""
_BAND_STEP = 32
"""Frames between two moves of the band."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Alignment:
    """Frames of each symbol on the best path: `starts` to `ends`, the latter not included."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    score: float
    """Natural log of the path's probability."""


def frames_needed(tokens: Sequence[int]) -> int:
    """Frames that CTC needs at least: one a symbol, and a blank between two equal ones."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def align(log_probs: Floats, tokens: Sequence[int], band: int | None = None) -> Alignment:
    """The best path of `tokens` (no blanks) through `log_probs (frames, symbols)`.

    At each frame at most `band` states around the best one are kept; None keeps all of them
    unless that took over 128 MB. Raises AsrError if the symbols need more frames than there are,
    or if text and recording differ so much that the band lost the path.
    """
    frames, count = len(log_probs), len(tokens)
    needed = frames_needed(tokens)
    if needed > frames:
        raise AsrError(
            f"the text does not fit the recording: its {count} symbols need {needed} frames of "
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
    """Moves into every kept state, the first state kept at each frame, and where it ends."""
    frames, states = len(log_probs), 2 * len(tokens) + 1
    labels = np.full(states, BLANK)
    labels[1::2] = tokens
    skips = np.zeros(states, bool)  # a blank may be left out between two different symbols
    skips[3::2] = labels[3::2] != labels[1:-2:2]
    skip_cost = np.where(skips, 0.0, -np.inf)
    moves = np.empty((frames, width), np.uint8)
    lows = np.zeros(frames, np.int64)
    scores = np.full(width, -np.inf)
    scores[:2] = log_probs[0, labels[:2]]
    moves[0] = 0
    low = 0
    # Rows: stay, from one state before, from two before. What lies before the band is out of reach.
    choices = np.full((3, width), -np.inf)
    for t in range(1, frames):
        if t % _BAND_STEP == 0:
            wanted = min(low + int(scores.argmax()) - width // 2, states - width)
            if wanted > low:
                scores = np.concatenate([scores[wanted - low :], np.full(wanted - low, -np.inf)])
                low = wanted
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
            "the text could not be followed through the recording: they differ too much; "
            "check that they belong together, or align shorter parts"
        )
    return moves, lows, float(scores[last - low]), last


def _backward(
    moves: npt.NDArray[np.uint8], lows: npt.NDArray[np.int64], last: int
) -> npt.NDArray[np.int64]:
    """The state of each frame, from the last one back."""
    path = np.empty(len(moves), np.int64)
    state = last
    for t in range(len(moves) - 1, -1, -1):
        path[t] = state
        state -= int(moves[t, state - lows[t]])
    return path


def _spans(path: npt.NDArray[np.int64], count: int, score: float) -> Alignment:
    symbols = np.arange(count) * 2 + 1
    starts = np.searchsorted(path, symbols, side="left")
    ends = np.searchsorted(path, symbols, side="right")
    return Alignment(starts, ends, score)


@lru_cache(maxsize=8)
def _pieces(tokenizer: Tokenizer) -> tuple[str, ...]:
    """What each symbol writes, a leading space where it begins a word."""
    texts = [symbol.replace("\u2581", " ") for symbol in tokenizer.symbols]
    # The unknown piece writes nothing, whatever it is called.
    return tuple(
        text if i != BLANK and (text.isspace() or tokenizer.decode([i])) else ""
        for i, text in enumerate(texts)
    )


def split_words(tokens: Sequence[int], tokenizer: Tokenizer) -> list[tuple[str, int, int]]:
    """Words of collapsed symbols with their first symbol and the one after their last."""
    pieces = _pieces(tokenizer)
    words: list[tuple[str, int, int]] = []
    inside = False
    for i, token in enumerate(tokens):
        for char in pieces[token]:
            if char == " ":
                inside = False
            elif inside:
                text, first, _ = words[-1]
                words[-1] = (text + char, first, i + 1)
            else:
                words.append((char, i, i + 1))
                inside = True
    return words


def find_words(
    log_probs: Floats,
    tokens: Sequence[int],
    tokenizer: Tokenizer,
    frame_seconds: float,
    calibration: Calibration | None = None,
) -> list[Word]:
    """The words of a hypothesis (`Hypothesis.tokens`) with times and confidence.

    `log_probs (frames, tokens)` are those it was decoded from, `frame_seconds` what an output frame
    advances by (`model.time_stride * frontend.step_seconds`). A word lasts from the first
    frame of its first symbol to the end of the last frame of its last. Without `calibration`
    the confidence is the raw one (see confidence.py).
    """
    found = split_words(tokens, tokenizer)
    if not found:
        return []
    alignment = align(log_probs, tokens)
    raw = span_probabilities(log_probs, tokens, found, alignment.starts, alignment.ends)
    confidences = calibration.apply(raw) if calibration else raw
    return [
        Word(
            text,
            float(alignment.starts[first] * frame_seconds),
            float(alignment.ends[end - 1] * frame_seconds),
            float(confidence),
        )
        for (text, first, end), confidence in zip(found, confidences, strict=True)
    ]
