"""Utterances in batches of similar length, so that little of a batch is padding; no torch."""

from itertools import pairwise

import numpy as np

SHORTEST = 1e-3
"""Seconds that an utterance counts at least: a duration of 0 (of a header that does not say) must
not divide by zero."""


def batch_by_length(durations: np.ndarray, batch_seconds: float) -> list[list[int]]:
    """Indices in batches, longest first: a function of the durations alone.

    A batch costs `longest * count <= batch_seconds`, padding included; an utterance above that is
    a batch of its own.

    >>> batch_by_length(np.array([1.0, 4.0, 2.0, 2.0]), 4.0)
    [[1], [2, 3], [0]]
    """
    durations = np.asarray(durations)
    order = np.argsort(-durations, kind="stable")
    edges = split_by_length(durations[order], batch_seconds)
    return [order[start:end].tolist() for start, end in pairwise(edges)]


def split_by_length(durations: np.ndarray, batch_seconds: float, longer: float = 0.0) -> np.ndarray:
    """Edges of batches in a descending list of durations, each as long as `batch_seconds` allows.

    Batch i has the places from `edges[i]` to `edges[i + 1]`. With `longer` it is split as if each
    utterance were longer by that fraction, though none longer than the first.
    """
    edges, start, count = [0], 0, len(durations)
    most = max(float(durations[0]), SHORTEST) if count else 0.0
    while start < count:
        longest = min(max(float(durations[start]), SHORTEST) * (1 + longer), most)
        # Seconds are fractions: without the small term 0.3 / 0.1 would be below 3.
        start = min(start + max(int(batch_seconds / longest + 1e-6), 1), count)
        edges.append(start)
    return np.array(edges, dtype=np.int64)
