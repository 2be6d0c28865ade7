"""Puts a recogniser into the package: network, language model, figures and the card.

    python recipes/shipped/package.py MODEL.asr LM.lm --record RECORD.json --network LABEL \\
        --beam 32 --lm-weight 0.6 --word-bonus 1 --prior-weight 0.4

Writes NAME.asr, NAME.lm, NAME.json and NAME.md to `asr/pretrained` in a few seconds. If one of them
cannot be written, the files there stay. If it is stopped while it moves them there, no recogniser
of that name is left: run the same command again. The record must be of all test recordings, and of
this network, language model and decoder. The card is `card.md`, written by hand, with one table of
errors from the record of `recipes/benchmarks/recogniser.py`. Who trains on other data writes
another card (`--card`).
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.model.info import describe
from asr.pretrained import registry
from asr.report.measurements import Measurement, read_measurement

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from lib.card import LM_BYTES, MODEL_BYTES, Row, fill, rates

FOLDER = Path(registry.__file__).parent


def rows_of(record: Measurement, network: str) -> dict[str, Row]:
    """Rows of a network in a record, by the name of the decoder on the card.

    Raises AsrError if the record has no row of that network.
    """
    found = {
        "greedy" if row["decoder"] == "greedy" else "beam, LM": row
        for row in record.rows
        if row["network"] == network
    }
    if not found:
        known = ", ".join(sorted({str(row["network"]) for row in record.rows}))
        raise AsrError(f"{record.name}: no rows of network {network!r}; it has {known}")
    return found


def read_record(path: Path) -> Measurement:
    """Read a record of the benchmark. Raises AsrError for anything else."""
    try:
        record = read_measurement(path)
    except OSError as error:
        raise AsrError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, AttributeError) as error:
        raise AsrError(f"{path}: not a record ({error})") from None
    if record.recipe != "recogniser" or not {"limit", "networks"} <= set(record.details):
        raise AsrError(f"{path}: not a record of recipes/benchmarks/recogniser.py")
    return record


def check(record: Measurement, network: str, own: Row, lm: str, decoder: Row) -> None:
    """Raises AsrError unless a record is of all test recordings and of what is packaged.

    `own` are non-zeros and parameters of the model file, `lm` is the SHA-256 of the language model.
    The model file may differ from the measured one: confidences are fitted after the measurement.
    """
    details, problems = record.details, []
    if details["limit"]:
        problems.append(f"only {details['limit']} utterances of each test set were run")
    measured_with = details["networks"].get(network, {})
    expected = {**own}
    if "lm" in details:
        expected |= {name: value for name, value in decoder.items() if name != "decoder"}
        if details["lm"]["sha256"] != lm:
            problems.append("it was measured with another language model")
    problems += [
        f"{name} is {measured_with.get(name)}, but {value} is packaged"
        for name, value in expected.items()
        if measured_with.get(name) != value
    ]
    if problems:
        raise AsrError(f"{record.name}: does not belong on this card: {'; '.join(problems)}")


def package(arguments: argparse.Namespace) -> list[Path]:
    """Write the four files and return their paths. Raises AsrError for unfit ones."""
    model = describe(arguments.model)
    if not model.packed:
        raise AsrError(f"{arguments.model}: a dense model file; pack it first with `asr pack`")
    for path, limit in ((arguments.model, MODEL_BYTES), (arguments.lm, LM_BYTES)):
        if not path.is_file():
            raise AsrError(f"{path}: no such file")
        if path.stat().st_size > limit:
            raise AsrError(f"{path}: {path.stat().st_size:,} bytes, more than {limit:,}")
    names = ("beam", "lm_weight", "word_bonus", "prior_weight", "unknown_score")
    decoder = {"decoder": "beam", **{name: getattr(arguments, name) for name in names}}
    DecoderOptions(**decoder, lm=str(arguments.lm))  # raises for options that contradict each other
    own = {"parameters": model.parameters.elements, "nonzeros": model.parameters.nonzeros}
    files = {
        "model": _file(arguments.model, f"{arguments.name}.asr"),
        "lm": _file(arguments.lm, f"{arguments.name}.lm"),
    }
    rows: dict[str, Row] = {}
    if arguments.record:
        record = read_record(arguments.record)
        rows = rows_of(record, arguments.network)
        check(record, arguments.network, own, files["lm"]["sha256"], decoder)
    description = {
        "schema": registry.SCHEMA,
        "name": arguments.name,
        "language": arguments.language,
        **files,
        "decoder": decoder,
        "figures": {
            **own,
            "wer": {d: {s: r[0] for s, r in rates(row, "wer").items()} for d, row in rows.items()},
        },
    }
    card = fill(arguments.card, rows)
    try:
        return _write(arguments, json.dumps(description, indent=2) + "\n", card)
    except OSError as error:
        raise AsrError(f"{arguments.output}: cannot be written there ({error})") from None


def _write(arguments: argparse.Namespace, description: str, card: str) -> list[Path]:
    """Write the four files beside their place and move them there once all are complete."""
    name, output = arguments.name, arguments.output
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".package-", dir=output) as folder:
        made = Path(folder)
        shutil.copyfile(arguments.model, made / f"{name}.asr")
        shutil.copyfile(arguments.lm, made / f"{name}.lm")
        (made / f"{name}.md").write_text(card, encoding="utf-8")
        (made / f"{name}.json").write_text(description, encoding="utf-8")
        registry.read(made / f"{name}.json")
        # The description is removed first and written last: in between there is no recogniser of
        # that name, and never one of old and new files.
        (output / f"{name}.json").unlink(missing_ok=True)
        suffixes = (".asr", ".lm", ".md", ".json")
        return [(made / f"{name}{s}").replace(output / f"{name}{s}") for s in suffixes]


def _file(path: Path, name: str) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "file": name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def main(arguments: list[str]) -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a packed model file")
    parser.add_argument("lm", type=Path, help="a language model file, as `asr lm train` writes it")
    parser.add_argument("--record", type=Path, help="record of recipes/benchmarks/recogniser.py")
    parser.add_argument("--network", default="sparse", help="label of the network in the record")
    parser.add_argument("--beam", type=int, default=32)
    parser.add_argument("--lm-weight", type=float, default=0.5)
    parser.add_argument("--word-bonus", type=float, default=0.0)
    parser.add_argument("--prior-weight", type=float, default=0.0)
    parser.add_argument("--unknown-score", type=float, default=0.0)
    parser.add_argument("--name", default=registry.DEFAULT)
    parser.add_argument("--language", default="English")
    parser.add_argument("--card", type=Path, default=Path(__file__).with_name("card.md"))
    parser.add_argument("--output", type=Path, default=FOLDER)
    for path in package(parser.parse_args(arguments)):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AsrError as error:
        sys.exit(f"package: {error}")
