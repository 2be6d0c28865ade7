"""What a prefix means: its words, and their score by language model, bonuses and phrases.

Units are bytes with a space wherever a word ends, so characters, SentencePiece pieces with the
word mark in front, and any other cutting of words into units are read by one rule.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from asr.decode.lm.model import HASH_START, LanguageModel, extend_hash
from asr.decode.phrases import ROOT, SPACE, Phrases
from asr.text.tokenizer import BLANK, Tokenizer

WORD_MARK = "\u2581"
_CONTROL = ("<unk>", "<s>", "</s>", "<pad>")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def spell(tokenizer: Tokenizer) -> list[bytes | None]:
    """Bytes of every unit; None for the blank and for units that write nothing."""
    spelt: list[bytes | None] = []
    for index, symbol in enumerate(tokenizer.symbols):
        if index == BLANK or symbol in _CONTROL:
            spelt.append(None)
        elif byte := _BYTE.fullmatch(symbol):
            spelt.append(bytes([int(byte[1], 16)]))
        else:
            spelt.append(symbol.replace(WORD_MARK, " ").encode())
    return spelt


class Reading(NamedTuple):
    """Where a prefix stands, and what it has earned."""

    word_hash: int = HASH_START
    """Of the bytes of the word it is in."""
    in_word: bool = False
    unknown: bool = False
    """No word of the language model begins like the word it is in."""
    state: int = 0
    """Of the language model, after the last whole word."""
    lm_score: float = 0.0
    earned: float = 0.0
    """Weighted language model score and bonuses of the whole words."""
    pending: float = 0.0
    """Expected of the word it is in: the best that a word which begins so can score."""
    phrase: int = ROOT
    kept: float = 0.0
    """Bonus of phrases that are heard to the end."""
    total: float = 0.0
    """All that is added to the acoustic score."""


def space_unit(spelt: list[bytes | None]) -> int:
    """The unit that is nothing but the end of a word; the blank if there is none."""
    return spelt.index(b" ") if b" " in spelt else BLANK


@dataclass(frozen=True)
class Reader:
    """Reads units one after the other; holds the weights."""

    spelt: list[bytes | None]
    lm: LanguageModel | None
    phrases: Phrases | None
    lm_weight: float
    word_bonus: float
    unknown_score: float

    def start(self) -> Reading:
        """Before the first unit."""
        return Reading(state=self.lm.start if self.lm else 0)

    def extend(self, reading: Reading, unit: int) -> Reading:
        """After one more unit."""
        for byte in self.spelt[unit] or b"":
            if byte != SPACE:
                word_hash = extend_hash(reading.word_hash, bytes((byte,)))
                reading = reading._replace(word_hash=word_hash, in_word=True)
            elif reading.in_word:
                reading = self._end_word(reading)
            else:
                continue
            if self.phrases:
                gain, phrase = self.phrases.step(reading.phrase, byte)
                reading = reading._replace(phrase=phrase, kept=reading.kept + gain)
        if self.lm and reading.in_word and not reading.unknown:
            reading = self._look_ahead(self.lm, reading)
        value = float(self.phrases.values[reading.phrase]) if self.phrases else 0.0
        total = (reading.earned + reading.pending) + (reading.kept + value)
        return reading._replace(total=total)

    def _look_ahead(self, lm: LanguageModel, reading: Reading) -> Reading:
        log = lm.look_ahead(reading.word_hash)
        if log is not None:
            return reading._replace(pending=self.lm_weight * log)
        log, _ = lm.score(reading.state, lm.unknown)
        return reading._replace(unknown=True, pending=self.lm_weight * log + self.unknown_score)

    def _end_word(self, reading: Reading) -> Reading:
        gain, state, lm_score = self.word_bonus, reading.state, reading.lm_score
        if self.lm:
            word = self.lm.unknown if reading.unknown else self.lm.find(reading.word_hash)
            log, state = self.lm.score(state, word)
            lm_score += log
            gain += self.lm_weight * log
            if word == self.lm.unknown:
                gain += self.unknown_score
        return Reading(
            state=state,
            lm_score=lm_score,
            earned=reading.earned + gain,
            phrase=reading.phrase,
            kept=reading.kept,
        )

    def finish(self, reading: Reading) -> Reading:
        """At the end of the utterance: the last word and the end of the sentence are scored."""
        if reading.in_word:
            reading = self._end_word(reading)
            if self.phrases:
                gain, phrase = self.phrases.step(reading.phrase, SPACE)
                reading = reading._replace(phrase=phrase, kept=reading.kept + gain)
        lm_score, earned, kept = reading.lm_score, reading.earned, reading.kept
        if self.lm:
            log, _ = self.lm.score(reading.state, self.lm.eos)
            lm_score += log
            earned += self.lm_weight * log
        if self.phrases:
            kept += self.phrases.finish(reading.phrase)
        return Reading(lm_score=lm_score, earned=earned, kept=kept, total=earned + kept)
