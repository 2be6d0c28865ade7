"""Reads the sentences that language models and synthetic speech are made from."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.files import DAMAGE, foreign_text, open_compressed
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
    for path in (Path(path).expanduser() for path in paths):
        with open_compressed(path) as file:
            number = 0
            try:
                for number, line in enumerate(file, 1):  # noqa: B007
                    if path.suffix != ".jsonl":
                        yield _sentence(line, normalisation)
                    elif line.strip():
                        yield normalise(text_of(parse_row(line)), normalisation)
            except BadLine as error:
                raise AsrError(f"{path}:{number}: {error}") from None
            except DAMAGE as error:
                raise AsrError(f"{path}: damaged after line {number}: {error}") from None


class BadLine(Exception):
    """What is wrong with a line."""


def decode_line(line: bytes) -> str:
    """A line of a text in UTF-8, without a byte order mark. Raises BadLine for another encoding."""
    if problem := foreign_text(line):
        raise BadLine(problem)
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} of the line"
        raise BadLine(f"not UTF-8 ({where}); convert the file to UTF-8") from None


def parse_row(line: bytes) -> dict[str, Any]:
    """The JSON object that a line of a manifest is. Raises BadLine with what is wrong in it."""
    text = decode_line(line)
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadLine(f"not JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits; brackets in brackets
        raise BadLine(f"not JSON that can be read: {error}") from None
    if not isinstance(row, dict):
        raise BadLine("not a JSON object ({...})")
    return row


def text_of(row: dict[str, Any]) -> str:
    """The text of a line of a manifest. Raises BadLine if there is none."""
    text = row.get("text")
    if not isinstance(text, str):
        raise BadLine('"text" must be what is said, as a string')
    return whole("text", text)


def whole(key: str, value: str, errors: str = "strict") -> str:
    """The value of a key. Raises BadLine if it has half a character, which no file can hold.

    With `surrogateescape` as `errors` it may have bytes that are not UTF-8, as names of files do.
    """
    try:
        value.encode(errors=errors)
    except UnicodeEncodeError as error:
        half = ascii(value[error.start])
        raise BadLine(f'"{key}" has half a character ({half}), as a cut pair of UTF-16') from None
    return value


def _sentence(line: bytes, normalisation: str) -> str:
    # Most lines of a prepared text are in normal form already; to check that is ten times faster
    # than to normalise them.
    if (
        normalisation == NORMALISATION
        and not line.translate(None, _PLAIN)
        and b"''" not in line
        and b" ' " not in b" " + line.rstrip(b"\n") + b" "
    ):
        return " ".join(line.decode().split())
    return normalise(decode_line(line), normalisation)
