"""Random English sentences from a grammar of our own, in two sizes of vocabulary.

Notation of `grammar.txt`: `name: 3 first words | <other> more words` gives the alternatives of
`name`, each with an optional weight in front; several lines of one name add up. `name+:` adds
alternatives in the large grammar only. `<other>` stands for one of the alternatives of `other`,
`<other:plural>` for the same with its last word in the plural, `<other:third>`, `<other:past>`
and `<other:ing>` with its first word in that form: by rule, or by a line `!form base inflected`.
`'s` may follow. The article `a` becomes `an` where it must.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import accumulate
from typing import cast

from asr.corpus.spoken.inflect import Form, article, inflect
from asr.corpus.spoken.settings import Part, Vocabulary

FEWEST_WORDS, MOST_WORDS = 4, 12
# Of 100 sentences: the rest is train.
_DEV_PERCENT, _TEST_PERCENT = 10, 20

_ITEM = re.compile(r"(?:<(?P<rule>\w+)(?::(?P<form>\w+))?>|(?P<word>[a-z']+?))(?P<possessive>'s)?")


@dataclass(frozen=True)
class _Item:
    """A word, or a reference to the rule `rule`."""

    rule: str | None
    form: Form | None
    word: str | None
    possessive: str


class Grammar:
    """The grammar of one vocabulary size, as read from `grammar.txt`."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._alternatives: dict[str, list[tuple[_Item, ...]]] = {}
        self._weights: dict[str, list[int]] = {}
        self._irregular: dict[tuple[str, str], str] = {}
        content = resources.files("asr.corpus.spoken").joinpath("grammar.txt").read_text("utf-8")
        for line in content.splitlines():
            if line.startswith("!"):
                form, base, inflected = line[1:].split()
                self._irregular[form, base] = inflected
            elif line and not line.startswith("#"):
                name, alternatives = line.split(":", 1)
                if vocabulary == "large" or not name.endswith("+"):
                    self._add(name.removesuffix("+"), alternatives)
        self._cumulative = {name: list(accumulate(w)) for name, w in self._weights.items()}

    def _add(self, name: str, alternatives: str) -> None:
        for alternative in alternatives.split("|"):
            words = alternative.split()
            weight = int(words.pop(0)) if words[0].isdigit() else 1
            items = []
            for word in words:
                match = _ITEM.fullmatch(word)
                assert match, f"grammar.txt: {word!r} in {name}"
                found = match.groupdict(default="")
                items.append(
                    _Item(
                        found["rule"] or None,
                        cast(Form, found["form"]) if found["form"] else None,
                        found["word"] or None,
                        found["possessive"],
                    )
                )
            self._alternatives.setdefault(name, []).append(tuple(items))
            self._weights.setdefault(name, []).append(weight)

    def sentence(self, generator: random.Random) -> str:
        """A sentence of 4 to 12 words in upper case: A to Z, apostrophe and space."""
        while True:
            words = self._expand("sentence", None, "", generator)
            # Longer words are never repeated: no bread with bread, no road from Rome to Rome.
            long = [word for word in words if len(word) > 3]
            if FEWEST_WORDS <= len(words) <= MOST_WORDS and len(set(long)) == len(long):
                for i, word in enumerate(words[:-1]):
                    if word == "a":
                        words[i] = article(words[i + 1])
                return " ".join(words).upper()

    def words(self) -> set[str]:
        """Every word that the rules can make, in upper case."""
        found = {"an"}
        waiting: list[tuple[str, Form | None, str]] = [("sentence", None, "")]
        seen = set(waiting)
        while waiting:
            name, form, possessive = waiting.pop()
            for items in self._alternatives[name]:
                for item in self._marked(items, form, possessive):
                    if item.rule is None:
                        found.add(self._spell(item))
                        continue
                    state = (item.rule, item.form, item.possessive)
                    if state not in seen:
                        seen.add(state)
                        waiting.append(state)
        return {word.upper() for word in found}

    def _expand(
        self, name: str, form: Form | None, possessive: str, generator: random.Random
    ) -> list[str]:
        items = generator.choices(self._alternatives[name], cum_weights=self._cumulative[name])[0]
        words = []
        for item in self._marked(items, form, possessive):
            if item.rule is None:
                words.append(self._spell(item))
            else:
                words += self._expand(item.rule, item.form, item.possessive, generator)
        return words

    @staticmethod
    def _marked(items: tuple[_Item, ...], form: Form | None, possessive: str) -> tuple[_Item, ...]:
        """`items` with the form and `'s` of the reference to them on the word that takes it."""
        marked = list(items)
        if form:
            place = -1 if form == "plural" else 0
            assert not marked[place].form, f"grammar.txt: two forms on {items}"
            marked[place] = replace(marked[place], form=form)
        if possessive:
            marked[-1] = replace(marked[-1], possessive=possessive)
        return tuple(marked)

    def _spell(self, item: _Item) -> str:
        assert item.word is not None
        word = item.word
        if item.form:
            word = self._irregular.get((item.form, word)) or inflect(word, item.form)
        return word + item.possessive


@cache
def grammar(vocabulary: Vocabulary) -> Grammar:
    """The grammar of that size, read once."""
    return Grammar(vocabulary)


def part_of(text: str) -> Part:
    """The part that a sentence belongs to: a hash of its letters, so that parts never share one."""
    remainder = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100
    if remainder < _DEV_PERCENT:
        return "dev"
    return "test" if remainder < _DEV_PERCENT + _TEST_PERCENT else "train"


def sentences(vocabulary: Vocabulary, part: Part, seed: int) -> Iterator[str]:
    """Endless sentences of a part, none twice; the same for the same arguments."""
    # A string seed goes through SHA-512, not through Python's randomised hash.
    generator = random.Random(f"{seed} {part} {vocabulary}")
    seen: set[str] = set()
    while True:
        text = grammar(vocabulary).sentence(generator)
        if text not in seen and part_of(text) == part:
            seen.add(text)
            yield text
