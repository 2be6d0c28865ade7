"""Puts a recogniser into the package: network, language model, figures and the card.

    python recipes/ship.py MODEL.asr LM.lm --record RECORD.json --network LABEL --twin LABEL \\
        --beam 32 --lm-weight 0.6 --word-bonus 1

Writes NAME.asr, NAME.lm, NAME.json and NAME.md to `asr/models`: all four, or none if one of them
cannot be. Figures of the card are those of the model's header and of the record of
`recipes/benchmarks/recogniser.py`; what has not been measured is not on the card. Its words are
those of `recipes/card.md`: whoever trains on other data writes another one (`--card`).
`--noise` takes the table of the noises that were mixed in (columns licence, author), whose authors
the card then names; without it the card says nothing of noise. Takes seconds.
"""

import argparse
import csv
import hashlib
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from string import Template
from typing import Any

from asr import models
from asr.decode import DecoderOptions
from asr.decode.lm import BOS, EOS, UNKNOWN, LanguageModel, open_lm
from asr.errors import AsrError
from asr.inspection import Description, describe
from asr.report.measurements import read_measurement

MODEL_BYTES, LM_BYTES = 4_000_000, 5_000_000
FOLDER = Path(models.__file__).parent
Row = dict[str, Any]


def measured(record: Path | None, network: str) -> dict[str, Row]:
    """Rows of a network in a record, by what its decoder is called on the card.

    Raises AsrError if the record has no row of that network.
    """
    if record is None:
        return {}
    rows = read_measurement(record).rows
    found = {
        "greedy" if row["decoder"] == "greedy" else "beam, LM": row
        for row in rows
        if row["network"] == network
    }
    if not found:
        there = ", ".join(sorted({str(row["network"]) for row in rows}))
        raise AsrError(f"{record}: no rows of {network!r}; there is {there}")
    return found


def rates(row: Row, kind: str) -> dict[str, tuple[float, float, float]]:
    """Rate, low and high of every set of a row: fractions; `kind` is wer or cer."""
    found = {}
    for key, value in row.items():
        if key.startswith(f"{kind} ") and isinstance(value, dict):
            rate = value.get("value", value.get(kind))
            if rate is not None:
                found[key.removeprefix(f"{kind} ")] = (rate, value["low"], value["high"])
    return found


def errors_table(rows: dict[str, Row]) -> str:
    """Rates of every set by every decoder, with their intervals."""
    lines = []
    for decoder, row in rows.items():
        cer = rates(row, "cer")
        for name, wer in rates(row, "wer").items():
            cells = [_interval(wer), _interval(cer[name]) if name in cer else "not measured"]
            lines.append(f"| {name} | {decoder} | {' | '.join(cells)} |")
    if not lines:
        return "Not measured for this network and language model."
    return (
        "Percent, with 95 % intervals by bootstrap over speakers (over utterances where fewer than "
        "five speakers are known). Each set holds speakers that were not trained on; weight and "
        "word bonus were chosen on other recordings. test-libri and test-other are book sentences "
        "of LibriSpeech, test-so762 sentences by Mandarin speakers of English, half of them "
        "children, test-digits strings of five digits.\n\n"
        "| Set | Decoder | WER | CER |\n|---|---|--:|--:|\n" + "\n".join(lines)
    )


def _interval(values: tuple[float, float, float]) -> str:
    rate, low, high = (f"{100 * value:.1f}" for value in values)
    return f"{rate} ({low}-{high})"


def network_text(model: Description, rows: dict[str, Row], twin: dict[str, Row]) -> str:
    """Shape, sparsity, bytes, and how quick it is beside its dense twin where that is known."""
    m, parameters = model.metadata.model, model.parameters
    direction = "both directions" if m.bidirectional else "forward only"
    lines = [
        f"{m.layers} x {m.hidden} {m.cell}, {direction}, {m.outputs} {model.metadata.units['kind']}"
        f", after {len(m.conv_channels)} convolutions. {parameters.nonzeros:,} of "
        f"{parameters.elements:,} parameters are not zero ({parameters.sparsity:.1%} zeros); the "
        f"file takes {model.bytes:,} bytes, where dense fp32 takes {model.whole.dense_bytes:,}."
    ]
    for decoder, row in rows.items():
        if row.get("rtf") is None:
            continue
        line = f"{decoder}: {row['rtf']:.4f} processor seconds for a second of audio on one thread"
        dense = twin.get(decoder, {})
        if dense.get("rtf"):
            line += f" (its dense twin {dense['rtf']:.4f})"
        if row.get("peak_bytes"):
            line += f", {row['peak_bytes'] / 1e6:.0f} MB of memory at most"
        lines.append(f"- {line}.")
    return "\n".join([lines[0], "", *lines[1:]]).strip()


def layers_table(model: Description) -> str:
    """Zeros and bytes of every weight matrix."""
    rows = [
        f"| {entry.name} | {'x'.join(map(str, entry.layout.shape))} | {entry.layout.nonzeros:,} "
        f"| {100 * (1 - entry.layout.nonzeros / entry.layout.elements):.1f} "
        f"| {entry.layout.stored_bytes:,} |"
        for entry in model.tensors
        if len(entry.layout.shape) > 1 and not entry.same_as
    ]
    return "| Weights | Shape | Not zero | Zeros, % | Bytes |\n|---|---|--:|--:|--:|\n" + "\n".join(
        rows
    )


