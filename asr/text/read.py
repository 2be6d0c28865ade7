"""Texts to train and to try language models on: sentences, one a line, in normal form."""

import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.decode.lm.arpa import open_packed
from asr.errors import AsrError
from asr.text.normalise import normalise

_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ' \n"


def read_sentences(paths: Sequence[str | Path], normalisation: str = "en-v1") -> Iterator[str]:
    """Every line of text files, plain or packed with gzip or xz, or every text of manifests.

    Raises AsrError for a file that is missing, damaged or not UTF-8, and for an unknown
    normalisation.
    """
    normalise("", normalisation)
    for path in map(Path, paths):
        if path.suffix == ".jsonl":
            from asr.corpus.manifest import read_manifest

            for utterance in read_manifest(path):
                yield normalise(utterance.text, normalisation)
            continue
        with open_packed(path) as file:
            number = 0
            try:
                for number, line in enumerate(file, 1):  # noqa: B007
                    yield _sentence(line, normalisation)
            except UnicodeDecodeError:
                raise AsrError(f"{path}:{number}: is not UTF-8") from None
            except (EOFError, OSError, lzma.LZMAError) as error:
                raise AsrError(f"{path}: damaged after line {number}: {error}") from None


def _sentence(line: bytes, normalisation: str) -> str:
    # Most lines of a prepared text are in normal form: ten times faster to see than to make.
    if (
        normalisation == "en-v1"
        and not line.translate(None, _PLAIN)
        and b"''" not in line
        and b" ' " not in b" " + line.replace(b"\n", b" ")
    ):
        return line.decode()
    return normalise(line.decode(), normalisation)
