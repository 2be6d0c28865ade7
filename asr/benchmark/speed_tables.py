"""Tables of the records of recurrent layers and of whole networks."""

from collections.abc import Sequence
from itertools import pairwise

from asr.benchmark.cells import (
    CELLS,
    CONDITION,
    Part,
    Row,
    absent_lines,
    condition,
    find,
    folded,
    milliseconds,
    ratio_cell,
    sparse_rows,
    time_and_ratio,
    time_and_spread,
)
from asr.benchmark.dense import NAMES
from asr.benchmark.script import fastest
from asr.benchmark.sparse import MAIN, OTHERS
from asr.report.tables import Column, Table, plain

USUAL = 0.90625


def recurrent_section(parts: Sequence[Part]) -> list[str]:
    """The layer: sparse against the fastest dense, every dense, sparsities, crossover, errors."""
    return [
        "**Recurrent layer, both directions, 250 frames, 90.6 % zeros: milliseconds, and how many "
        "times quicker than the fastest dense alternative of the same run**\n",
        against_dense(parts).markdown(),
        folded("Every dense alternative, milliseconds", dense_times(parts), absent_lines(parts)),
        folded("Times quicker than the fastest dense, by sparsity", by_sparsity(parts)),
        folded("From which sparsity on sparse is quicker (interpolated)", crossover(parts)),
        folded("Largest error of an output, which lies within +-1 (but for ReLU)", errors(parts)),
    ]


def against_dense(parts: Sequence[Part]) -> Table:
    """Milliseconds and ratio of each way to run a layer with 90.6 % zeros."""
    names = [variant.name for variant in (*MAIN, *OTHERS)]
    rows = []
    for part in parts:
        best = fastest(part["results"])
        shown = f"{milliseconds(best)} ({best['name']})" if best else "-"
        cells = [time_and_ratio(find(part, name, USUAL), best) for name in names]
        rows.append((*condition(part), shown, *cells))
    columns = [Column("Fastest dense"), *map(Column, names)]
    return Table("", (*CONDITION, *columns), tuple(rows))


def dense_times(parts: Sequence[Part]) -> Table:
    """Milliseconds of every dense alternative, with quartiles."""
    rows = []
    for part in parts:
        found = {row["name"]: row for row in part["results"]}
        rows.append((*condition(part), *(time_and_spread(found.get(name)) for name in NAMES)))
    return Table("", (*CONDITION, *map(Column, NAMES)), tuple(rows))


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
                rows.append((*condition(part), variant.name, *cells))
    columns = [Column("Pattern", numeric=False), *(Column(f"{100 * s:.3g} %") for s in sparsities)]
    return Table("", (*CONDITION, *columns), tuple(rows))


def crossover(parts: Sequence[Part]) -> Table:
    """Sparsity at which a sparse layer is as quick as the fastest dense one."""
    rows = []
    for part in parts:
        found = {variant.name: sparse_rows(part, variant.name) for variant in MAIN}
        if min(map(len, found.values())) > 3:
            best = fastest(part["results"])
            rows.append((*condition(part), *(break_even(r, best) for r in found.values())))
    return Table("", (*CONDITION, *(Column(v.name) for v in MAIN)), tuple(rows))


def break_even(rows: Sequence[Row], best: Row | None) -> str:
    """Where the time of a sparse layer, linear between two sparsities, meets the dense time."""
    if best is None or not rows:
        return "-"
    rows = sorted(rows, key=lambda row: row["sparsity"])
    if rows[0]["seconds"] <= best["seconds"]:
        return f"below {100 * rows[0]['sparsity']:.3g} %"
    for before, after in pairwise(rows):
        if after["seconds"] <= best["seconds"]:
            share = (before["seconds"] - best["seconds"]) / (before["seconds"] - after["seconds"])
            at = before["sparsity"] + share * (after["sparsity"] - before["sparsity"])
            return f"{100 * at:.0f} %"
    return f"above {100 * rows[-1]['sparsity']:.4g} %"


def errors(parts: Sequence[Part]) -> Table:
    """Largest error of every contestant over all conditions, by cell."""
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
    columns = [Column(CELLS.get(cell, cell)) for cell in cells]
    return Table("", (Column("", numeric=False), *columns), tuple(rows))


def network_section(parts: Sequence[Part]) -> list[str]:
    """Whole networks."""
    keys = [f"{p['size']}, {p['threads']} thread{'s' if p['threads'] > 1 else ''}" for p in parts]
    best = [fastest(part["results"]) for part in parts]
    names = dict.fromkeys(r["name"] for p in parts for r in p["results"])
    rows = []
    for name in names:
        found = [next((r for r in p["results"] if r["name"] == name), None) for p in parts]
        shown = [row for row in found if row is not None]
        worst = max((r["error"] for r in shown if r.get("error") is not None), default=None)
        cells = [
            time_and_ratio(row, best[i] if row and row["kind"] != "features" else None)
            for i, row in enumerate(found)
        ]
        kernels = ", ".join(dict.fromkeys(r["kernel"] for r in shown if "kernel" in r))
        rows.append((name, kernels, *cells, "-" if worst is None else f"{worst:.1e}"))
    table = Table(
        "",
        (
            Column("", numeric=False),
            Column("Kernel of recurrent weights", numeric=False),
            *map(Column, keys),
            Column("Largest error"),
        ),
        tuple(rows),
    )
    return [
        "**Whole network, 10 s of audio, features to log-probabilities: milliseconds, and how many "
        "times quicker than the fastest dense alternative**\n",
        table.markdown(),
        "".join(f"- {plain(line)}\n" for line in absent_lines(parts)),
    ]
