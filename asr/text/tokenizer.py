"""Turns normalised text into tokens and back: characters, or SentencePiece subwords.

Index 0 of every tokenizer is the CTC blank.
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
from asr.files import atomic_write_bytes, check_writable

BLANK = 0
BLANK_TOKEN = "<blank>"
WORD_MARK = "\u2581"
"""In SentencePiece tokens, the space before a word."""
BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
"""Tokens of SentencePiece that write one byte of a character in UTF-8."""
_MOST_TOKENS = 10**6


class UnknownCharacters(AsrError):
    """A text has characters that a tokenizer lacks: `characters`, each once, sorted."""

    def __init__(self, characters: Iterable[str], text: str) -> None:
        self.characters = sorted(set(characters))
        listed = " ".join(repr(char) for char in self.characters[:10])
        more = f" and {len(self.characters) - 10} more" if len(self.characters) > 10 else ""
        excerpt = text if len(text) <= 60 else text[:57] + "..."
        super().__init__(
            f"the tokenizer lacks {listed}{more}, found in {excerpt!r}; write numbers and signs as "
            "words, or leave the utterance out"
        )


class Tokenizer(ABC):
    """The tokens that a network predicts; index 0 is the CTC blank, which is never encoded.

    >>> CharacterTokenizer().encode("A BEE")
    [3, 1, 4, 7, 7]
    >>> CharacterTokenizer().decode([3, 1, 4, 7, 7])
    'A BEE'
    """

    kind: str
    """Name of the class in settings and model files."""

    @property
    @abstractmethod
    def tokens(self) -> tuple[str, ...]:
        """The text of every token in the order of their indices, the blank included."""

    @property
    def size(self) -> int:
        """Number of tokens, the blank included: the outputs of a network."""
        return len(self.tokens)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token indices of a normalised text, without blanks. Raises UnknownCharacters."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of token indices whose repeats are collapsed already; blanks are skipped."""

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """Values for JSON from which `from_plain` makes an equal tokenizer."""

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> "Tokenizer":
        """The tokenizer that `to_plain` described. Raises AsrError for anything else."""
        kind = plain.get("kind")
        if kind == CharacterTokenizer.kind:
            return CharacterTokenizer()
        if kind == SentencePieceTokenizer.kind:
            try:
                model = base64.b64decode(plain["model"], validate=True)
            except (KeyError, TypeError, ValueError, binascii.Error):
                raise AsrError("tokenizer: the SentencePiece model is missing or damaged") from None
            return SentencePieceTokenizer(model)
        raise AsrError(f"tokenizer={kind!r} is unknown; there are characters, sentencepiece")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.to_plain() == other.to_plain()

    def __hash__(self) -> int:
        return hash((self.kind, self.tokens))


class CharacterTokenizer(Tokenizer):
    """Blank, space, apostrophe, A to Z: 29 tokens."""

    kind = "characters"
    _tokens = (BLANK_TOKEN, " ", "'", *string.ascii_uppercase)
    _index: ClassVar = {token: i for i, token in enumerate(_tokens) if i != BLANK}

    @property
    def tokens(self) -> tuple[str, ...]:
        return self._tokens

    def encode(self, text: str) -> list[int]:
        try:
            return [self._index[char] for char in text]
        except KeyError:
            raise UnknownCharacters((c for c in text if c not in self._index), text) from None

    def decode(self, ids: Sequence[int]) -> str:
        text = "".join(self._tokens[i] for i in ids if i != BLANK)
        return " ".join(text.split())

    def to_plain(self) -> dict[str, Any]:
        return {"kind": self.kind}


class SentencePieceTokenizer(Tokenizer):
    """Blank, then the tokens of a SentencePiece model, each at its index in the model plus 1.

    Raises AsrError if `model` (the bytes of a model file) is not a SentencePiece model.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
            count = self._processor.get_piece_size() if model else 0
        except RuntimeError:
            count = 0
        if count < 2:
            raise AsrError(
                "tokenizer: not a SentencePiece model, or a damaged one; "
                "`asr tokenizer train` makes one"
            )
        self._tokens = (
            BLANK_TOKEN,
            *(self._processor.id_to_piece(i) for i in range(count)),
        )
        self._unknown = self._processor.unk_id()

    @property
    def tokens(self) -> tuple[str, ...]:
        return self._tokens

    def encode(self, text: str) -> list[int]:
        ids = self._processor.encode(text)
        if self._unknown in ids:
            # An unknown token is a run of characters as they are in the text.
            texts = self._processor.encode(text, out_type=str)
            runs = (run for run, i in zip(texts, ids, strict=True) if i == self._unknown)
            raise UnknownCharacters("".join(runs), text)
        return [i + 1 for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        # SentencePiece would write the unknown token, which no network is trained on, as a sign.
        own = [i - 1 for i in map(int, ids) if i != BLANK and i - 1 != self._unknown]
        return " ".join(self._processor.decode(own).split())

    def to_plain(self) -> dict[str, Any]:
        return {"kind": self.kind, "model": base64.b64encode(self._model).decode("ascii")}

    def __reduce__(self) -> tuple[type["SentencePieceTokenizer"], tuple[bytes]]:
        return SentencePieceTokenizer, (self._model,)


def train_sentencepiece(
    texts: Iterable[str], size: int, path: str | Path
) -> SentencePieceTokenizer:
    """Train `size` byte-pair tokens on normalised texts and write the model file `path`.

    The same texts give the same bytes. The tokenizer has size + 1 tokens: the blank comes first.
    Raises AsrError if there are no texts, or if `size` is too large or too small for them.
    """
    check_writable(path)
    # SentencePiece warns about empty texts, and takes a line feed for the end of a text.
    lines = [line for line in (" ".join(text.split()) for text in texts) if line]
    if not lines:
        raise AsrError("tokenizer: there is no text to train SentencePiece on")
    if size > _MOST_TOKENS:
        raise AsrError(f"tokenizer: {size} tokens are too many; at most {_MOST_TOKENS:,}")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            # Byte pairs: SentencePiece's unigrams run out of candidates on a small vocabulary.
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
        return f"tokenizer: {size} tokens are too many for these texts; at most {found[1]}"
    if found := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        return f"tokenizer: {size} tokens are too few for these texts; at least {found[1]}"
    return f"tokenizer: SentencePiece failed: {message}"


def load_tokenizer_file(path: str | Path) -> SentencePieceTokenizer:
    """The tokenizer of a SentencePiece model file. Raises AsrError if it is missing or damaged."""
    path = Path(path)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise AsrError(f"{path}: cannot read the tokenizer file: {error.strerror}") from None
    try:
        return SentencePieceTokenizer(model)
    except AsrError as error:
        raise AsrError(f"{path}: {error}") from None
