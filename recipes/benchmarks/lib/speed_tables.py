"""Tables for the records of recurrent layers and of whole networks."""

from collections.abc import Sequence
from itertools import pairwise

from asr.benchmark.dense import NAMES
from asr.errors import counted
from asr.report.table import Column, Table
from lib.cells import (
    CELLS,
    Row,
    fastest,
    find,
    layer_name,
    milliseconds,
    ratio_cell,
    sparse_rows,
    time_and_ratio,
    time_and_spread,
)
from lib.record import Display, Part, absent_lines
from lib.sparse import MAIN, OTHERS

USUAL = 0.90625
LAYER = Column("Layer", numeric=False)


def recurrent_display(parts: Sequence[Part]) -> Display:
    """A layer: sparse against the fastest dense, all dense, by sparsity, break-even, errors."""
    names, others = [variant.name for variant in MAIN], [variant.name for variant in OTHERS]
    return Display(
        against_dense("", parts, names),
        (
            against_dense("Other kernels, milliseconds", parts, others),
            dense_times(parts),
            by_sparsity(parts),
            break_even_table(parts),
            errors(parts),
        ),
        (
            "Milliseconds, and how many times faster than the fastest dense alternative of the "
            "same run; 250 frames, both directions, 90.6 % zeros.",
            *absent_lines(parts),
        ),
    )


def against_dense(title: str, parts: Sequence[Part], names: Sequence[str]) -> Table:
    """Milliseconds and ratio of each way to run a layer with 90.6 % zeros."""
    rows = []
    for part in parts:
        best = fastest(part["results"])
        text = f"{milliseconds(best)} ({best['name']})" if best else "-"
        cells = [time_and_ratio(find(part, name, USUAL), best) for name in names]
        if set(cells) != {"-"}:
            rows.append((layer_name(part), text, *cells))
    return Table(title, (LAYER, Column("Fastest dense"), *map(Column, names)), tuple(rows))


def dense_times(parts: Sequence[Part]) -> Table:
    """Milliseconds of every dense alternative, with quartiles."""
    rows = []
    for part in parts:
        found = {row["name"]: row for row in part["results"]}
        rows.append((layer_name(part), *(time_and_spread(found.get(name)) for name in NAMES)))
    title = "Every dense alternative, milliseconds"
    return Table(title, (LAYER, *map(Column, NAMES)), tuple(rows))


def by_sparsity(parts: Sequence[Part]) -> Table:
    """Ratios of the three patterns at each sparsity."""
    sparsities = sorted(
        {round(r["sparsity"], 3) for p in parts for r in sparse_rows(p, MAIN[1].name)}
    )
    rows = []
    for part in parts:
        best = fastest(part["results"])
        for variant in MAIN:
            found = [find(part, variant.name, s) for s in sparsities]
            if sum(row is not None for row in found) > 1:
                cells = [ratio_cell(row, best) for row in found]
                rows.append((layer_name(part), variant.name, *cells))
    columns = [Column("Pattern", numeric=False), *(Column(f"{100 * s:.3g} %") for s in sparsities)]
    return Table("Times faster than the fastest dense, by sparsity", (LAYER, *columns), tuple(rows))


def break_even_table(parts: Sequence[Part]) -> Table:
    """Sparsity at which a sparse layer is as fast as the fastest dense one."""
    rows = []
    for part in parts:
        found = {variant.name: sparse_rows(part, variant.name) for variant in MAIN}
        if min(map(len, found.values())) > 3:
            best = fastest(part["results"])
            rows.append((layer_name(part), *(break_even(r, best) for r in found.values())))
    title = "From which sparsity on sparse is faster (interpolated)"
    return Table(title, (LAYER, *(Column(v.name) for v in MAIN)), tuple(rows))


def break_even(rows: Sequence[Row], best: Row | None) -> str:
    """Sparsity at which the sparse layer takes the dense time, by linear interpolation."""
    if best is None or not rows:
        return "-"
    rows = sorted(rows, key=lambda row: row["sparsity"])
    if rows[0]["seconds"] <= best["seconds"]:
        return f"below {100 * rows[0]['sparsity']:.3g} %"
    for before, after in pairwise(rows):
        if after["seconds"] <= best["seconds"]:
            part = (before["seconds"] - best["seconds"]) / (before["seconds"] - after["seconds"])
            at = before["sparsity"] + part * (after["sparsity"] - before["sparsity"])
            return f"{100 * at:.0f} %"
    return f"above {100 * rows[-1]['sparsity']:.4g} %"


def errors(parts: Sequence[Part]) -> Table:
    """Largest error of every way to compute, over all conditions, by cell."""
    cells = list(dict.fromkeys(part["cell"] for part in parts))
    names = [*NAMES, *(variant.name for variant in (*MAIN, *OTHERS))]
    rows = []
    for name in names:
        found = []
        for cell in cells:
            values = [
                row["error"]
                for part in parts
                if part["cell"] == cell
                for row in part["results"]
                if row.get("variant", row["name"]) == name and row.get("error") is not None
            ]
            found.append(f"{max(values):.1e}" if values else "-")
        rows.append((name, *found))
    columns = [Column("Run as", numeric=False), *(Column(CELLS.get(cell, cell)) for cell in cells)]
    title = "Largest error of an output, which lies within +-1 (but for ReLU)"
    return Table(title, tuple(columns), tuple(rows))


def network_display(parts: Sequence[Part]) -> Display:
    """Whole networks: a row for each way to run them, a column for each size and threads."""
    one = [part for part in parts if part["utterances"] == 1]
    several = [part for part in parts if part["utterances"] > 1]
    title = "Several short utterances at once, milliseconds"
    return Display(
        _networks("", one, [f"{p['size']}, {counted(p['threads'], 'thread')}" for p in one]),
        (
            _networks(
                title,
                several,
                [
                    f"{p['size']}, {p['utterances']} x {p['audio_seconds']} s, "
                    f"{counted(p['threads'], 'thread')}"
                    for p in several
                ],
            ),
        ),
        (
            "Milliseconds for 10 s of audio, from features to log-probabilities, and how many "
            "times faster than the fastest dense alternative.",
            *absent_lines(parts),
        ),
    )


def _networks(title: str, parts: Sequence[Part], headings: Sequence[str]) -> Table:
    best = [fastest(part["results"]) for part in parts]
    names = dict.fromkeys(r["name"] for p in parts for r in p["results"])
    rows = []
    for name in names:
        found = [next((r for r in p["results"] if r["name"] == name), None) for p in parts]
        measured = [row for row in found if row is not None]
        worst = max((r["error"] for r in measured if r.get("error") is not None), default=None)
        cells = [
            time_and_ratio(row, best[i] if row and row["kind"] != "part" else None)
            for i, row in enumerate(found)
        ]
        kernels = ", ".join(dict.fromkeys(r["kernel"] for r in measured if "kernel" in r))
        rows.append((name, kernels, *cells, "-" if worst is None else f"{worst:.1e}"))
    columns = (
        Column("Run as", numeric=False),
        Column("Kernel of recurrent weights", numeric=False),
        *map(Column, headings),
        Column("Largest error"),
    )
    return Table(title, columns, tuple(rows))
