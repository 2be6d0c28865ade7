"""Text to symbols and back: named normalisations, characters, SentencePiece pieces.

References, training texts and hypotheses are compared in one normal form, so its name and version
travel with every figure. Index 0 of all units is the CTC blank.
"""

import base64
import binascii
import io
import re
import string
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import sentencepiece

from asr.errors import AsrError
from asr.files import atomic_write_bytes

BLANK = 0
BLANK_SYMBOL = "<blank>"

_APOSTROPHES = "'\u2018\u2019\u201b\u02bc\u02b9\uff07`\u00b4"
# Letters that Unicode does not decompose into a base letter and an accent.
_LETTERS = dict(zip("ÆŒØŁĐÐÞĦŦ", ["AE", "OE", "O", "L", "D", "D", "TH", "H", "T"], strict=True))
# Punctuation that ends a word even where nobody typed a space: "and/or", "yes,sir".
_BREAKS = "/\\|,;:!?\u00a1\u00bf\u2026\u00b7\u2022"
# Punctuation that people say aloud; it stays, as digits do, for units to refuse.
_SPOKEN = "&%@#"


class _EnglishTable(dict[int, str]):
    """What each character becomes, worked out when it is first met; for `str.translate`."""

    def __missing__(self, code: int) -> str:
        self[code] = result = self._rule(chr(code))
        return result

    def _rule(self, char: str) -> str:
        if char in _APOSTROPHES:
            return "'"
        if char in _LETTERS:
            return _LETTERS[char]
        if char in _SPOKEN:
            return char
        if char in _BREAKS or char.isspace():
            return " "
        category = unicodedata.category(char)
        if category in ("Pd", "Pc"):  # hyphens, dashes, underscores
            return " "
        # Accents, brackets, quotation marks, full stops, ornaments, invisible characters.
        if category[0] in "MPC" or category in ("So", "Sk", "Lm"):
            return ""
        decomposed = unicodedata.normalize("NFKD", char)
        if decomposed == char:
            return char
        return "".join(self[ord(part)] for part in decomposed.upper())


_ENGLISH = _EnglishTable()


def _english_v1(text: str) -> str:
    text = re.sub(r"\.{2,}", " ", text)
    text = text.upper().translate(_ENGLISH)
    # Two or more in a row are quotation marks; one that touches no letter is nothing at all.
    text = re.sub(r"'{2,}|(?<!\S)'(?!\S)", "", text)
    return " ".join(text.split())


NORMALISATION = "en-v1"
"""The one that error rates are computed with."""
NORMALISATIONS: dict[str, Callable[[str], str]] = {NORMALISATION: _english_v1}


def normalise(text: str, name: str = NORMALISATION) -> str:
    """The normal form `name` of a text; applying it twice changes nothing.

    `en-v1`: upper case; accents stripped; typographic apostrophes become `'`; hyphens, dashes and
    marks between words become spaces; other punctuation goes; white space is folded. Whatever is
    spoken but not spelt, digits first of all, and letters of other scripts stay as they are: no
    unit of ours encodes them, so they are reported (`UnknownSymbols`) instead of silently dropped.

    Raises AsrError for an unknown name.
    """
    if name not in NORMALISATIONS:
        known = ", ".join(NORMALISATIONS)
        raise AsrError(f"text normalisation {name!r} is unknown; there is {known}")
    return NORMALISATIONS[name](text)


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


class Units(ABC):
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
    def from_plain(plain: dict[str, Any]) -> "Units":
        """Units from `to_plain()`. Raises AsrError if a file holds something else."""
        kind = plain.get("kind")
        if kind == CharacterUnits.kind:
            return CharacterUnits()
        if kind == SentencePieceUnits.kind:
            try:
                model = base64.b64decode(plain["model"], validate=True)
            except (KeyError, TypeError, ValueError, binascii.Error):
                raise AsrError("units: the SentencePiece model is missing or damaged") from None
            return SentencePieceUnits(model)
        raise AsrError(f"units of kind {kind!r} are unknown; there are characters, sentencepiece")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Units) and self.to_plain() == other.to_plain()

    def __hash__(self) -> int:
        return hash((self.kind, self.symbols))


class CharacterUnits(Units):
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


class SentencePieceUnits(Units):
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
                "units: not a SentencePiece model, or a damaged one; `asr units train` makes one"
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

    def __reduce__(self) -> tuple[type["SentencePieceUnits"], tuple[bytes]]:
        return SentencePieceUnits, (self._model,)


def train_sentencepiece(texts: Iterable[str], size: int, path: str | Path) -> SentencePieceUnits:
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
    return SentencePieceUnits(model.getvalue())


def _training_error(message: str, size: int) -> str:
    if found := re.search(r"set it to a value <= (\d+)", message):
        return f"units: {size} pieces are too many for these texts; at most {found[1]}"
    if found := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        return f"units: {size} pieces are too few for these texts; at least {found[1]}"
    return f"units: SentencePiece failed: {message}"


def load_units_file(path: str | Path) -> SentencePieceUnits:
    """Units of a SentencePiece model file. Raises AsrError if it is missing or no such file."""
    path = Path(path)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise AsrError(f"{path}: cannot read the units file: {error.strerror}") from None
    try:
        return SentencePieceUnits(model)
    except AsrError as error:
        raise AsrError(f"{path}: {error}") from None
