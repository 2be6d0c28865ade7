"""Utterances in batches of similar length, so that little of a batch is padding; no torch."""

import numpy as np


def batch_by_length(durations: np.ndarray, batch_seconds: float) -> list[list[int]]:
    """Indices in batches, longest first: a function of the durations alone.

    A batch costs `longest * count <= batch_seconds`, padding included; an utterance above that is
    a batch of its own.

    >>> batch_by_length(np.array([1.0, 4.0, 2.0, 2.0]), 4.0)
    [[1], [2, 3], [0]]
    """
    # A duration of 0 (of a header that does not say) must not divide by zero.
    durations = np.maximum(np.asarray(durations, dtype=np.float64), 1e-3)
    order = np.argsort(-durations, kind="stable")
    return [order[places].tolist() for places in split_by_length(durations[order], batch_seconds)]


def split_by_length(durations: np.ndarray, batch_seconds: float) -> list[slice]:
    """Slices of a descending list of durations, each as long as `batch_seconds` allows."""
    slices, start = [], 0
    while start < len(durations):
        # Seconds are fractions: without the small term 0.3 / 0.1 would be below 3.
        count = max(int(batch_seconds / durations[start] + 1e-6), 1)
        slices.append(slice(start, min(start + count, len(durations))))
        start += count
    return slices
