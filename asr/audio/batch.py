"""Utterances sorted and cut into batches by their length; no torch."""

import numpy as np


def cut(durations: np.ndarray, limit: float) -> list[slice]:
    """Cut a descending list greedily at `longest * count <= limit`; at least one in each slice.

    A single utterance above the limit gets a slice of its own.
    """
    slices, start = [], 0
    while start < len(durations):
        count = max(int(limit / durations[start] + 1e-6), 1)
        slices.append(slice(start, min(start + count, len(durations))))
        start += count
    return slices


def sorted_batches(durations: np.ndarray, batch_seconds: float) -> list[list[int]]:
    """Indices in batches for evaluation: longest first, no chance in it."""
    durations = np.maximum(np.asarray(durations, dtype=np.float64), 1e-3)
    order = np.argsort(-durations, kind="stable")
    return [order[places].tolist() for places in cut(durations[order], batch_seconds)]
