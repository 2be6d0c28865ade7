"""The record of whole recognisers: rows, differences, tables and notes from cached results.

The shape of the record is described in recipes/benchmarks/recogniser.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from asr.benchmark.timing import LOAD_LIMIT
from asr.corpus.manifest import Utterance
from asr.errors import counted
from asr.evaluate.wer import Row, speakers_of
from asr.report.measurements import DisplayColumn, ExtraTable
from asr.text.normalise import NORMALISATION, normalise
from lib.cache import Cache, CachedResult
from lib.rates import change, character_rate, rate

POCKETSPHINX, OWN = "PocketSphinx", "its own"
"""Names of PocketSphinx and of its decoder in rows."""


@dataclass(frozen=True)
class Subset:
    """A test set, or a part of it, as a column."""

    name: str
    set: str
    chosen: tuple[int, ...]
    """Indices of its utterances in the set."""


@dataclass(frozen=True)
class Result:
    """One recogniser with one decoder, and its texts of each set."""

    network: str
    decoder: str
    facts: Mapping[str, Any]
    """Non-zeros, bytes and the like, for the row."""
    pruned: bool | None
    """None: not one of our networks."""
    parts: Mapping[str, CachedResult]
    """An `Outcome` of each set."""

    def total(self, key: str) -> float:
        """Seconds of all recordings of all sets."""
        return sum(sum(part.result[key]) for part in self.parts.values())

    def runs(self) -> set[tuple[str, str]]:
        """Runs of the script and machines with which it was timed."""
        return {(part.run, part.machine) for part in self.parts.values()}


Sets = Mapping[str, Sequence[Utterance]]


def texts(result: Result, subset: Subset, sets: Sets) -> list[Row]:
    """References and hypotheses, in normal form."""
    utterances, hypotheses = sets[subset.set], result.parts[subset.set].result["texts"]
    return [
        Row(
            utterances[i].id,
            utterances[i].speaker,
            normalise(utterances[i].text, NORMALISATION),
            normalise(hypotheses[i], NORMALISATION),
        )
        for i in subset.chosen
    ]


def row(result: Result, subsets: Sequence[Subset], sets: Sets) -> dict[str, Any]:
    """A row of the record."""
    audio = sum(u.duration for name in result.parts for u in sets[name])
    found = [part.result for part in result.parts.values()]
    rows = {subset.name: texts(result, subset, sets) for subset in subsets}
    return {
        "network": result.network,
        "decoder": result.decoder,
        **{f"wer {name}": rate(part) for name, part in rows.items()},
        **{f"cer {name}": character_rate(part) for name, part in rows.items()},
        **result.facts,
        "rtf": result.total("cpu_seconds") / audio,
        "wall_rtf": result.total("seconds") / audio,
        "load_seconds": median(f["load_seconds"] for f in found),
        "peak_bytes": max(f["peak_bytes"] for f in found),
        "backend": found[0]["described"],
    }


def differences(
    results: Sequence[Result], subsets: Sequence[Subset], sets: Sets
) -> list[dict[str, Any]]:
    """Pruned networks minus dense ones with the same decoder; every network minus PocketSphinx."""
    return [
        _difference(result, other, subsets, sets)
        for result in results
        for other in results
        if result.pruned is not None
        and (other.pruned is None or (result.pruned and not other.pruned))
        and other.decoder in (result.decoder, OWN)
    ]


def _difference(
    result: Result, other: Result, subsets: Sequence[Subset], sets: Sets
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "network": result.network,
        "decoder": result.decoder,
        "baseline": other.network,
    }
    for subset in subsets:
        theirs = texts(other, subset, sets)
        difference, wer = change(theirs, texts(result, subset, sets)), rate(theirs)["wer"]
        relative = difference["wer"] / wer if wer else None
        found[f"change {subset.name}"] = {**difference, "relative": relative}
    runs = result.runs() | other.runs()
    return {
        **found,
        "time_ratio": result.total("cpu_seconds") / other.total("cpu_seconds"),
        "same_run": len(runs) == 1,
    }


def columns(subsets: Sequence[Subset], limit: int | None) -> list[DisplayColumn]:
    """Columns of the first table: word error rates."""
    return [
        *_NAMES,
        *_rate_columns("WER %", "wer", subsets, limit),
    ]


def tables(
    subsets: Sequence[Subset], limit: int | None, changes: Sequence[dict[str, Any]]
) -> list[ExtraTable]:
    """Differences, costs and character error rates."""
    found = [
        ExtraTable(
            "Differences",
            (
                *_NAMES,
                DisplayColumn("Baseline", "baseline"),
                *(
                    DisplayColumn(_heading("WER, points", v, limit), f"change {v.name}", "change")
                    for v in subsets
                ),
                DisplayColumn("Time, of the baseline's", "time_ratio", ".3f"),
            ),
            tuple(changes),
        ),
        ExtraTable(
            "Costs",
            (
                *_NAMES,
                DisplayColumn("Parameters", "parameters", "count"),
                DisplayColumn("Non-zeros", "nonzeros", "count"),
                DisplayColumn("Model, MB", "model_bytes", "megabytes"),
                DisplayColumn("Language model, MB", "lm_bytes", "megabytes"),
                DisplayColumn("Together, MB", "bytes", "megabytes"),
                DisplayColumn("Real-time factor", "rtf", ".4f"),
                DisplayColumn("by the clock", "wall_rtf", ".4f"),
                DisplayColumn("Loading, s", "load_seconds", ".2f"),
                DisplayColumn("Peak memory, MB", "peak_bytes", "megabytes"),
                DisplayColumn("Backend", "backend"),
            ),
        ),
        ExtraTable(
            "Characters",
            (
                *_NAMES,
                *_rate_columns("CER %", "cer", subsets, limit),
            ),
        ),
    ]
    return found if changes else found[1:]


def _rate_columns(
    heading: str, key: str, subsets: Sequence[Subset], limit: int | None
) -> list[DisplayColumn]:
    return [
        DisplayColumn(_heading(heading, subset, limit), f"{key} {subset.name}", "rate")
        for subset in subsets
    ]


_NAMES = (DisplayColumn("Network", "network"), DisplayColumn("Decoder", "decoder"))


def _heading(figure: str, subset: Subset, limit: int | None) -> str:
    only = f" (only {counted(len(subset.chosen), 'utterance')})" if limit else ""
    return f"{figure}, {subset.name}{only}"


def notes(
    results: Sequence[Result],
    subsets: Sequence[Subset],
    sets: Sets,
    limit: int | None,
    cache: Cache,
) -> list[str]:
    """How the figures were measured, the most important first.

    `cache` is that of the run which writes the record.
    """
    warning = (
        f"NOT A RESULT: only {limit} utterances of each test set were decoded, to see that the "
        "benchmark runs."
    )
    return [
        *([warning] if limit else []),
        f"WER and CER in percent, texts in normal form {NORMALISATION}; in brackets the 95 % "
        "interval by bootstrap, of differences paired. MB are 10^6 bytes.",
        *(_condition(subset, texts(results[0], subset, sets), sets) for subset in subsets),
        "Time: one thread, one recording after another, each read from its file; the start of "
        "the process, imports and opening of models are listed separately as loading. The "
        "real-time factor is processor seconds of the whole process for all sets over their "
        "length; beside it, by the clock. Peak memory is that of a process that holds this "
        "recogniser alone.",
        *_when(results, cache),
    ]


def _condition(subset: Subset, rows: Sequence[Row], sets: Sets) -> str:
    groups = len(set(speakers_of(rows) or []))
    words = sum(len(row.reference.split()) for row in rows)
    minutes = sum(sets[subset.set][i].duration for i in subset.chosen) / 60
    over = f"{groups} speakers" if groups else "utterances"
    return (
        f"{subset.name}: {counted(len(rows), 'utterance')}, {words:,} words, {minutes:.1f} "
        f"minutes; intervals over {over}."
    )


def _when(results: Iterable[Result], cache: Cache) -> list[str]:
    """Notes on results of several runs or revisions, and on other programs that ran."""
    parts = [(result, part) for result in results for part in result.parts.values()]
    found = []
    runs: dict[tuple[str, str, str], list[str]] = {}
    for result, part in sorted(parts, key=lambda pair: pair[1].run):
        names = runs.setdefault((part.run, part.machine, part.revision), [part.provenance()])
        name = f"{result.network} {result.decoder}"
        names += [] if name in names else [name]
    if len(runs) > 1:
        spans = "; ".join(f"{', '.join(names)} in {run}" for run, *names in runs.values())
        found.append(f"NOT MEASURED IN ONE RUN, so compare times with care: {spans}.")
    elif earlier := [part for _, part in parts if not cache.from_this_run(part)]:
        found.append(
            f"Measured in {earlier[0].provenance()}, not in the run that wrote this record."
        )
    revisions = sorted({part.revision for _, part in parts})
    if len(revisions) > 1:
        found.append(f"Measured with several revisions of the code: {', '.join(revisions)}.")
    loads = [part.other_load for _, part in parts if part.other_load is not None]
    if loads and max(loads) > LOAD_LIMIT:
        found.append(
            f"BESIDE OTHER PROGRAMS, which used up to {100 * max(loads):.0f} % of a core (median "
            f"{100 * median(loads):.0f} %): times by the clock are too long, processor times a "
            "little."
        )
    return found


def part_details(result: Result) -> list[dict[str, Any]]:
    """Details of each process, without the texts."""
    return [
        {
            "network": result.network,
            "decoder": result.decoder,
            "set": name,
            "cpu_seconds": sum(part.result["cpu_seconds"]),
            "seconds": sum(part.result["seconds"]),
            "load_seconds": part.result["load_seconds"],
            "peak_bytes": part.result["peak_bytes"],
            "run": part.run,
            "date": part.date,
            "revision": part.revision,
            "other_load": part.other_load,
        }
        for name, part in result.parts.items()
    ]