def decoder_text(decoder: Row, lm: LanguageModel) -> str:
    """What is done unless somebody asks for another way."""
    grams = ", ".join(f"{count:,} {n}-grams" for n, count in enumerate(lm.counts, 1))
    return (
        f"Beam search ({', '.join(f'{k} {v:g}' for k, v in decoder.items() if k != 'decoder')}) "
        f"with a pruned modified Kneser-Ney model of {grams}."
    )


def confidence_text(model: Description) -> str:
    """What the confidences of words are worth."""
    fitted = model.metadata.training.get("confidence")
    if not fitted:
        return "Confidences are not calibrated: `asr calibrate` fits them to recordings of yours."
    return (
        f"Confidences were fitted on dev sets with the {fitted['decoder']} decoder; "
        "`asr calibrate` fits them to recordings of yours."
    )


def noise_authors(table: Path | None) -> str:
    """Those whose noises must be attributed, by name."""
    if table is None:
        return ""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    authors = sorted({r["author"] for r in rows if r["licence"] == "CC-BY"}, key=str.lower)
    return f" CC BY: those by {', '.join(authors)}."


def ship(arguments: argparse.Namespace) -> list[Path]:
    """Write the four files; what was written. Raises AsrError for what cannot be shipped."""
    model, lm = describe(arguments.model), open_lm(arguments.lm)
    if not model.packed:
        raise AsrError(f"{arguments.model}: is dense; `asr pack` makes it small")
    for path, limit in ((arguments.model, MODEL_BYTES), (arguments.lm, LM_BYTES)):
        if path.stat().st_size > limit:
            raise AsrError(f"{path}: {path.stat().st_size:,} bytes, more than {limit:,}")
    names = ("beam", "lm_weight", "word_bonus", "unknown_score")
    decoder = {"decoder": "beam", **{name: getattr(arguments, name) for name in names}}
    DecoderOptions(**decoder, lm=str(arguments.lm))  # refuses what does not go together
    rows = measured(arguments.record, arguments.network)
    twin = measured(arguments.record, arguments.twin) if arguments.twin else {}
    known = {
        name: f"{spelling:,}" if isinstance(spelling, int) else spelling
        for name, spelling in {
            "name": arguments.name,
            "language": arguments.language,
            "model_bytes": model.bytes,
            "lm_bytes": arguments.lm.stat().st_size,
            "order": lm.order,
            "words": len({*lm.spellings()} - {BOS, EOS, UNKNOWN}),
            "errors": errors_table(rows),
            "network": network_text(model, rows, twin),
            "layers": layers_table(model),
            "decoder": decoder_text(decoder, lm),
            "confidence": confidence_text(model),
            "noise": noise_authors(arguments.noise),
        }.items()
    }
    description = {
        "schema": models.SCHEMA,
        "name": arguments.name,
        "language": arguments.language,
        "model": _file(arguments.model, f"{arguments.name}.asr"),
        "lm": _file(arguments.lm, f"{arguments.name}.lm"),
        "decoder": decoder,
        "figures": {
            "parameters": model.parameters.elements,
            "nonzeros": model.parameters.nonzeros,
            "wer": {d: {s: r[0] for s, r in rates(row, "wer").items()} for d, row in rows.items()},
        },
    }
    template = arguments.card.read_text(encoding="utf-8")
    if arguments.noise is None:
        template = re.sub(r"<!-- noise -->.*?<!-- /noise -->\n", "", template, flags=re.DOTALL)
    card = Template(re.sub(r"<!-- /?noise -->\n", "", template)).substitute(known)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ship-", dir=arguments.output) as folder:
        made = Path(folder)
        shutil.copyfile(arguments.model, made / f"{arguments.name}.asr")
        shutil.copyfile(arguments.lm, made / f"{arguments.name}.lm")
        (made / f"{arguments.name}.md").write_text(card, encoding="utf-8")
        text = json.dumps(description, indent=2) + "\n"
        (made / f"{arguments.name}.json").write_text(text, encoding="utf-8")
        models.read(made / f"{arguments.name}.json")
        # The description last: until it is there, the others are nobody's.
        suffixes = (".asr", ".lm", ".md", ".json")
        return [
            (made / f"{arguments.name}{s}").replace(arguments.output / f"{arguments.name}{s}")
            for s in suffixes
        ]


def _file(path: Path, name: str) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "file": name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def main(arguments: list[str]) -> None:
    """Read the command line and ship."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a packed model file")
    parser.add_argument("lm", type=Path, help="a language model, compact if it is to be small")
    parser.add_argument("--record", type=Path, help="of recipes/benchmarks/recogniser.py")
    parser.add_argument("--network", default="sparse", help="its label in the record")
    parser.add_argument("--twin", help="label of its dense twin")
    parser.add_argument("--beam", type=int, default=32)
    parser.add_argument("--lm-weight", type=float, default=0.5)
    parser.add_argument("--word-bonus", type=float, default=0.0)
    parser.add_argument("--unknown-score", type=float, default=0.0)
    parser.add_argument("--name", default=models.DEFAULT)
    parser.add_argument("--language", default="English")
    parser.add_argument("--card", type=Path, default=Path(__file__).with_name("card.md"))
    parser.add_argument("--noise", type=Path, help="table of the noises that were mixed in")
    parser.add_argument("--output", type=Path, default=FOLDER)
    for path in ship(parser.parse_args(arguments)):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AsrError as error:
        sys.exit(f"ship.py: {error}")
