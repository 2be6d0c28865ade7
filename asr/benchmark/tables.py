"""Markdown of the committed benchmark records and nothing else, for recipes/RESULTS.md."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from asr.benchmark.book import Book, read_book
from asr.benchmark.dense import NAMES
from asr.benchmark.script import fastest
from asr.benchmark.sparse import MAIN, OTHERS
from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.report.tables import Column, Table, count, plain

START, END = (
    "<!-- benchmarks of the sparse engine -->",
    "<!-- end: benchmarks of the sparse engine -->",
)
USUAL = 0.90625
CELLS = {"gru": "GRU", "lstm": "LSTM", "rnn_tanh": "RNN, tanh", "rnn_relu": "RNN, ReLU"}

Part = dict[str, Any]
Row = dict[str, Any]


def write_results(folder: Path, path: Path) -> None:
    """Rewrite the part of `path` between the two markers from the records in `folder`.

    Raises AsrError for missing markers, for no record, and for one that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise AsrError(f"{path}: cannot be read ({error.strerror})") from error
    lines = text.split("\n")
    at = [[i for i, line in enumerate(lines) if line.strip() == marker] for marker in (START, END)]
    if [len(found) for found in at] != [1, 1] or at[0] > at[1]:
        raise AsrError(
            f"{path}: the tables go between two lines, each once and in this order; add where they "
            f"are wanted:\n{START}\n{END}"
        )
    inside = ["", *markdown(folder).split("\n")]
    atomic_write_text(path, "\n".join([*lines[: at[0][0] + 1], *inside, *lines[at[1][0] :]]))


def markdown(folder: Path) -> str:
    """All tables of the records that are there."""
    sections = {
        "recurrent": recurrent_section,
        "network": network_section,
        "start": start_section,
        "sizes": sizes_section,
        "masks": masks_section,
        "wer": wer_section,
        "cuda": cuda_section,
        "cuda": cuda_section,
    }
    found = {
        n: read_book(folder / f"{n}.json") for n in sections if (folder / f"{n}.json").exists()
    }
    if not found:
        raise AsrError(f"{folder}: no record of a benchmark; run recipes/benchmarks/recurrent.py")
    parts = []
    for name, book in found.items():
        parts += [*sections[name](list(book.parts.values())), measured_on(book)]
    return "\n".join(parts)


def recurrent_section(parts: Sequence[Part]) -> list[str]:
    """The layer: sparse against the fastest dense, every dense, sparsities, crossover, errors."""
    return [
        "**Recurrent layer, both directions, 250 frames, 90.6 % zeros: milliseconds, and how many "
        "times quicker than the fastest dense alternative of the same run**\n",
        against_dense(parts).markdown(),
        _folded("Every dense alternative, milliseconds", dense_times(parts), _absent(parts)),
        _folded("Times quicker than the fastest dense, by sparsity", by_sparsity(parts)),
        _folded("From which sparsity on sparse is quicker (interpolated)", crossover(parts)),
        _folded("Largest error of an output, which lies within +-1 (but for ReLU)", errors(parts)),
    ]


def against_dense(parts: Sequence[Part]) -> Table:
    """Milliseconds and ratio of each way to run a layer with 90.6 % zeros."""
    names = [variant.name for variant in (*MAIN, *OTHERS)]
    rows = []
    for part in parts:
        best = fastest(part["results"])
        shown = f"{_ms(best)} ({best['name']})" if best else "-"
        cells = [_with_ratio(_find(part, name, USUAL), best) for name in names]
        rows.append((*_condition(part), shown, *cells))
    columns = [Column("Fastest dense"), *map(Column, names)]
    return Table("", (*_CONDITION, *columns), tuple(rows))


def dense_times(parts: Sequence[Part]) -> Table:
    """Milliseconds of every dense alternative, with quartiles."""
    rows = []
    for part in parts:
        found = {row["name"]: row for row in part["results"]}
        rows.append((*_condition(part), *(_with_spread(found.get(name)) for name in NAMES)))
    return Table("", (*_CONDITION, *map(Column, NAMES)), tuple(rows))


