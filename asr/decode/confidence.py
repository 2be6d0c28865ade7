"""Confidence of words: raw from CTC, calibrated by a logistic map, and how good the map is.

The raw confidence of a word is the probability that CTC gives to the word's tokens, and to no
others, in the frames between its neighbours: the sum over all alignments of the tokens to those
frames. A mean over frames would not do: silence around a word would raise it, because blank is
nearly certain there.

A logistic map (Platt scaling), fitted on a dev set, turns the raw confidence into the fraction of
such words that are right.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import AsrError
from asr.text.tokenizer import BLANK

Floats = npt.NDArray[np.floating]

_EDGE = 1e-6
"""Raw confidences are clipped to this distance from 0 and 1, so that their logits are finite."""
_PRIOR = 1e-2
"""Pull of slope and offset towards the identity; it matters only if no word is wrong."""
_TINY = 1e-300
"""A word of probability 0 keeps a finite logarithm."""


@dataclass(frozen=True)
class Calibration:
    """The monotone map from raw to calibrated confidence: sigmoid(slope * logit(raw) + offset).

    Raises AsrError for numbers that are not finite, and for a slope that is not above 0.

    >>> Calibration(slope=2.0, offset=-1.0).apply(np.array([0.2, 0.5, 0.9])).round(3).tolist()
    [0.022, 0.269, 0.968]
    """

    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
                raise AsrError(f"confidence.{name}={value!r}: must be a finite number")
        if not self.slope > 0:
            raise AsrError(f"confidence.slope={self.slope}: must be above 0, or words change order")

    def apply(self, raw: Floats) -> Floats:
        """Calibrated confidences, 0 to 1, of raw ones; any shape."""
        raw = np.clip(np.asarray(raw, np.float64), _EDGE, 1 - _EDGE)
        logits = self.slope * np.log(raw / (1 - raw)) + self.offset
        return 0.5 * (1.0 + np.tanh(0.5 * logits))

    def to_plain(self) -> dict[str, float]:
        """Values for JSON, as in a model file's `training.confidence`."""
        return asdict(self)

    @staticmethod
    def from_plain(plain: Any) -> "Calibration | None":
        """The map in a model file's metadata, or None. Raises AsrError if it is malformed."""
        if plain is None:
            return None
        if not isinstance(plain, dict) or not {"slope", "offset"} <= set(plain):
            raise AsrError("confidence: needs slope and offset; calibrate the model again")
        return Calibration(plain["slope"], plain["offset"])


def fit(raw: Floats, right: npt.NDArray[np.bool_]) -> Calibration:
    """The most probable map, given which words were right (logistic regression).

    `raw` and `right` have one value per word. Raises AsrError unless some words are right and some
    wrong, and if words of higher confidence are not right more often.
    """
    right = np.asarray(right, bool)
    if right.all() or not right.any():
        kind = "right" if len(right) and right.all() else "wrong"
        raise AsrError(
            f"confidence: all of {len(right)} words are {kind}; calibration needs both kinds: "
            "use more recordings"
        )
    raw = np.clip(np.asarray(raw, np.float64), _EDGE, 1 - _EDGE)
    inputs = np.stack([np.log(raw / (1 - raw)), np.ones_like(raw)], axis=1)
    prior = np.array([1.0, 0.0])
    weights = prior
    for _ in range(100):  # Newton's method; convex, and the prior keeps the steps finite
        guess = 0.5 * (1.0 + np.tanh(0.5 * (inputs @ weights)))
        gradient = inputs.T @ (guess - right) + _PRIOR * (weights - prior)
        curvature = (inputs * (guess * (1 - guess))[:, None]).T @ inputs + _PRIOR * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-10:
            break
    if not weights[0] > 0:
        raise AsrError(
            "confidence: words of higher confidence are not right more often; the model is too "
            "weak for these recordings, or their texts belong to others"
        )
    return Calibration(float(weights[0]), float(weights[1]))


@dataclass(frozen=True)
class Reliability:
    """Words whose confidence is between `low` and `high`, and the fraction that is right."""

    low: float
    high: float
    words: int
    confidence: float
    """Their mean confidence."""
    right: float
    """Fraction of them that is right; the closer to `confidence`, the better."""


