"""Named and versioned normal forms of a text.

References, training texts and hypotheses are compared in one normal form, so its name and version
are recorded with every figure.
"""

import re
import unicodedata
from collections.abc import Callable

from asr.errors import AsrError

_APOSTROPHES = "'\u2018\u2019\u201b\u02bc\u02b9\uff07`\u00b4"

# Letters that Unicode does not decompose into a base letter and an accent.
_LETTERS = dict(zip("ÆŒØŁĐÐÞĦŦ", ["AE", "OE", "O", "L", "D", "D", "TH", "H", "T"], strict=True))

# Punctuation that ends a word even where nobody typed a space: "and/or", "yes,sir".
_BREAKS = "/\\|,;:!?\u00a1\u00bf\u2026\u00b7\u2022"

# Signs that people say aloud; they stay, as digits do, and the tokenizer refuses them.
_SPOKEN = "&%@#"


class _EnglishTable(dict[int, str]):
    """A table for `str.translate`; each character's entry is computed when it first occurs."""

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
    # Two or more apostrophes are a quotation mark; one between spaces is not part of a word.
    text = re.sub(r"'{2,}|(?<!\S)'(?!\S)", "", text)
    return " ".join(text.split())


NORMALISATION = "en-v1"
"""The normal form that error rates are computed with."""

NORMALISATIONS: dict[str, Callable[[str], str]] = {NORMALISATION: _english_v1}


def normalise(text: str, name: str = NORMALISATION) -> str:
    """The normal form `name` of a text; applying it twice changes nothing.

    `en-v1`: upper case; accents stripped; typographic apostrophes become `'`; hyphens, dashes and
    marks between words become spaces; other punctuation is removed; white space becomes single
    spaces. Digits, signs that are spoken and letters of other scripts stay as they are: no
    tokenizer encodes them, so they are reported (`UnknownCharacters`) and not silently dropped.

    >>> normalise("Don\u2019t stop, Zo\u00eb!")
    "DON'T STOP ZOE"

    Raises AsrError for an unknown name.
    """
    if name not in NORMALISATIONS:
        known = ", ".join(NORMALISATIONS)
        raise AsrError(f"text normalisation {name!r} is unknown; known: {known}")
    return NORMALISATIONS[name](text)