def by_sparsity(parts: Sequence[Part]) -> Table:
    """Ratios of the three patterns at each sparsity."""
    sparsities = sorted({round(r["sparsity"], 3) for p in parts for r in _sparse(p, MAIN[1].name)})
    rows = []
    for part in parts:
        best = fastest(part["results"])
        for variant in MAIN:
            found = [_find(part, variant.name, s) for s in sparsities]
            if sum(row is not None for row in found) > 1:
                cells = [_ratio(row, best) for row in found]
                rows.append((*_condition(part), variant.name, *cells))
    columns = [Column("Pattern", numeric=False), *(Column(f"{100 * s:.3g} %") for s in sparsities)]
    return Table("", (*_CONDITION, *columns), tuple(rows))


def crossover(parts: Sequence[Part]) -> Table:
    """Sparsity at which a sparse layer is as quick as the fastest dense one."""
    rows = []
    for part in parts:
        found = {variant.name: _sparse(part, variant.name) for variant in MAIN}
        if min(map(len, found.values())) > 3:
            best = fastest(part["results"])
            rows.append((*_condition(part), *(break_even(r, best) for r in found.values())))
    return Table("", (*_CONDITION, *(Column(v.name) for v in MAIN)), tuple(rows))


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
            _with_ratio(row, best[i] if row and row["kind"] != "features" else None)
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
        "".join(f"- {plain(line)}\n" for line in _absent(parts)),
    ]


def start_section(parts: Sequence[Part]) -> list[str]:
    """From the shell prompt to the text."""
    rows = []
    for part in parts:
        for row in part["results"]:
            if row["kind"] != "sparse":
                continue
            length = row["name"].split(", ")[1]
            other = next(r for r in part["results"] if r["name"] == f"torch, {length}")
            same = "yes" if row["same_text"] else "no"
            rows.append(
                (
                    part["model"],
                    length,
                    _with_spread(other, 1, 2),
                    _with_spread(row, 1, 2),
                    f"{other['seconds'] / row['seconds']:.1f}x",
                    count(other["peak_mib"]),
                    count(row["peak_mib"]),
                    f"{same}, {row['characters']} letters",
                )
            )
    headings = ["torch, s", "native, s", "quicker", "torch, peak MiB", "native, peak MiB"]
    columns = (
        Column("Network", numeric=False),
        Column("Audio"),
        *map(Column, headings),
        Column("Same text", numeric=False),
    )
    return [
        "**Shell prompt to text, packed file, 2 threads**\n",
        Table("", columns, tuple(rows)).markdown(),
    ]


def sizes_section(parts: Sequence[Part]) -> list[str]:
    """Bytes on disk."""
    rows, short = [], []
    for part in parts:
        dense = {row["name"]: row["bytes"] for row in part["results"] if row["kind"] == "dense"}
        for row in part["results"]:
            share = "-" if "sparsity" not in row else f"{100 * row['sparsity']:.4g} %"
            less = [f"{dense[name] / row['bytes']:.2g}x" for name in _AGAINST]
            if row["kind"] == "dense":
                less[1:] = ["-"] * (len(_AGAINST) - 1)
            what = (part["what"], row["name"], row.get("pattern", "-"), share)
            rows.append((*what, _mib(row["bytes"]), *less))
            if row["name"] in ("packed fp16", "packed int8") and what[2] == "element":
                against = ", ".join(
                    f"{x} smaller than {name}" for x, name in zip(less, _AGAINST, strict=True)
                )
                short.append(
                    f"- {part['what']}, {share} zeros, {row['name']}: {_mib(row['bytes'])} MiB, "
                    f"{against}\n"
                )
    columns = (
        Column("", numeric=False),
        Column("Stored as", numeric=False),
        Column("Pattern", numeric=False),
        Column("Zeros"),
        Column("MiB"),
        *(Column(f"Smaller than {name}") for name in _AGAINST),
    )
    table = Table("", columns, tuple(rows))
    return [
        "**Bytes on disk**, of Gaussian weights pruned by magnitude\n",
        "".join(short),
        _folded("Every pattern and encoding", table),
    ]


def _mib(size: int) -> str:
    return f"{size / 2**20:.3g}"


_AGAINST = ("dense fp32", "dense int8", "dense int8, zipped")


