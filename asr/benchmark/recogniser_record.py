"""The record of whole recognisers: rows, differences, tables and notes out of what was kept.

The shape of the record is described in recipes/benchmarks/recogniser.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from asr.benchmark import load_monitor as idle
from asr.benchmark.rates import change, character_rate, rate
from asr.benchmark.store import Kept, Store
from asr.corpus.manifest import Utterance
from asr.evaluate.wer import NORMALISATION, Row, counted, speakers_of
from asr.report.measurements import Further, Shown
from asr.text.normalise import normalise

POCKETSPHINX, OWN = "PocketSphinx", "its own"
"""Its name, and that of its decoder, in rows."""


@dataclass(frozen=True)
class View:
    """A test set, or a part of it, as a column."""

    name: str
    set: str
    chosen: tuple[int, ...]
    """Which utterances of the set."""


@dataclass(frozen=True)
class Result:
    """One recogniser with one decoder, and what it made of each set."""

    network: str
    decoder: str
    facts: Mapping[str, Any]
    """Non-zeros, bytes and the like, for the row."""
    pruned: bool | None
    """None: not a network of ours."""
    parts: Mapping[str, Kept]
    """An `Outcome` of each set."""

    def total(self, key: str) -> float:
        """Seconds of all recordings of all sets."""
        return sum(sum(part.found[key]) for part in self.parts.values())

    def runs(self) -> set[tuple[str, str]]:
        """Runs of the script, and machines, in which it was timed."""
        return {(part.run, part.machine) for part in self.parts.values()}


Sets = Mapping[str, Sequence[Utterance]]


def texts(result: Result, view: View, sets: Sets) -> list[Row]:
    """What was said and heard, in normal form."""
    utterances, heard = sets[view.set], result.parts[view.set].found["texts"]
    return [
        Row(
            utterances[i].id,
            utterances[i].speaker,
            normalise(utterances[i].text, NORMALISATION),
            normalise(heard[i], NORMALISATION),
        )
        for i in view.chosen
    ]


def row(result: Result, views: Sequence[View], sets: Sets) -> dict[str, Any]:
    """A row of the record."""
    audio = sum(u.duration for name in result.parts for u in sets[name])
    found = [part.found for part in result.parts.values()]
    rows = {view.name: texts(result, view, sets) for view in views}
    return {
        "network": result.network,
        "decoder": result.decoder,
        **{f"wer {name}": rate(said) for name, said in rows.items()},
        **{f"cer {name}": character_rate(said) for name, said in rows.items()},
        **result.facts,
        "rtf": result.total("cpu_seconds") / audio,
        "wall_rtf": result.total("seconds") / audio,
        "load_seconds": median(f["load_seconds"] for f in found),
        "peak_bytes": max(f["peak_bytes"] for f in found),
        "backend": found[0]["described"],
    }


def differences(
    results: Sequence[Result], views: Sequence[View], sets: Sets
) -> list[dict[str, Any]]:
    """Pruned less dense networks with the same decoder, and every network less PocketSphinx."""
    return [
        _difference(result, other, views, sets)
        for result in results
        for other in results
        if result.pruned is not None
        and (other.pruned is None or (result.pruned and not other.pruned))
        and other.decoder in (result.decoder, OWN)
    ]


def _difference(result: Result, other: Result, views: Sequence[View], sets: Sets) -> dict[str, Any]:
    found: dict[str, Any] = {
        "network": result.network,
        "decoder": result.decoder,
        "less": other.network,
    }
    for view in views:
        theirs = texts(other, view, sets)
        difference, wer = change(theirs, texts(result, view, sets)), rate(theirs)["wer"]
        relative = difference["wer"] / wer if wer else None
        found[f"change {view.name}"] = {**difference, "relative": relative}
    runs = result.runs() | other.runs()
    return {
        **found,
        "time_ratio": result.total("cpu_seconds") / other.total("cpu_seconds"),
        "same_run": len(runs) == 1,
    }


def columns(views: Sequence[View], limit: int | None) -> list[Shown]:
    """Columns of the first table: word error rates."""
    return [*_WHO, *(Shown(_heading("WER %", v, limit), f"wer {v.name}", "rate") for v in views)]


def tables(
    views: Sequence[View], limit: int | None, changes: Sequence[dict[str, Any]]
) -> list[Further]:
    """Differences, costs and character error rates."""
    found = [
        Further(
            "Differences",
            (
                *_WHO,
                Shown("Less", "less"),
                *(
                    Shown(_heading("WER, points", v, limit), f"change {v.name}", "change")
                    for v in views
                ),
                Shown("Time, of the other's", "time_ratio", ".3f"),
            ),
            tuple(changes),
        ),
        Further(
            "Costs",
            (
                *_WHO,
                Shown("Parameters", "parameters", "count"),
                Shown("Non-zeros", "nonzeros", "count"),
                Shown("Model, MB", "model_bytes", "megabytes"),
                Shown("Language model, MB", "lm_bytes", "megabytes"),
                Shown("Together, MB", "bytes", "megabytes"),
                Shown("Real-time factor", "rtf", ".4f"),
                Shown("by the clock", "wall_rtf", ".4f"),
                Shown("Loading, s", "load_seconds", ".2f"),
                Shown("Peak memory, MB", "peak_bytes", "megabytes"),
                Shown("Backend", "backend"),
            ),
        ),
        Further(
            "Characters",
            (*_WHO, *(Shown(_heading("CER %", v, limit), f"cer {v.name}", "rate") for v in views)),
        ),
    ]
    return found if changes else found[1:]


_WHO = (Shown("Network", "network"), Shown("Decoder", "decoder"))


def _heading(figure: str, view: View, limit: int | None) -> str:
    only = f" (only {counted(len(view.chosen), 'utterance')})" if limit else ""
    return f"{figure}, {view.name}{only}"


def notes(
    results: Sequence[Result], views: Sequence[View], sets: Sets, limit: int | None, store: Store
) -> list[str]:
    """How the figures were found, loudest first; `store` is the run that writes the record."""
    loud = (
        f"NOT A RESULT: only {limit} utterances of each test set were decoded, to see that the "
        "benchmark runs."
    )
    return [
        *([loud] if limit else []),
        f"WER and CER in percent, texts in normal form {NORMALISATION}; in brackets the 95 % "
        "interval by bootstrap, of differences paired. MB are 10^6 bytes.",
        *(_condition(view, texts(results[0], view, sets), sets) for view in views),
        "Time: one thread, one recording after another, each read from its file; the start of "
        "the process, imports and opening of models stand apart as loading. The real-time factor "
        "is processor seconds of the whole process for all sets over their length; beside it, by "
        "the clock. Peak memory is that of a process that holds this recogniser alone.",
        *_when(results, store),
    ]


def _condition(view: View, rows: Sequence[Row], sets: Sets) -> str:
    groups = len(set(speakers_of(rows) or []))
    words = sum(len(row.reference.split()) for row in rows)
    minutes = sum(sets[view.set][i].duration for i in view.chosen) / 60
    return (
        f"{view.name}: {counted(len(rows), 'utterance')}, {words:,} words, {minutes:.1f} minutes; "
        f"intervals over {f'{groups} speakers' if groups else 'utterances'}."
    )


def _when(results: Iterable[Result], store: Store) -> list[str]:
    """Whether all was measured now, at once, by one version, on an idle machine."""
    parts = [(result, part) for result in results for part in result.parts.values()]
    found = []
    runs: dict[tuple[str, str, str], list[str]] = {}
    for result, part in sorted(parts, key=lambda pair: pair[1].run):
        names = runs.setdefault((part.run, part.machine, part.revision), [part.told()])
        name = f"{result.network} {result.decoder}"
        names += [] if name in names else [name]
    if len(runs) > 1:
        spans = "; ".join(f"{', '.join(names)} in {run}" for run, *names in runs.values())
        found.append(f"NOT MEASURED IN ONE RUN, so compare times with care: {spans}.")
    elif earlier := [part for _, part in parts if not store.own(part)]:
        found.append(f"Measured in {earlier[0].told()}, not in the run that wrote this record.")
    revisions = sorted({part.revision for _, part in parts})
    if len(revisions) > 1:
        found.append(f"Measured with several revisions of the code: {', '.join(revisions)}.")
    shares = [part.others for _, part in parts if part.others is not None]
    if shares and max(shares) > idle.LIMIT:
        found.append(
            f"BESIDE OTHER PROGRAMS, which used up to {100 * max(shares):.0f} % of a core (median "
            f"{100 * median(shares):.0f} %): times by the clock are too long, processor times "
            "somewhat."
        )
    return found


def part_details(result: Result) -> list[dict[str, Any]]:
    """Each process, without texts."""
    return [
        {
            "network": result.network,
            "decoder": result.decoder,
            "set": name,
            "cpu_seconds": sum(part.found["cpu_seconds"]),
            "seconds": sum(part.found["seconds"]),
            "load_seconds": part.found["load_seconds"],
            "peak_bytes": part.found["peak_bytes"],
            "run": part.run,
            "date": part.date,
            "revision": part.revision,
            "others": part.others,
        }
        for name, part in result.parts.items()
    ]
