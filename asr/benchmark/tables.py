"""Markdown of the committed benchmark records and nothing else, for recipes/RESULTS.md."""

from collections.abc import Callable
from pathlib import Path

from asr.benchmark.book import Book, read_book
from asr.benchmark.cells import Part
from asr.benchmark.other_tables import (
    gpu_section,
    masks_section,
    sizes_section,
    start_section,
    wer_section,
)
from asr.benchmark.speed_tables import network_section, recurrent_section
from asr.errors import AsrError
from asr.files import atomic_write_text

START, END = (
    "<!-- benchmarks of the sparse engine -->",
    "<!-- end: benchmarks of the sparse engine -->",
)


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
        "gpu": gpu_section,
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