def reliability(
    confidences: Floats, right: npt.NDArray[np.bool_], bins: int = 10
) -> list[Reliability]:
    """Words in `bins` equally wide classes of confidence; empty classes are left out."""
    confidences, right = np.asarray(confidences, np.float64), np.asarray(right, bool)
    classes = np.minimum((confidences * bins).astype(int), bins - 1)
    return [
        Reliability(
            i / bins,
            (i + 1) / bins,
            int(inside.sum()),
            float(confidences[inside].mean()),
            float(right[inside].mean()),
        )
        for i in range(bins)
        if (inside := classes == i).any()
    ]


def calibration_error(rows: Sequence[Reliability]) -> float:
    """Expected calibration error: distance of confidence and fraction right, mean over words."""
    words = sum(row.words for row in rows)
    return sum(row.words * abs(row.confidence - row.right) for row in rows) / max(words, 1)


def separation(confidences: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a right word has more confidence than a wrong one.

    0 to 1; ties count half. NaN if all words are right, or all wrong.
    """
    right = np.asarray(right, bool)
    values, place, counts = np.unique(confidences, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place] if len(values) else np.zeros(0)
    positives, negatives = int(right.sum()), int((~right).sum())
    if not positives or not negatives:
        return float("nan")
    wins = ranks[right].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def reliability_table(rows: Sequence[Reliability]) -> str:
    """The rows as a Markdown table."""
    lines = ["| Confidence | Words | Mean confidence | Right |", "|---|--:|--:|--:|"]
    lines += [
        f"| {row.low:.1f} to {row.high:.1f} | {row.words} | {100 * row.confidence:.1f} % "
        f"| {100 * row.right:.1f} % |"
        for row in rows
    ]
    return "\n".join(lines)


def span_probabilities(
    log_probs: Floats,
    tokens: Sequence[int],
    words: Sequence[tuple[str, int, int]],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
) -> Floats:
    """Raw confidence of each word, 0 to 1: the CTC forward algorithm on the frames of the word.

    `log_probs (frames, tokens)` are natural logs. `words` are (text, first token, one after the
    last) among `tokens`, whose frames on the best path are `starts` to `ends`. All words are
    computed side by side, frame by frame.
    """
    if not words:
        return np.zeros(0)
    # A word has the frames from its left neighbour's end to its right neighbour's start, and the
    # tokens there: the spaces around it may be wrong too.
    firsts = [0, *(end for _, _, end in words[:-1])]
    lasts = [*(first for _, first, _ in words[1:]), len(tokens)]
    begin = np.array([ends[first - 1] if first else 0 for first in firsts])
    stop = np.array([starts[last] if last < len(tokens) else len(log_probs) for last in lasts])
    labels, skips = _states(tokens, firsts, lasts)
    count, width = labels.shape
    forward = np.zeros((count, width + 2))  # two empty states on the left: no special cases
    forward[:, 2] = 1.0
    log_total = np.zeros(count)
    probabilities = np.exp(log_probs.astype(np.float64))
    for step in range(int((stop - begin).max())):
        active = np.flatnonzero(begin + step < stop)
        before = forward[active]
        moved = before[:, 2:] + before[:, 1:-1]
        moved += np.where(skips[active], before[:, :-2], 0.0)
        moved *= probabilities[(begin[active] + step)[:, None], labels[active]]
        total = np.maximum(moved.sum(axis=1), _TINY)
        forward[active, 2:] = moved / total[:, None]  # scaled, or long words would underflow
        log_total[active] += np.log(total)
    rows, final = np.arange(count), 2 * (np.array(lasts) - firsts)
    at_end = forward[rows, 2 + final] + forward[rows, 1 + final]
    return np.minimum(at_end * np.exp(log_total), 1.0)


def _states(
    tokens: Sequence[int], firsts: Sequence[int], lasts: Sequence[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Labels of each word's CTC states, blanks between and around, and which may skip a blank."""
    width = 2 * max(last - first for first, last in zip(firsts, lasts, strict=True)) + 1
    labels = np.full((len(firsts), width), BLANK)
    skips = np.zeros(labels.shape, bool)
    for i, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        own = np.asarray(tokens[first:last])
        labels[i, 1 : 2 * len(own) : 2] = own
        skips[i, 3 : 2 * len(own) : 2] = own[1:] != own[:-1]
    return labels, skips
