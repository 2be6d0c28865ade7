"""The real-time factor of decoding on one core.

    python recipes/benchmarks/decoding.py MODEL MANIFEST LM [-o RECORD.json]

MODEL runs once on the first utterances (40) of MANIFEST; then every decoder reads the same
log-probabilities. The script prints processor time over audio time for the C search, and for the
same search in Python (which an installation without a compiler uses) on fewer utterances. It exits
with status 1 if beam 32 with the language model in C takes more than 0.1.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.decode import Decoder, DecoderOptions, make_decoder
from asr.decode.beam import BeamDecoder
from asr.decode.library import native
from asr.decode.lm.model import LanguageModel
from asr.decode.lm.open import open_lm
from asr.errors import AsrError
from asr.evaluate.dataset import read_set
from asr.evaluate.tune import run_set
from asr.report.measurements import DisplayColumn, table_of, write_measurement
from asr.text.tokenizer import Tokenizer
from asr.train.record import command
from asr.transcribe.recogniser import load

BEAMS = (32, 128)
LIMIT = 0.1
IN_PYTHON = 6
"""Utterances that Python decodes: it takes a hundred times as long."""

Rows = Sequence[np.ndarray]


COLUMNS = [
    DisplayColumn("Decoder", "decoder"),
    DisplayColumn("Runs in", "where"),
    DisplayColumn("Beam", "beam", "count"),
    DisplayColumn("LM", "lm"),
    DisplayColumn("Processor time / audio", "ratio", ".4f"),
]


def measure(arguments: argparse.Namespace) -> float | None:
    """Print and record all rows; processor time over audio time of beam 32 with LM in C."""
    recogniser = load(arguments.model, threads=1, backend="torch")
    utterances = read_set(arguments.manifest)[: arguments.utterances]
    rows = run_set(recogniser, utterances)
    seconds = sum(utterance.duration for utterance in utterances)
    frame = seconds / sum(map(len, rows))
    lm_file = str(arguments.lm)
    lm = open_lm(lm_file)
    note = (
        f"{len(rows)} utterances of {Path(arguments.manifest).name}, {seconds:.0f} s, "
        f"{frame:.3f} s per frame; LM: {lm.order}-gram with {sum(lm.counts):,} n-grams. "
        f"Python decodes {IN_PYTHON} of them."
    )
    print(note)
    reached, measured = None, list[dict[str, Any]]()
    for name, where, beam, with_lm, decoder, tried in decoders(
        recogniser.tokenizer, lm_file, lm, rows
    ):
        ratio = processor_seconds(decoder, tried) / (frame * sum(map(len, tried)))
        yes = "yes" if with_lm else "no"
        measured.append({"decoder": name, "where": where, "beam": beam, "lm": yes, "ratio": ratio})
        if (name, where, beam, with_lm) == ("beam", "C", BEAMS[0], True):
            reached = ratio
    print(table_of(COLUMNS, measured).text())
    if arguments.output:
        label = arguments.label or arguments.model.name
        write_measurement(arguments.output, "decoding", label, command(), COLUMNS, measured, [note])
    return reached


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", help="a manifest, or a folder of recordings with texts")
    parser.add_argument("lm", type=Path, help="a language model")
    parser.add_argument(
        "--utterances", type=int, default=40, help="number of utterances, the first ones"
    )
    parser.add_argument("--label", default="", help="name of the network in the table")
    parser.add_argument("-o", "--output", type=Path, help="the record, .json")
    reached = measure(parser.parse_args(words))
    if reached is None:
        print("the C search is not built, so nothing can be compared with the limit")
        return 1
    print(
        f"beam 32 with the language model in C: {reached:.4f} of real time, at most {LIMIT} allowed"
    )
    return int(reached > LIMIT)


def decoders(
    tokenizer: Tokenizer, lm_file: str, lm: LanguageModel, rows: Rows
) -> Iterator[tuple[str, str, int, bool, Decoder, Rows]]:
    """Name, language it runs in, beam, language model or not, decoder, its input."""
    yield "greedy", "numpy", 1, False, make_decoder(DecoderOptions(), tokenizer), rows
    for beam in BEAMS:
        for with_lm in (False, True):
            options = {"beam": beam, "lm": lm_file if with_lm else ""}
            decoder = BeamDecoder(DecoderOptions("beam", **options), tokenizer, lm)
            if native() == "C":
                yield "beam", "C", beam, with_lm, decoder, rows
            if beam == BEAMS[0]:
                slow = BeamDecoder(DecoderOptions("beam", **options), tokenizer, lm, native=False)
                yield "beam", "Python", beam, with_lm, slow, rows[:IN_PYTHON]


def processor_seconds(decoder: Decoder, rows: Rows) -> float:
    """Processor time to decode all `rows`, after one to warm up."""
    decoder.decode(rows[0])
    started = time.process_time()
    for row in rows:
        decoder.decode(row)
    return time.process_time() - started


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"decoding: {error}")
