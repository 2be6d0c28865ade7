"""How often words of each confidence are right, and the confidence of words found in noise.

    python recipes/benchmarks/confidence.py MODEL DATA -o RECORD.json --label NAME \\
        [--lm LM --lm-weight 0.6 --word-bonus 1]

The map from raw confidence is fitted on the dev sets of DATA together and then applied to words
of each test set, and to words recognised in the recordings of DATA/noise, where nobody speaks.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lib.subsets import DEV, TEST

from asr import audio
from asr.decode import DecoderOptions
from asr.decode.confidence import Calibration, calibration_error, fit, separation
from asr.errors import AsrError
from asr.evaluate.calibrate import ScoredWords, score_words
from asr.evaluate.dataset import describe
from asr.report.measurements import DisplayColumn, write_measurement
from asr.train.record import command
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load

BINS = 10
SURE = 0.9


def reliability_rows(tests: dict[str, ScoredWords]) -> list[dict[str, Any]]:
    """A row for each bin of confidence: how many of its words are right, in each test set."""
    rows: list[dict[str, Any]] = [
        {"confidence": f"{i / BINS:.1f} to {(i + 1) / BINS:.1f}"} | dict.fromkeys(tests)
        for i in range(BINS)
    ]
    for name, words in tests.items():
        for found in words.rows(BINS):
            row = rows[round(found.low * BINS)]
            row[name] = f"{100 * found.right:.0f} of {found.words}"
    return rows


def describe_test(name: str, words: ScoredWords) -> str:
    """Calibration error and separation of one test set."""
    error = calibration_error(words.rows(BINS))
    auc = separation(words.confidences, words.right)
    return (
        f"{name}: {len(words.right):,} words, {100 * words.right.mean():.1f} % right; "
        f"calibration error {100 * error:.1f} %; a right word has a higher confidence than a wrong "
        f"one in {100 * auc:.1f} %"
    )


def in_noise(
    recogniser: Recogniser, folder: Path, options: TranscribeOptions, calibration: Calibration
) -> tuple[np.ndarray, float, int]:
    """Confidences of all words recognised in noise; minutes and number of recordings."""
    paths = [found.path for found in audio.find([folder]) if "rir" not in found.relative.parts]
    transcripts = list(recogniser.transcribe(paths, options))
    raw = np.array([word.confidence for t in transcripts for word in t.words])
    return calibration.apply(raw), sum(t.seconds for t in transcripts) / 60, len(paths)


def measure(arguments: argparse.Namespace) -> None:
    """Fit on the dev sets, apply to the test sets and to noise, write the record."""
    recogniser = load(arguments.model, threads=1)
    recogniser.calibration = None
    decoding = DecoderOptions()
    if arguments.lm:
        tuned = {"lm_weight": arguments.lm_weight, "word_bonus": arguments.word_bonus}
        decoding = DecoderOptions("beam", lm=str(arguments.lm), **tuned)
    sets = {
        name: score_words(recogniser, str(arguments.data / name), decoding)
        for name in [*arguments.dev, *arguments.test]
    }
    dev = [sets[name] for name in arguments.dev]
    calibration = fit(
        np.concatenate([words.confidences for words in dev]),
        np.concatenate([words.right for words in dev]),
    )
    tests = {
        name: ScoredWords(calibration.apply(sets[name].confidences), sets[name].right)
        for name in arguments.test
    }
    notes = [
        "Cells: percent of the words with this confidence that are right, and the number of words.",
        f"decoder {describe(decoding)}; map fitted on {' and '.join(arguments.dev)} "
        f"({sum(len(words.right) for words in dev):,} words): slope {calibration.slope:.3f}, "
        f"offset {calibration.offset:.3f}.",
        *(f"{describe_test(name, words)}." for name, words in tests.items()),
    ]
    details: dict[str, Any] = {"slope": calibration.slope, "offset": calibration.offset}
    noise = arguments.data / "noise"
    if noise.is_dir():
        options = TranscribeOptions(decoding=decoding)
        sure, minutes, count = in_noise(recogniser, noise, options, calibration)
        notes.append(
            f"In {count} recordings of noise ({minutes:.1f} minutes) {len(sure):,} words are "
            f"recognised: {(sure >= SURE).sum()} of them with a confidence of {SURE} or more, "
            f"{(sure >= 0.5).sum()} with 0.5 or more; the mean is {sure.mean():.3f}."
        )
        details["noise"] = {"words": len(sure), "sure": int((sure >= SURE).sum())}
    print("\n".join(notes))
    write_measurement(
        arguments.output,
        "confidence",
        arguments.label or arguments.model.name,
        command(),
        [DisplayColumn("Confidence", "confidence"), *(DisplayColumn(name, name) for name in tests)],
        reliability_rows(tests),
        notes,
        details,
    )


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the record, .json")
    parser.add_argument("--label", default="", help="name of the network in the table")
    parser.add_argument("--lm", type=Path, help="decode with beam search and this model")
    parser.add_argument("--lm-weight", type=float, default=0.5)
    parser.add_argument("--word-bonus", type=float, default=0.0)
    parser.add_argument("--dev", nargs="+", default=DEV)
    parser.add_argument("--test", nargs="+", default=TEST)
    arguments = parser.parse_args(words)
    if not arguments.lm and (arguments.lm_weight, arguments.word_bonus) != (0.5, 0.0):
        raise AsrError("--lm-weight, --word-bonus: need --lm")
    measure(arguments)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"confidence: {error}")
