"""Cells and pieces that the tables of benchmark records are made from."""

from collections.abc import Sequence
from typing import Any

from asr.report.tables import Column, Table, plain

CELLS = {"gru": "GRU", "lstm": "LSTM", "rnn_tanh": "RNN, tanh", "rnn_relu": "RNN, ReLU"}

Part = dict[str, Any]
Row = dict[str, Any]

CONDITION = (Column("Cell", numeric=False), Column("Hidden"), Column("N"), Column("Threads"))


def condition(part: Part) -> tuple[str, str, str, str]:
    """Cells of the columns `CONDITION`."""
    numbers = (str(part[key]) for key in ("hidden", "columns", "threads"))
    return (CELLS.get(part["cell"], part["cell"]), *numbers)  # type: ignore[return-value]


def sparse_rows(part: Part, variant: str) -> list[Row]:
    """The results of one variant."""
    return [row for row in part["results"] if row.get("variant") == variant]


def find(part: Part, variant: str, sparsity: float) -> Row | None:
    """The result of one variant at about a sparsity."""
    found = (r for r in sparse_rows(part, variant) if abs(r["sparsity"] - sparsity) < 0.004)
    return next(found, None)


def milliseconds(row: Row) -> str:
    """Three digits, or whole numbers from a second on."""
    return f"{1e3 * row['seconds']:.3g}" if row["seconds"] < 1 else f"{1e3 * row['seconds']:.0f}"


def ratio_cell(row: Row | None, best: Row | None) -> str:
    """How many times quicker than `best`."""
    return "-" if row is None or best is None else f"{best['seconds'] / row['seconds']:.2g}x"


def time_and_ratio(row: Row | None, best: Row | None) -> str:
    """Milliseconds, and how many times quicker than `best` if there is one."""
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


def absent_lines(parts: Sequence[Part]) -> list[str]:
    """Each alternative that was not measured, with the reason."""
    reasons: dict[tuple[str, str], int] = {}
    for part in parts:
        for item in part.get("absent", {}).items():
            reasons[item] = reasons.get(item, 0) + 1
    return [
        f"{name}: not measured in {times} of {len(parts)} conditions: {reason}."
        for (name, reason), times in reasons.items()
    ]


def folded(summary: str, table: Table, lines: Sequence[str] = ()) -> str:
    notes = "".join(f"- {plain(line)}\n" for line in lines)
    inside = f"<details><summary>{plain(summary)}</summary>\n\n{table.markdown()}"
    return f"{inside}\n{notes}\n</details>\n" if notes else f"{inside}\n</details>\n"
