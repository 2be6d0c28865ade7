"""The score of a prefix beside the network's: language model, bonuses and boosted phrases.

Tokens are read as bytes with a space wherever a word ends. So one rule is enough for characters,
for SentencePiece tokens (the word mark in front is a space) and for any other tokens.
"""

from dataclasses import dataclass
from math import exp, inf, log1p
from typing import NamedTuple

from asr.decode.lm.model import HASH_START, LanguageModel, extend_hash
from asr.decode.phrases import OUTSIDE, ROOT, SPACE, Phrases
from asr.text.tokenizer import BLANK, BYTE_TOKEN, WORD_MARK, Tokenizer

_CONTROL = ("<unk>", "<s>", "</s>", "<pad>")


def token_spellings(tokenizer: Tokenizer) -> list[bytes | None]:
    """Bytes that every token writes; None for the blank and for tokens that write nothing."""
    spellings: list[bytes | None] = []
    for index, token in enumerate(tokenizer.tokens):
        if index == BLANK or token in _CONTROL:
            spellings.append(None)
        elif byte := BYTE_TOKEN.fullmatch(token):
            spellings.append(bytes([int(byte[1], 16)]))
        else:
            spellings.append(token.replace(WORD_MARK, " ").encode())
    return spellings


def space_token(spellings: list[bytes | None]) -> int:
    """The token that writes a space only; BLANK if there is none."""
    return spellings.index(b" ") if b" " in spellings else BLANK


def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b)), in the same steps as the C search."""
    if a < b:
        a, b = b, a
    return a if b == -inf else a + log1p(exp(b - a))


@dataclass(frozen=True)
class ScoredPrefix:
    """One prefix at the end of a search; scores as in `Hypothesis`."""

    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    score: float
    acoustic_score: float
    lm_score: float


class PrefixState(NamedTuple):
    """What a prefix has scored so far, and what the next token needs to know of it."""

    word_hash: int = HASH_START
    """Hash of the bytes of its last word so far."""
    in_word: bool = False
    """Its last word has begun and not ended."""
    unknown: bool = False
    """No word of the language model begins like its last word."""
    lm_state: int = 0
    """State of the language model after the last whole word."""
    lm_score: float = 0.0
    """Unweighted language model score of the whole words."""
    words_score: float = 0.0
    """Weighted language model score and bonuses of the whole words."""
    pending: float = 0.0
    """Weighted score of the best word that begins like the last one. It is replaced by the real
    score when the word ends; without it a long word would seem better until it ends, and then
    lose its place in the beam at once."""
    phrase: int = ROOT
    """Node of the phrase automaton."""
    phrase_score: float = 0.0
    """Bonus of phrases that are complete."""
    total: float = 0.0
    """All that is added to the acoustic score."""


@dataclass(frozen=True)
class Scorer:
    """Scores prefixes token by token; holds the weights of `DecoderOptions`."""

    spellings: list[bytes | None]
    """Of every token, as `token_spellings` gives them."""
    lm: LanguageModel | None
    phrases: Phrases | None
    lm_weight: float
    word_bonus: float
    unknown_score: float

    def start(self) -> PrefixState:
        """The state of the empty prefix."""
        return PrefixState(lm_state=self.lm.start if self.lm else 0)

    def extend(self, state: PrefixState, token: int) -> PrefixState:
        """The state after one more token."""
        for byte in self.spellings[token] or b"":
            if byte != SPACE:
                word_hash = extend_hash(state.word_hash, bytes((byte,)))
                state = self._step(state._replace(word_hash=word_hash, in_word=True), byte)
            elif state.in_word:
                state = self._end_word(state)
        if self.lm and state.in_word and not state.unknown:
            state = self._look_ahead(self.lm, state)
        value = float(self.phrases.values[state.phrase]) if self.phrases else 0.0
        pending = state.pending
        if state.unknown and not self._in_phrase(state.phrase):
            pending += self.unknown_score
        total = (state.words_score + pending) + (state.phrase_score + value)
        return state._replace(total=total)

    def _step(self, state: PrefixState, byte: int) -> PrefixState:
        """The state whose phrases have followed `byte`."""
        if not self.phrases:
            return state
        gain, phrase = self.phrases.step(state.phrase, byte)
        return state._replace(phrase=phrase, phrase_score=state.phrase_score + gain)

    def _in_phrase(self, node: int) -> bool:
        """Whether all letters of the last word, as far as it goes, are those of a phrase."""
        return self.phrases is not None and node not in (ROOT, OUTSIDE)

    def _look_ahead(self, lm: LanguageModel, state: PrefixState) -> PrefixState:
        log = lm.look_ahead(state.word_hash)
        if log is not None:
            return state._replace(pending=self.lm_weight * log)
        log, _ = lm.score(state.lm_state, lm.unknown)
        return state._replace(unknown=True, pending=self.lm_weight * log)

    def _end_word(self, state: PrefixState) -> PrefixState:
        state = self._step(state, SPACE)
        gain, lm_state, lm_score = self.word_bonus, state.lm_state, state.lm_score
        if self.lm:
            word = self.lm.unknown if state.unknown else self.lm.find(state.word_hash)
            log, lm_state = self.lm.score(lm_state, word)
            lm_score += log
            gain += self.lm_weight * log
            if word == self.lm.unknown and not self._in_phrase(state.phrase):
                gain += self.unknown_score
        return PrefixState(
            lm_state=lm_state,
            lm_score=lm_score,
            words_score=state.words_score + gain,
            phrase=state.phrase,
            phrase_score=state.phrase_score,
        )

    def finish(self, state: PrefixState) -> PrefixState:
        """The state at the end of the utterance: scores the last word and the sentence's end."""
        if state.in_word:
            state = self._end_word(state)
        lm_score, words, phrases = state.lm_score, state.words_score, state.phrase_score
        if self.lm:
            log, _ = self.lm.score(state.lm_state, self.lm.eos)
            lm_score += log
            words += self.lm_weight * log
        if self.phrases:
            phrases += self.phrases.finish(state.phrase)
        return PrefixState(
            lm_score=lm_score, words_score=words, phrase_score=phrases, total=words + phrases
        )
