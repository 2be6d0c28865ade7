"""Word error rate by decoder: greedy, beam, beam with a language model that was tuned on dev.

    python recipes/benchmarks/decoders.py MODEL LM DATA -o RECORD.json --label NAME

DATA is a folder in LibriSpeech's layout with the subsets of `--dev` and `--test`. The network
hears every recording once. Weight and word bonus are tried on all dev sets together; each test set
is then decoded once by each decoder. Intervals, and those of the differences to greedy decoding,
are drawn over speakers where at least five are known, else over utterances.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.compare import compare
from asr.decode import DecoderOptions, make_decoder, native
from asr.decode.commands import hear_set
from asr.decode.lm import LanguageModel, open_lm
from asr.decode.tune import at_edge, tune
from asr.errors import AsrError
from asr.evaluate import NORMALISATION, score, speakers_of
from asr.inspection import describe
from asr.record import command
from asr.ref_hyp import Row
from asr.report.measurements import Shown, write_measurement
from asr.text import Units, normalise

WEIGHTS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
BONUSES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
BEAM = 32


@dataclass(frozen=True)
class Heard:
    """A set as the network hears it, and what was said."""

    log_probs: list[np.ndarray]
    rows: list[Row]
    """Without hypotheses."""
    minutes: float


def hear(model: Path, folders: list[Path]) -> tuple[Heard, Units]:
    """All recordings of some sets as one."""
    log_probs, rows, seconds, units = [], [], 0.0, None
    for folder in folders:
        found, utterances, units = hear_set(model, str(folder), 1)
        log_probs += found
        rows += [Row(u.id, u.speaker, normalise(u.text, NORMALISATION), "") for u in utterances]
        seconds += sum(u.duration for u in utterances)
    assert units is not None
    return Heard(log_probs, rows, seconds / 60), units


def decode(heard: Heard, options: DecoderOptions, units: Units, lm: LanguageModel) -> list[Row]:
    """What a decoder makes of a set."""
    decoder = make_decoder(options, units, lm)
    return [
        Row(row.id, row.speaker, row.reference, normalise(decoder.decode(found)[0].text))
        for row, found in zip(heard.rows, heard.log_probs, strict=True)
    ]


def rate(rows: list[Row]) -> dict[str, Any]:
    """Figures of one set and one decoder."""
    figures = score([r.reference for r in rows], [r.hypothesis for r in rows], speakers_of(rows))
    plain = figures.to_plain()
    return {**plain, "low": plain.pop("wer_low"), "high": plain.pop("wer_high")}


def change(greedy: list[Row], rows: list[Row]) -> dict[str, float]:
    """WER of `rows` less that of greedy decoding, with the interval of a paired bootstrap."""
    found = compare(greedy, rows)
    return {"wer": found.difference, "low": found.low, "high": found.high, "p": found.p}


def measure(arguments: argparse.Namespace) -> None:
    """Tune, test and write the record."""
    lm_file = str(arguments.lm)
    lm = open_lm(lm_file)
    dev, units = hear(arguments.model, [arguments.data / name for name in arguments.dev])
    references = [row.reference for row in dev.rows]
    trials = tune(
        dev.log_probs,
        lambda texts: score(references, [normalise(t) for t in texts], resamples=1).wer,
        units,
        DecoderOptions("beam", beam=BEAM, lm=lm_file),
        WEIGHTS,
        BONUSES,
    )
    best = trials[0]
    print(f"best on dev: {best}; at the edge of what was tried: {at_edge(trials) or 'no'}")
    tuned = {"lm": lm_file, "lm_weight": best.lm_weight, "word_bonus": best.word_bonus}
    decoders = {
        "greedy": DecoderOptions(),
        f"beam {BEAM}": DecoderOptions("beam", beam=BEAM),
        f"beam {BEAM}, {lm.order}-gram": DecoderOptions("beam", beam=BEAM, **tuned),  # type: ignore[arg-type]
    }
    rows: list[dict[str, Any]] = [{"decoder": name} for name in decoders]
    notes = [
        f"Weight {best.lm_weight:g} and word bonus {best.word_bonus:g} have the lowest WER on "
        f"{' and '.join(arguments.dev)} together ({len(dev.rows)} utterances, {100 * best.wer:.1f}"
        f" %), of weights {WEIGHTS[0]:g} to {WEIGHTS[-1]:g} and bonuses {BONUSES[0]:g} to "
        f"{BONUSES[-1]:g}."
    ]
    conditions = []
    for name in arguments.test:
        heard, _ = hear(arguments.model, [arguments.data / name])
        texts = [decode(heard, options, units, lm) for options in decoders.values()]
        for row, text in zip(rows, texts, strict=True):
            row[name] = rate(text)
            row[f"{name} against greedy"] = change(texts[0], text)
            print(f"{name}, {row['decoder']}: {100 * row[name]['wer']:.2f} %", flush=True)
        groups = len(set(speakers_of(heard.rows) or []))
        conditions.append(
            f"{name}: {len(heard.rows)} utterances, {rows[0][name]['words']:,} words, "
            f"{heard.minutes:.1f} minutes; intervals over "
            f"{f'{groups} speakers' if groups else 'utterances'}."
        )
    write_measurement(
        arguments.output,
        "decoders",
        arguments.label or arguments.model.name,
        command(),
        [
            Shown("Decoder", "decoder"),
            *(Shown(f"WER %, {name}", name, "rate") for name in arguments.test),
            *(
                Shown(f"Less greedy, points, {name}", f"{name} against greedy", "change")
                for name in arguments.test
            ),
        ],
        rows,
        [
            f"WER in percent, texts in normal form {NORMALISATION}; in brackets the 95 % interval "
            "by bootstrap, of differences paired.",
            *conditions,
            *notes,
        ],
        {
            "lm": lm_details(lm_file, lm),
            "model": model_details(arguments.model),
            "search": native(),
            "tuning": [[t.lm_weight, t.word_bonus, t.wer] for t in trials],
        },
    )


def model_details(path: Path) -> dict[str, Any]:
    """Bytes, parameters and non-zeros of a model file."""
    found = describe(path)
    return {
        "bytes": found.bytes,
        "values": found.values,
        "parameters": found.parameters.elements,
        "nonzeros": found.parameters.nonzeros,
    }


def lm_details(path: str, lm: LanguageModel) -> dict[str, Any]:
    """Size of a language model."""
    return {"order": lm.order, "ngrams": list(lm.counts), "bytes": Path(path).stat().st_size}


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("model", "lm", "data"):
        parser.add_argument(name, type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the record, .json")
    parser.add_argument("--label", default="", help="what the network is called in the table")
    parser.add_argument("--dev", nargs="+", default=["dev-libri", "dev-so762"])
    parser.add_argument(
        "--test", nargs="+", default=["test-libri", "test-other", "test-so762", "test-digits"]
    )
    measure(parser.parse_args(words))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"decoders: {error}")
