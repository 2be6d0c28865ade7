"""Text to symbols and back: named normalisations, characters, SentencePiece pieces.

References, training texts and hypotheses are compared in one normal form, so its name and version
travel with every figure. Index 0 of all units is the CTC blank.
"""

import base64
import binascii
import io
import re
import string
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import sentencepiece

from asr.errors import AsrError
from asr.files import atomic_write_bytes

BLANK = 0
BLANK_SYMBOL = "<blank>"


class UnknownSymbols(AsrError):
    """A text has symbols that the units cannot write; `symbols` lists each once, sorted."""

    def __init__(self, symbols: Iterable[str], text: str) -> None:
        self.symbols = sorted(set(symbols))
        shown = " ".join(repr(s) for s in self.symbols[:10])
        more = f" and {len(self.symbols) - 10} more" if len(self.symbols) > 10 else ""
        excerpt = text if len(text) <= 60 else text[:57] + "..."
        super().__init__(
            f"the units lack {shown}{more}, found in {excerpt!r}; spell numbers and signs out as "
            "words, or leave the utterance out"
        )


class Tokenizer(ABC):
    """The symbols a network writes; index 0 is the CTC blank and is never encoded."""

    kind: str

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """One name per output of the network, the blank included."""

    @property
    def size(self) -> int:
        """Outputs of a network that writes these units, the blank included."""
        return len(self.symbols)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Indices of a normalised text, without blanks. Raises UnknownSymbols."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The words of indices that CTC has already collapsed; blanks are passed over."""

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """JSON-able values from which `Units.from_plain` makes equal units."""

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> "Tokenizer":
        """Units from `to_plain()`. Raises AsrError if a file holds something else."""
        kind = plain.get("kind")
        if kind == CharacterTokenizer.kind:
            return CharacterTokenizer()
        if kind == SentencePieceTokenizer.kind:
            try:
                model = base64.b64decode(plain["model"], validate=True)
            except (KeyError, TypeError, ValueError, binascii.Error):
                raise AsrError("units: the SentencePiece model is missing or damaged") from None
            return SentencePieceTokenizer(model)
        raise AsrError(f"units of kind {kind!r} are unknown; there are characters, sentencepiece")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.to_plain() == other.to_plain()

    def __hash__(self) -> int:
        return hash((self.kind, self.symbols))


class CharacterTokenizer(Tokenizer):
    """Blank, space, apostrophe, A to Z: 29 symbols."""

    kind = "characters"
    _symbols = (BLANK_SYMBOL, " ", "'", *string.ascii_uppercase)
    _index: ClassVar = {symbol: i for i, symbol in enumerate(_symbols) if i != BLANK}

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    def encode(self, text: str) -> list[int]:
        try:
            return [self._index[char] for char in text]
        except KeyError:
            raise UnknownSymbols((c for c in text if c not in self._index), text) from None

    def decode(self, ids: Sequence[int]) -> str:
        text = "".join(self._symbols[i] for i in ids if i != BLANK)
        return " ".join(text.split())

    def to_plain(self) -> dict[str, Any]:
        return {"kind": self.kind}


class SentencePieceTokenizer(Tokenizer):
    """Blank, then the pieces of a SentencePiece model, each one place later than in the model.

    Raises AsrError if `model` (the bytes of a model file) is not such a model.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
            pieces = self._processor.get_piece_size() if model else 0
        except RuntimeError:
            pieces = 0
        if pieces < 2:
            raise AsrError(
                "tokenizer: not a SentencePiece model, or a damaged one; "
                "`asr tokenizer train` makes one"
            )
        self._symbols = (
            BLANK_SYMBOL,
            *(self._processor.id_to_piece(i) for i in range(pieces)),
        )
        self._unknown = self._processor.unk_id()

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    def encode(self, text: str) -> list[int]:
        ids = self._processor.encode(text)
        if self._unknown in ids:
            # An unknown piece is a run of characters as they stand in the text.
            pieces = self._processor.encode(text, out_type=str)
            runs = (p for p, i in zip(pieces, ids, strict=True) if i == self._unknown)
            raise UnknownSymbols("".join(runs), text)
        return [i + 1 for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        # The unknown piece, which a network is never taught, would be written as a sign.
        pieces = [i - 1 for i in map(int, ids) if i != BLANK and i - 1 != self._unknown]
        return " ".join(self._processor.decode(pieces).split())

    def to_plain(self) -> dict[str, Any]:
        return {"kind": self.kind, "model": base64.b64encode(self._model).decode("ascii")}

    def __reduce__(self) -> tuple[type["SentencePieceTokenizer"], tuple[bytes]]:
        return SentencePieceTokenizer, (self._model,)


def train_sentencepiece(
    texts: Iterable[str], size: int, path: str | Path
) -> SentencePieceTokenizer:
    """Learn `size` byte-pair pieces from normalised texts and write the model file `path`.

    The same texts give the same bytes. The units have size + 1 symbols: the blank comes first.
    Byte pairs and not SentencePiece's unigrams, because these give out early on a small
    vocabulary. Raises AsrError if there are no texts or they cannot give so many, or so few.
    """
    # Empty texts would only be warned about; the end of each text is the end of a line here.
    lines = [line for line in (" ".join(text.split()) for text in texts) if line]
    if not lines:
        raise AsrError("units: there is no text to learn SentencePiece pieces from")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            character_coverage=1.0,
            normalization_rule_name="identity",
            # Longer texts than this are left out without an error.
            max_sentence_length=max(len(line.encode()) for line in lines) + 1,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise AsrError(_training_error(str(error), size)) from None
    atomic_write_bytes(path, model.getvalue())
    return SentencePieceTokenizer(model.getvalue())


def _training_error(message: str, size: int) -> str:
    if found := re.search(r"set it to a value <= (\d+)", message):
        return f"units: {size} pieces are too many for these texts; at most {found[1]}"
    if found := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        return f"units: {size} pieces are too few for these texts; at least {found[1]}"
    return f"units: SentencePiece failed: {message}"


def load_tokenizer_file(path: str | Path) -> SentencePieceTokenizer:
    """Units of a SentencePiece model file. Raises AsrError if it is missing or no such file."""
    path = Path(path)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise AsrError(f"{path}: cannot read the units file: {error.strerror}") from None
    try:
        return SentencePieceTokenizer(model)
    except AsrError as error:
        raise AsrError(f"{path}: {error}") from None
