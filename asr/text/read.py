"""Reads the sentences that language models and synthetic speech are made from."""

import json
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.errors import AsrError
from asr.files import open_compressed
from asr.text.normalise import NORMALISATION, normalise

_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ' \n"


def read_sentences(
    paths: Sequence[str | Path], normalisation: str = NORMALISATION
) -> Iterator[str]:
    """Every line of text files, or every `text` of manifests (`.jsonl`), in normal form.

    Files may be plain or compressed with gzip or xz. Raises AsrError for a file that is missing,
    damaged or not UTF-8, for a bad line of a manifest, and for an unknown normalisation.
    """
    normalise("", normalisation)
    for path in map(Path, paths):
        with open_compressed(path) as file:
            number = 0
            try:
                for number, line in enumerate(file, 1):  # noqa: B007
                    if path.suffix != ".jsonl":
                        yield _sentence(line, normalisation)
                    elif line.strip():
                        yield normalise(_manifest_text(line), normalisation)
            except UnicodeDecodeError:
                raise AsrError(f"{path}:{number}: is not UTF-8") from None
            except _BadLine as error:
                raise AsrError(f"{path}:{number}: {error}") from None
            except (EOFError, OSError, lzma.LZMAError) as error:
                raise AsrError(f"{path}: damaged after line {number}: {error}") from None


class _BadLine(Exception):
    """What is wrong with a line of a manifest."""


def _manifest_text(line: bytes) -> str:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise _BadLine(f"not JSON: {error.msg} (column {error.colno})") from None
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise _BadLine('must be a JSON object with a string "text"')
    return text


def _sentence(line: bytes, normalisation: str) -> str:
    # Most lines of a prepared text are in normal form already; to check that is ten times faster
    # than to normalise them.
    if (
        normalisation == NORMALISATION
        and not line.translate(None, _PLAIN)
        and b"''" not in line
        and b" ' " not in b" " + line.replace(b"\n", b" ")
    ):
        return line.decode()
    return normalise(line.decode(), normalisation)
