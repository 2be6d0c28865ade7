"""Sentences to be spoken that come from text files, such as books, instead of a grammar."""

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from asr.corpus.spoken.grammar import part_of
from asr.corpus.spoken.settings import Part
from asr.errors import AsrError
from asr.text.read import read_sentences

FEWEST_WORDS, MOST_WORDS = 3, 24
MOST_CHARACTERS = 140
_PLAIN = re.compile(r"[A-Z' ]+")


@lru_cache(maxsize=16)
def _digest(files: tuple[str, ...]) -> str:
    content = hashlib.sha256()
    for file in files:
        try:
            content.update(hashlib.sha256(Path(file).expanduser().read_bytes()).digest())
        except OSError as error:
            raise AsrError(f"{file}: cannot read the text: {error.strerror}") from None
    return content.hexdigest()[:8]


def digest(files: Sequence[str]) -> str:
    """Eight characters that change with the content of the files, wherever they lie."""
    return _digest(tuple(files))


@lru_cache(maxsize=4)
def _sentences(files: tuple[str, ...], part: Part) -> tuple[str, ...]:
    """The sentences of `part` in the files, none twice, in their order."""
    found: dict[str, None] = {}
    for line in read_sentences(files):
        text = " ".join(line.split())
        if (
            FEWEST_WORDS <= len(text.split()) <= MOST_WORDS
            and len(text) <= MOST_CHARACTERS
            and _PLAIN.fullmatch(text)
            and part_of(text) == part
        ):
            found[text] = None
    return tuple(found)


def from_texts(files: Sequence[str], part: Part, seed: int) -> Iterator[str]:
    """The sentences of a part in an order drawn from the seed, each once.

    A line is a sentence; it is used if it has 3 to 24 words, at most 140 characters, and nothing
    but letters and apostrophes once normalised. As with the grammar, a hash of a sentence says
    which part it belongs to. Ends when all were drawn. Raises AsrError for files that cannot be
    read, and where no line can be used.
    """
    found = _sentences(tuple(str(file) for file in files), part)
    if not found:
        raise AsrError(
            f"{', '.join(map(str, files))}: no line to speak for the part {part}; lines of "
            f"{FEWEST_WORDS} to {MOST_WORDS} plain English words are used"
        )
    yield from random.Random(f"{seed} {part} texts").sample(found, len(found))
