"""The card of a recogniser, in Markdown: what its files and the record of a benchmark say of it.

The words are those of a template with `$names`, whose section

    <!-- noise GLOB [GLOB ...] -->
    ...
    <!-- /noise -->

is kept where a file that was mixed into the training matches (paths as in the table of noises);
`*` holds for any.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from string import Template
from typing import Any

from asr import audio
from asr.decode.lm.model import LanguageModel
from asr.errors import AsrError
from asr.model.info import Description

MODEL_BYTES, LM_BYTES = 4_000_000, 5_000_000
"""Largest files that ship."""
NOISES = "noise.tsv"
Row = dict[str, Any]
_SECTION = re.compile(
    r"<!-- noise (?P<globs>[^\n]+?) -->\n(?P<text>.*?)<!-- /noise -->\n", re.DOTALL
)


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
        f"{m.layers} x {m.hidden} {m.cell}, {direction}, {m.outputs} "
        f"{model.metadata.tokenizer['kind']}"
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


def noises(folder: Path | None) -> list[dict[str, str]]:
    """What is known of the recordings below a folder that were mixed in; none without a folder.

    Rows of `noise.tsv` (columns file, licence, author; files beside it), which lies in the folder
    or above it. Raises AsrError if there is none, or it does not name each of the recordings.
    """
    if folder is None:
        return []
    folder = folder.resolve()
    table = next((p / NOISES for p in (folder, folder.parent) if (p / NOISES).is_file()), None)
    if not folder.is_dir() or table is None:
        raise AsrError(
            f"{folder}: not a folder of noises with {NOISES} in it or above it, which names their "
            "licences and authors for the card"
        )
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        known = {
            table.parent / row["file"]: row for row in rows if row["licence"] and row["author"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AsrError(
            f"{table}: needs columns file, licence and author, in UTF-8 with tabs ({error})"
        ) from None
    used = [Path(found.path) for found in audio.find([folder])]
    if unknown := [path for path in used if path not in known]:
        raise AsrError(f"{table}: does not name licence and author of {unknown[0]}")
    return [known[path] for path in used]


def read_template(template: Path, noises: Sequence[Mapping[str, str]]) -> str:
    """A template with the sections of those noises alone.

    Raises AsrError if it cannot be read, or no section names a noise's origin.
    """
    try:
        text = template.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise AsrError(f"{template}: cannot be read ({error})") from None
    files = [row["file"] for row in noises]
    globs = [glob for found in _SECTION.finditer(text) for glob in found["globs"].split()]
    for file in files:
        if not any(fnmatch(file, glob) for glob in globs if glob != "*"):
            raise AsrError(f"{template}: no section `<!-- noise GLOB -->` is about {file}")

    def kept(found: re.Match[str]) -> str:
        matches = any(fnmatch(file, glob) for file in files for glob in found["globs"].split())
        return found["text"] if matches else ""

    return _SECTION.sub(kept, text)


def fill(template: Path, known: Mapping[str, str], noises: Sequence[Mapping[str, str]]) -> str:
    """A card. Raises AsrError as `read_template` does, and if it asks for what is not known."""
    text = read_template(template, noises)
    authors = sorted({r["author"] for r in noises if r["licence"] == "CC-BY"}, key=str.lower)
    named = f" CC BY: those by {', '.join(authors)}." if authors else ""
    try:
        return Template(text).substitute(known, noise=named)
    except KeyError as error:
        there = ", ".join(sorted([*known, "noise"]))
        raise AsrError(f"{template}: ${error.args[0]} is not known; there is {there}") from None
    except ValueError as error:
        raise AsrError(f"{template}: {error}; a dollar sign is written $$") from None
