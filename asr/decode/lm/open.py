"""A language model file of any kind to a model in memory."""

from pathlib import Path

from asr.decode.lm.model import LanguageModel
from asr.errors import AsrError


def open_lm(path: str | Path) -> LanguageModel:
    """The model of a file: binary, compact, or ARPA, plain or packed with gzip or xz.

    Raises AsrError if the file is missing, damaged or neither.
    """
    from asr.decode.lm import arpa, binary
    from asr.decode.lm import build as automaton
    from asr.decode.lm import file as compact

    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(len(binary.MAGIC))
    except OSError as error:
        raise AsrError(f"{path}: cannot read the language model: {error.strerror}") from None
    if head == binary.MAGIC:
        return binary.read(path)
    if head == compact.MAGIC:
        return compact.read(path)
    return automaton.build(arpa.read(path))
