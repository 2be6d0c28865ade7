"""Word error rate by decoder: greedy, beam search, beam search with a tuned language model.

    python recipes/benchmarks/decoders.py MODEL LM DATA -o RECORD.json --label NAME

DATA is a folder in LibriSpeech's layout with the subsets of `--dev` and `--test`. The network
runs once on every recording. Weight and word bonus are tuned on all dev sets together; then each
decoder decodes each test set once. Intervals of error rates, and of their differences to greedy
decoding, are bootstrapped over speakers where at least five are known, else over utterances.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from lib.rates import (
    BEAM,
    DevSet,
    change,
    lm_details,
    log_probs_of,
    model_details,
    rate,
    tune_on,
    tuning_note,
)
from lib.subsets import DEV, TEST

from asr.decode import DecoderOptions, make_decoder
from asr.decode.library import native
from asr.decode.lm.model import LanguageModel
from asr.decode.lm.open import open_lm
from asr.errors import AsrError
from asr.evaluate.wer import Row, speakers_of
from asr.report.measurements import DisplayColumn, write_measurement
from asr.text.normalise import NORMALISATION, normalise
from asr.text.tokenizer import Tokenizer
from asr.train.record import command


def decode(
    data: DevSet, options: DecoderOptions, tokenizer: Tokenizer, lm: LanguageModel
) -> list[Row]:
    """The texts of one decoder."""
    decoder = make_decoder(options, tokenizer, lm)
    return [
        Row(row.id, row.speaker, row.reference, normalise(decoder.decode(found)[0].text))
        for row, found in zip(data.rows, data.log_probs, strict=True)
    ]


def measure(arguments: argparse.Namespace) -> None:
    """Tune, test and write the record."""
    lm_file = str(arguments.lm)
    lm = open_lm(lm_file)
    dev, tokenizer = log_probs_of(
        arguments.model, [arguments.data / name for name in arguments.dev]
    )
    trials = tune_on(dev, tokenizer, DecoderOptions("beam", beam=BEAM, lm=lm_file))
    best = trials[0]
    notes = [tuning_note(trials, arguments.dev, len(dev.rows))]
    print(notes[0])
    tuned = {"lm": lm_file, "lm_weight": best.lm_weight, "word_bonus": best.word_bonus}
    decoders = {
        "greedy": DecoderOptions(),
        f"beam {BEAM}": DecoderOptions("beam", beam=BEAM),
        f"beam {BEAM}, {lm.order}-gram": DecoderOptions("beam", beam=BEAM, **tuned),  # type: ignore[arg-type]
    }
    rows: list[dict[str, Any]] = [{"decoder": name} for name in decoders]
    conditions = []
    for name in arguments.test:
        data, _ = log_probs_of(arguments.model, [arguments.data / name])
        texts = [decode(data, options, tokenizer, lm) for options in decoders.values()]
        for row, text in zip(rows, texts, strict=True):
            row[name] = rate(text)
            row[f"{name} against greedy"] = change(texts[0], text)
            ratio = row[name]["wer"] / rows[0][name]["wer"] if rows[0][name]["wer"] else 1.0
            wer = f"{100 * row[name]['wer']:.2f} %, {ratio:.2f} of greedy"
            print(f"{name}, {row['decoder']}: {wer}", flush=True)
        groups = len(set(speakers_of(data.rows) or []))
        conditions.append(
            f"{name}: {len(data.rows)} utterances, {rows[0][name]['words']:,} words, "
            f"{data.minutes:.1f} minutes; intervals over "
            f"{f'{groups} speakers' if groups else 'utterances'}."
        )
    write_measurement(
        arguments.output,
        "decoders",
        arguments.label or arguments.model.name,
        command(),
        [
            DisplayColumn("Decoder", "decoder"),
            *(DisplayColumn(f"WER %, {name}", name, "rate") for name in arguments.test),
            *(
                DisplayColumn(
                    f"Difference to greedy, points, {name}", f"{name} against greedy", "change"
                )
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


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("model", "lm", "data"):
        parser.add_argument(name, type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the record, .json")
    parser.add_argument("--label", default="", help="name of the network in the table")
    parser.add_argument("--dev", nargs="+", default=DEV)
    parser.add_argument("--test", nargs="+", default=TEST)
    measure(parser.parse_args(words))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"decoders: {error}")
