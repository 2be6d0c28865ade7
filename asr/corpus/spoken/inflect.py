"""Regular English inflection, for words whose irregular forms the grammar lists itself."""

import re
from typing import Literal

Form = Literal["plural", "third", "past", "ing"]

_SIBILANT = re.compile(r"(s|x|z|ch|sh)$")
_CONSONANT_Y = re.compile(r"[^aeiou]y$")
# A short stressed syllable doubles its last letter: stopped, planning. Longer words are taken
# as stressed on another syllable (opened, visiting); the grammar lists the exceptions.
_SHORT_SYLLABLE = re.compile(r"^[^aeiou]*(qu)?[aeiou][^aeiouwxy]$")
_VOWEL = re.compile(r"^([aio]|e(?!u)|u(?!ni[^nm]|s))")


def inflect(word: str, form: Form) -> str:
    """`word` (lower case) in the regular plural, third person, past or -ing form."""
    if form in ("plural", "third"):
        if _SIBILANT.search(word):
            return word + "es"
        if _CONSONANT_Y.search(word):
            return word[:-1] + "ies"
        return word + ("es" if word.endswith("o") and form == "third" else "s")
    if _SHORT_SYLLABLE.match(word):
        word += word[-1]
    if form == "ing":
        return (word[:-1] if re.search(r"[^eo]e$", word) else word) + "ing"
    if word.endswith("e"):
        return word + "d"
    return word[:-1] + "ied" if _CONSONANT_Y.search(word) else word + "ed"


def article(following: str) -> str:
    """`a` or `an`, by the sound that the following word (lower case) is likely to begin with."""
    silent_h = following.startswith(("hour", "honest", "heir"))
    spoken_w = following == "one" or following.startswith("once")
    return "an" if silent_h or (_VOWEL.match(following) and not spoken_w) else "a"
