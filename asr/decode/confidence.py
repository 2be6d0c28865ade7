"""How sure the recogniser is of a word, and how well that agrees with how often it is right.

The raw confidence of a word is the probability that CTC gives to the word's symbols, and to
nothing else, in the frames between its neighbours: summed over all alignments of the symbols to
those frames. Frames of blank have no weight of their own: a word does not become surer by the
silence around it, as it would in a mean over frames, and not less sure by being spoken slowly.
A logistic map, fitted on a dev set, makes of it the share of such words that are right.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import AsrError
from asr.text.tokenizer import BLANK

Floats = npt.NDArray[np.floating]

_EDGE = 1e-6
"""Raw confidences are kept this far from 0 and 1, so that their logits are finite."""
_PRIOR = 1e-2
"""Pull of slope and offset towards the identity: matters only where nothing is wrong."""
_TINY = 1e-300


@dataclass(frozen=True)
class Calibration:
    """The monotone map from raw to calibrated confidence: sigmoid(slope * logit(raw) + offset).

    Raises AsrError for numbers that are no such map.
    """

    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) not in (int, float) or not math.isfinite(value):
                raise AsrError(f"confidence.{name}={value!r}: a finite number")
        if not self.slope > 0:
            raise AsrError(f"confidence.slope={self.slope}: above 0, or surer would mean less sure")

    def apply(self, raw: Floats) -> Floats:
        """Calibrated confidences, 0 to 1, in the order of the raw ones."""
        raw = np.clip(np.asarray(raw, np.float64), _EDGE, 1 - _EDGE)
        logits = self.slope * np.log(raw / (1 - raw)) + self.offset
        return 0.5 * (1.0 + np.tanh(0.5 * logits))

    def to_plain(self) -> dict[str, float]:
        """JSON-able values, as they stand in a model file's `training.confidence`."""
        return asdict(self)

    @staticmethod
    def from_plain(plain: Any) -> "Calibration | None":
        """The map in a model file's metadata; None where there is none. Raises AsrError."""
        if plain is None:
            return None
        if not isinstance(plain, dict) or not {"slope", "offset"} <= set(plain):
            raise AsrError("confidence: needs slope and offset; calibrate the model again")
        return Calibration(plain["slope"], plain["offset"])


def fit(raw: Floats, right: npt.NDArray[np.bool_]) -> Calibration:
    """The map under which the words' being right is most probable (logistic regression).

    Needs some words that are right and some that are wrong; raises AsrError otherwise, and where
    surer words are not more often right.
    """
    right = np.asarray(right, bool)
    if right.all() or not right.any():
        kind = "right" if len(right) and right.all() else "wrong"
        raise AsrError(
            f"confidence: of {len(right)} words all are {kind}; calibrating needs both kinds: "
            "take more recordings"
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
            "confidence: surer words are not more often right here; the model is too weak for "
            "these recordings, or their texts belong to others"
        )
    return Calibration(float(weights[0]), float(weights[1]))


@dataclass(frozen=True)
class Reliability:
    """Words whose confidence lies between `low` and `high`, and the share that is right."""

    low: float
    high: float
    words: int
    confidence: float
    """Their mean confidence."""
    right: float
    """Share of them that is right; the closer to `confidence`, the better."""


def reliability(
    confidences: Floats, right: npt.NDArray[np.bool_], bins: int = 10
) -> list[Reliability]:
    """Words counted in `bins` equally wide classes of confidence; empty classes are left out."""
    confidences, right = np.asarray(confidences, np.float64), np.asarray(right, bool)
    place = np.minimum((confidences * bins).astype(int), bins - 1)
    return [
        Reliability(
            i / bins,
            (i + 1) / bins,
            int(inside.sum()),
            float(confidences[inside].mean()),
            float(right[inside].mean()),
        )
        for i in range(bins)
        if (inside := place == i).any()
    ]


def calibration_error(rows: Sequence[Reliability]) -> float:
    """Mean distance of confidence and share that is right, weighted by words (ECE)."""
    words = sum(row.words for row in rows)
    return sum(row.words * abs(row.confidence - row.right) for row in rows) / max(words, 1)


def separation(confidences: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Chance that a right word is surer than a wrong one (area under the ROC curve); ties half."""
    right = np.asarray(right, bool)
    values, place, counts = np.unique(confidences, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place] if len(values) else np.zeros(0)
    positives, negatives = int(right.sum()), int((~right).sum())
    if not positives or not negatives:
        return math.nan
    wins = ranks[right].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def reliability_table(rows: Sequence[Reliability]) -> str:
    """The rows as a Markdown table, for a results file or a terminal."""
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
    """Raw confidence of each word, 0 to 1.

    `words` are (text, first symbol, one after the last) among `tokens`, whose frames on the best
    path are `starts` to `ends`. All words are computed side by side, frame by frame.
    """
    if not words:
        return np.zeros(0)
    # A word owns the frames from its left neighbour's end to its right neighbour's start, with
    # the symbols there: those that separate words are part of what may be wrong.
    firsts = [0, *(end for _, _, end in words[:-1])]
    lasts = [*(first for _, first, _ in words[1:]), len(tokens)]
    begin = np.array([ends[first - 1] if first else 0 for first in firsts])
    stop = np.array([starts[last] if last < len(tokens) else len(log_probs) for last in lasts])
    labels, skips = _states(tokens, firsts, lasts)
    count, width = labels.shape
    forward = np.zeros((count, width + 2))  # two empty states on the left
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
    """Labels of each word's CTC states, blanks between and around, and which skip a blank."""
    width = 2 * max(last - first for first, last in zip(firsts, lasts, strict=True)) + 1
    labels = np.full((len(firsts), width), BLANK)
    skips = np.zeros(labels.shape, bool)
    for i, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        symbols = np.asarray(tokens[first:last])
        labels[i, 1 : 2 * len(symbols) : 2] = symbols
        skips[i, 3 : 2 * len(symbols) : 2] = symbols[1:] != symbols[:-1]
    return labels, skips
