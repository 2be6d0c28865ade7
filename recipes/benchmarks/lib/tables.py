"""Tables for the records of start-up, sizes, masks, word error rates and the GPU."""

from collections.abc import Sequence

from asr.report.table import Column, Table, count
from lib.cells import fastest, time_and_ratio, time_and_spread
from lib.record import Display, Part, absent_lines


def start_display(parts: Sequence[Part]) -> Display:
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
    headings = ["torch, s", "native, s", "faster", "torch, peak MiB", "native, peak MiB"]
    columns = (
        Column("Network", numeric=False),
        Column("Audio", numeric=False),
        *map(Column, headings),
        Column("Same text", numeric=False),
    )
    return Display(Table("", columns, tuple(rows)), notes=("Packed files, 2 threads.",))


_AGAINST = ("dense fp32", "dense int8", "dense int8, zipped")


def sizes_display(parts: Sequence[Part]) -> Display:
    """Bytes on disk: the recommended encodings first, then every pattern and encoding."""
    rows, short = [], []
    for part in parts:
        dense = {row["name"]: row["bytes"] for row in part["results"] if row["kind"] == "dense"}
        for row in part["results"]:
            zeros = "-" if "sparsity" not in row else f"{100 * row['sparsity']:.4g} %"
            less = [f"{dense[name] / row['bytes']:.2g}x" for name in _AGAINST]
            if row["kind"] == "dense":
                less[1:] = ["-"] * (len(_AGAINST) - 1)
            pattern = row.get("pattern", "-")
            rows.append((part["what"], row["name"], pattern, zeros, _mib(row["bytes"]), *less))
            if row["name"] in ("packed fp16", "packed int8") and pattern == "element":
                short.append(rows[-1])
    columns = (
        Column("Weights", numeric=False),
        Column("Stored as", numeric=False),
        Column("Pattern", numeric=False),
        Column("Zeros"),
        Column("MiB"),
        *(Column(f"Smaller than {name}") for name in _AGAINST),
    )
    return Display(
        Table("", columns, tuple(short)),
        (Table("Every pattern and encoding", columns, tuple(rows)),),
        ("Bytes of Gaussian weights pruned by magnitude; the whole file, header and all.",),
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.3g}"


def masks_display(parts: Sequence[Part]) -> Display:
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
                own["kernel"],
                f"{100 * own['sparsity']:.1f}",
                f"{own['row_spread']:.2f} / {random['row_spread']:.2f}",
                f"{own['bytes_per_kept']:.2f} / {random['bytes_per_kept']:.2f}",
                *times,
            )
        )
    columns = (
        Column("Layer", numeric=False),
        Column("Kernel", numeric=False),
        *map(Column, ("Zeros, %", "Spread of rows", "Bytes per kept weight")),
        Column("Time, N = 1"),
        Column("Time, N = 8"),
    )
    about = (
        "Its own mask / a random one of the same sparsity; time: with its own over with the random "
        "one; spread: standard deviation of the kept weights of a row over their mean."
    )
    return Display(Table("", columns, tuple(rows)), notes=(about,))


def wer_display(parts: Sequence[Part]) -> Display:
    """Word error rates of every way to run a network."""
    rows = []
    for part in parts:
        for row in part["results"]:
            wer, low, high = (f"{100 * row[k]:.2f}" for k in ("wer", "wer_low", "wer_high"))
            texts = f"{row['different']} of {row['utterances']}"
            words = f"{row['words_changed']} of {row['words']}"
            away, least, most = (
                f"{100 * row[k]:+.2f}" for k in ("difference", "difference_low", "difference_high")
            )
            changed = row["margin_changed"]
            margins = "-" if changed is None else f"{changed:.2g} ({row['margin']:.2g})"
            what = (part["model"], part["set"], row["name"], f"{wer} ({low}-{high})")
            rows.append((*what, f"{away} ({least} to {most})", texts, words, margins))
    columns = (
        Column("Network", numeric=False),
        Column("Set", numeric=False),
        Column("Run as", numeric=False),
        Column("WER %"),
        Column("Less torch fp32"),
        Column("Other texts"),
        Column("Other words"),
        Column("Their margin (all)"),
    )
    about = (
        "Greedy decoding, 95 % intervals; that of the difference is paired. Texts and words that "
        "are not those of torch in fp32.",
        "Margin: by how much the log-probability of the likeliest token exceeds the next one's, "
        "median of the frames with another such token and of all; where it is small, rounding "
        "decides.",
        "`exact` rounds nothing. Where zeros make no blocks, kernels of AVX-512 BW (perm16) round "
        "weights to 500 steps of the largest of their row and inputs to 4096 steps, those of AVX2 "
        "(perm8) both to 127 steps; int8 values are 127 steps of their row.",
        *absent_lines(parts),
    )
    return Display(Table("", columns, tuple(rows)), notes=about)


def gpu_display(parts: Sequence[Part]) -> Display:
    """A recurrent layer on a GPU, or why it was not measured."""
    about = ("Bidirectional GRU, 250 frames, 90.6 % zeros, milliseconds; CSR is cuSPARSE.",)
    if reasons := [part["reason"] for part in parts if "reason" in part]:
        table = Table("", (Column("GPU", numeric=False),), ((f"not run: {reasons[0]}",),))
        return Display(table, notes=about)
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
    return Display(Table("", columns, tuple(rows)), notes=about)
