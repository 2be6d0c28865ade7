"""Opens a language model file, in binary form or in ARPA's text format."""

from pathlib import Path

from asr.decode.lm.arpa import read_arpa
from asr.decode.lm.build import build_model
from asr.decode.lm.file import MAGIC, read_lm
from asr.decode.lm.model import LanguageModel
from asr.errors import AsrError

_OLD_MAGIC = b"ASRLM\x001\n"
"""First bytes of a binary form that earlier versions wrote."""


def is_binary(path: str | Path) -> bool:
    """Whether a file is a language model in binary form, by its first bytes.

    Raises AsrError if it cannot be read, or was written by an earlier version.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        raise AsrError(f"{path}: cannot read the language model: {error.strerror}") from None
    if head == _OLD_MAGIC:
        raise AsrError(
            f"{path}: this language model was made by an older version; "
            "convert the ARPA file again with `asr lm convert`"
        )
    return head == MAGIC


def open_lm(path: str | Path) -> LanguageModel:
    """The language model of a file: binary, or ARPA (plain, or compressed with gzip or xz).

    The format is known by the first bytes, not by the name. Raises AsrError if the file is
    missing, damaged or neither.
    """
    if is_binary(path):
        return read_lm(path)
    ngrams = read_arpa(path)
    try:
        return build_model(ngrams)
    except AsrError as error:
        raise AsrError(f"{path}: {error}") from None
