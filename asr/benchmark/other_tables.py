"""Tables of the records of start-up, sizes, masks, word error rates and the GPU."""

from collections.abc import Sequence

from asr.benchmark.cells import Part, absent_lines, folded, time_and_ratio, time_and_spread
from asr.benchmark.script import fastest
from asr.report.tables import Column, Table, count, plain


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
                    time_and_spread(other, 1, 2),
                    time_and_spread(row, 1, 2),
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
        folded("Every pattern and encoding", table),
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
            letters = f"{row['letters_changed']} of {row['letters']}"
            frames = f"{row['frames_changed']} of {row['frames']}"
            changed = row["margin_changed"]
            margins = "-" if changed is None else f"{changed:.2g} ({row['margin']:.2g})"
            what = (part["model"], part["set"], row["name"], f"{wer} ({low}-{high})")
            rows.append((*what, texts, letters, frames, margins))
    columns = (
        Column("Network", numeric=False),
        Column("Set", numeric=False),
        Column("Run as", numeric=False),
        Column("WER %"),
        Column("Texts unlike torch fp32's"),
        Column("Letters"),
        Column("Frames"),
        Column("Their margin (all)"),
    )
    return [
        "**Word error rate beside speed**: the same network, greedy decoding, 95 % interval. "
        "Texts, letters, and frames whose likeliest symbol is not that of torch in fp32. Margin: "
        "by how much the log-probability of the likeliest symbol exceeds the next one's, median of "
        "those frames and of all; where it is small, rounding decides. `exact` rounds nothing. "
        "perm16, the kernel where zeros make no blocks, rounds weights to 500 steps of the largest "
        "of their row and inputs to 4096 steps; int8 values are 127 steps of their row\n",
        Table("", columns, tuple(rows)).markdown(),
        "".join(f"- {plain(line)}\n" for line in absent_lines(parts)),
    ]


def gpu_section(parts: Sequence[Part]) -> list[str]:
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
        cells = [time_and_ratio(found.get(name), best) for name in names]
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