def masks_section(parts: Sequence[Part]) -> list[str]:
    """Real masks beside random ones."""
    rows = []
    for part in parts:
        found = {row["name"]: row for row in part["results"]}
        own, random = found["its mask, N = 1"], found["random mask, N = 1"]
        times = []
        for n in (1, 8):
            both = [found[f"{mask} mask, N = {n}"]["seconds"] for mask in ("its", "random")]
            times.append(f"{both[0] / both[1]:.2f}")
        rows.append(
            (
                part["layer"],
                f"{100 * own['sparsity']:.1f}",
                own["kernel"],
                f"{own['row_spread']:.2f} / {random['row_spread']:.2f}",
                f"{own['bytes_per_kept']:.2f} / {random['bytes_per_kept']:.2f}",
                *times,
            )
        )
    headings = ["Zeros, %", "Kernel", "Spread of rows", "Bytes a kept weight"]
    columns = (
        Column("Layer", numeric=False),
        *(Column(h, numeric=h != "Kernel") for h in headings),
        Column("Time, N = 1"),
        Column("Time, N = 8"),
    )
    return [
        "**Real masks beside random ones of the same sparsity** (its own / random; time: its own "
        "over random; spread: standard deviation of the kept weights of a row over their mean)\n",
        Table("", columns, tuple(rows)).markdown(),
    ]


def wer_section(parts: Sequence[Part]) -> list[str]:
    """Word error rates of every way to run a network."""
    rows = []
    for part in parts:
        for row in part["results"]:
            wer, low, high = (f"{100 * row[k]:.2f}" for k in ("wer", "wer_low", "wer_high"))
            texts = f"{row['different']} of {row['utterances']}"
            rows.append((part["model"], part["set"], row["name"], f"{wer} ({low}-{high})", texts))
    columns = (
        Column("Network", numeric=False),
        Column("Set", numeric=False),
        Column("Run as", numeric=False),
        Column("WER %"),
        Column("Texts unlike torch fp32's"),
    )
    return [
        "**Word error rate beside speed**: the same network, greedy decoding, 95 % interval\n",
        Table("", columns, tuple(rows)).markdown(),
        "".join(f"- {plain(line)}\n" for line in _absent(parts)),
    ]


def cuda_section(parts: Sequence[Part]) -> list[str]:
    """The recurrent layer on a GPU, or why it was not measured."""
    head = "**On a GPU, by torch.sparse CSR (cuSPARSE)**: "
    reasons = [part["reason"] for part in parts if "reason" in part]
    if reasons:
        return [f"{head}not run: {plain(reasons[0])}.\n"]
    names = dict.fromkeys(row["name"] for part in parts for row in part["results"])
    rows = []
    for part in parts:
        best = fastest(part["results"])
        found = {row["name"]: row for row in part["results"]}
        cells = [_with_ratio(found.get(name), best) for name in names]
        worst = f"{found['torch.sparse CSR']['error']:.1e}"
        rows.append((part["gpu"], str(part["hidden"]), str(part["columns"]), *cells, worst))
    columns = (
        Column("GPU", numeric=False),
        Column("Hidden"),
        Column("N"),
        *map(Column, names),
        Column("Error, CSR"),
    )
    return [
        f"{head}bidirectional GRU, 250 frames, 90.6 % zeros, milliseconds\n",
        Table("", columns, tuple(rows)).markdown(),
    ]


def cuda_section(parts: Sequence[Part]) -> list[str]:
    """A layer on a GPU, or why it was not run."""
    heading = "**Recurrent layer on a GPU, `torch.sparse` CSR (cuSPARSE) against cuDNN**"
    reasons = [part["reason"] for part in parts if "reason" in part]
    if reasons:
        return [f"{heading}: not run, {plain(reasons[0])}.\n"]
    names = list(dict.fromkeys(row["name"] for part in parts for row in part["results"]))
    rows = []
    for part in parts:
        best = fastest(part["results"])
        found = {row["name"]: row for row in part["results"]}
        about = (part["gpu"], str(part["hidden"]), str(part["columns"]))
        rows.append((*about, *(_with_ratio(found.get(name), best) for name in names)))
    columns = (Column("GPU", numeric=False), *map(Column, ("Hidden", "N", *names)))
    return [f"{heading}, milliseconds\n", Table("", columns, tuple(rows)).markdown()]


