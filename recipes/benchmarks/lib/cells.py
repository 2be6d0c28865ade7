"""Texts for the cells of benchmark tables."""

from collections.abc import Sequence
from typing import Any

from lib.record import Part

CELLS = {"gru": "GRU", "lstm": "LSTM", "rnn_tanh": "RNN, tanh", "rnn_relu": "RNN, ReLU"}

Row = dict[str, Any]


def layer_name(part: Part) -> str:
    """`GRU 800, N = 8, 2 threads`."""
    threads = f"{part['threads']} thread{'s' if part['threads'] > 1 else ''}"
    cell = CELLS.get(part["cell"], part["cell"])
    return f"{cell} {part['hidden']}, N = {part['columns']}, {threads}"


def sparse_rows(part: Part, variant: str) -> list[Row]:
    """The results of one variant."""
    return [row for row in part["results"] if row.get("variant") == variant]


def find(part: Part, variant: str, sparsity: float) -> Row | None:
    """The result of one variant at about a sparsity."""
    found = (r for r in sparse_rows(part, variant) if abs(r["sparsity"] - sparsity) < 0.004)
    return next(found, None)


def milliseconds(row: Row) -> str:
    """Milliseconds with three digits, whole ones from a second on."""
    return f"{1e3 * row['seconds']:.3g}" if row["seconds"] < 1 else f"{1e3 * row['seconds']:.0f}"


def ratio_cell(row: Row | None, best: Row | None) -> str:
    """How many times faster than `best`."""
    return "-" if row is None or best is None else f"{best['seconds'] / row['seconds']:.2g}x"


def time_and_ratio(row: Row | None, best: Row | None) -> str:
    """Milliseconds, and how many times faster than `best` unless that is None."""
    if row is None:
        return "-"
    return (
        milliseconds(row)
        if best is None
        else f"{milliseconds(row)} ({best['seconds'] / row['seconds']:.2f}x)"
    )


def time_and_spread(row: Row | None, unit: float = 1e3, digits: int = 1) -> str:
    """The median with its quartiles, in seconds times `unit`."""
    if row is None:
        return "-"
    low, middle, high = (f"{unit * row[key]:.{digits}f}" for key in ("low", "seconds", "high"))
    return middle if low == high else f"{middle} ({low}-{high})"


def fastest(results: Sequence[Row], kind: str = "dense") -> Row | None:
    """The fastest result of a kind; None if there is none."""
    found = [row for row in results if row["kind"] == kind]
    return min(found, key=lambda row: row["seconds"]) if found else None