def measured_on(book: Book) -> str:
    """Which machine, versions, revisions and days a record comes from, and what else ran."""
    parts = list(book.parts.values())

    def each(get: Callable[[Part], str]) -> str:
        return "; ".join(dict.fromkeys(get(part) for part in parts))

    machine = each(lambda p: f"{p['machine']['cpu']}, {p['machine']['cores']} cores, {p['level']}")
    versions = each(
        lambda p: ", ".join(
            f"{name} {p['versions'][name]}"
            for name in ("torch", "onnxruntime", "openvino")
            if name in p["versions"]
        )
    )
    revisions = each(lambda p: p["git"]["revision"] + ("+changes" if p["git"]["dirty"] else ""))
    days = each(lambda p: p["date"][:10])
    commands = each(lambda p: f"`{p['command']}`")
    lines = [f"{commands}: {machine}; {versions}; revision {revisions}; {days}."]
    shares = [p["others"] for p in parts if p["others"] is not None]
    if shares:
        lines.append(f"Other programs used at most {100 * max(shares):.0f} % of a core.")
    timed = [r for p in parts for r in p["results"] if r.get("calls", 0) > 2]
    if timed:
        spreads = sorted((r["high"] - r["low"]) / r["seconds"] for r in timed)
        lines.append(
            "Medians; the quartiles are apart by "
            f"{100 * spreads[len(spreads) // 2]:.0f} % of the median in half of the rows, by at "
            f"most {100 * spreads[-1]:.0f} %."
        )
    if any(p["busy"] for p in parts):
        keys = ", ".join(key for key, p in book.parts.items() if p["busy"])
        lines.append(f"**Taken beside other programs, not to be quoted: {keys}.**")
    if any(p["quick"] and p["results"] for p in parts):
        lines.append("**Tiny sizes of --quick: no figures.**")
    return " ".join(lines) + "\n"


_CONDITION = (Column("Cell", numeric=False), Column("Hidden"), Column("N"), Column("Threads"))


def _condition(part: Part) -> tuple[str, str, str, str]:
    numbers = (str(part[key]) for key in ("hidden", "columns", "threads"))
    return (CELLS.get(part["cell"], part["cell"]), *numbers)  # type: ignore[return-value]


def _sparse(part: Part, variant: str) -> list[Row]:
    return [row for row in part["results"] if row.get("variant") == variant]


def _find(part: Part, variant: str, sparsity: float) -> Row | None:
    found = (r for r in _sparse(part, variant) if abs(r["sparsity"] - sparsity) < 0.004)
    return next(found, None)


def _ms(row: Row) -> str:
    return f"{1e3 * row['seconds']:.3g}" if row["seconds"] < 1 else f"{1e3 * row['seconds']:.0f}"


def _ratio(row: Row | None, best: Row | None) -> str:
    return "-" if row is None or best is None else f"{best['seconds'] / row['seconds']:.2g}x"


def _with_ratio(row: Row | None, best: Row | None) -> str:
    if row is None:
        return "-"
    return _ms(row) if best is None else f"{_ms(row)} ({best['seconds'] / row['seconds']:.2f}x)"


def _with_spread(row: Row | None, unit: float = 1e3, digits: int = 1) -> str:
    if row is None:
        return "-"
    low, middle, high = (f"{unit * row[key]:.{digits}f}" for key in ("low", "seconds", "high"))
    return middle if low == high else f"{middle} ({low}-{high})"


def _absent(parts: Sequence[Part]) -> list[str]:
    """Each alternative that was not measured, with the reason."""
    reasons: dict[tuple[str, str], int] = {}
    for part in parts:
        for item in part.get("absent", {}).items():
            reasons[item] = reasons.get(item, 0) + 1
    return [
        f"{name}: not measured in {times} of {len(parts)} conditions: {reason}."
        for (name, reason), times in reasons.items()
    ]


def _folded(summary: str, table: Table, lines: Sequence[str] = ()) -> str:
    notes = "".join(f"- {plain(line)}\n" for line in lines)
    inside = f"<details><summary>{plain(summary)}</summary>\n\n{table.markdown()}"
    return f"{inside}\n{notes}\n</details>\n" if notes else f"{inside}\n</details>\n"
