"""Streams of networks that run forward only: the words of the whole recording, as they are said.

Log-probabilities and decoder go on from piece to piece. A word is stable when all hypotheses of the
decoder have it and what follows it begins another word. Words behind it are those of the best
hypothesis so far.

    tokens          T H E _ C A T _ S A T
    decided         T H E _ C A                all hypotheses have these: THE is stable
    aligned with    |rrrrrrrrrrrrrrrrrrrr|     log-probabilities since the last stable word began

Times and confidences come from an alignment, as those of recordings. It begins with the last stable
word, so that the one behind it has its beginning where it has it in the whole recording.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from asr.audio.chunk import is_silent
from asr.decode import DecoderStream
from asr.decode.alignment import find_words, frames_needed, split_words, whole_words
from asr.decode.confidence import Calibration
from asr.decode.hypothesis import Word
from asr.model.stream import NetworkStream
from asr.text.tokenizer import Tokenizer

Floats = npt.NDArray[np.float32]
_PIECE = 1 << 16
"""Samples at a time: memory does not grow with what is pushed at once."""


class ExactCore:
    """A core of `Stream`.

    A word that ended `doubt_seconds` ago is decided as the best hypothesis has it, so that memory
    and time do not grow with the stream.
    """

    def __init__(
        self,
        network: NetworkStream,
        decoder: DecoderStream,
        tokenizer: Tokenizer,
        frame_seconds: float,
        calibration: Calibration | None,
        doubt_seconds: float,
    ) -> None:
        self._network, self._decoder, self._tokenizer = network, decoder, tokenizer
        self._frame_seconds, self._calibration = frame_seconds, calibration
        self._most = max(round(doubt_seconds / frame_seconds), 1)
        self._rows: Floats | None = None
        self._first = 0  # frame of the stream that the first row is
        self._known = 0  # words in front that are stable already, 0 or 1
        self._reached = 0.0  # end of the last stable word
        self._tokens: tuple[int, ...] = ()
        self._provisional: list[Word] = []
        self._waiting: list[Word] = []  # stable, but nothing but silence was heard yet
        self._extremes = np.zeros(0, np.float32)

    def push(self, samples: Floats) -> tuple[list[Word], list[Word]]:
        """As in `Core`."""
        stable: list[Word] = []
        for piece in _pieces(samples):
            self._listen(piece)
            stable += self._advance(self._network.push(piece))
        if self._silent:
            self._waiting += stable
            return [], []
        stable, self._waiting = self._waiting + stable, []
        return stable, self._provisional

    def finish(self) -> list[Word]:
        """As in `Core`."""
        stable = self._waiting + self._advance(self._network.finish())
        if self._silent:
            return []
        tokens = self._decoder.finish()
        rest = [word for word, _, _ in self._words(tokens)[self._known :]] if tokens else []
        return stable + rest

    @property
    def _silent(self) -> bool:
        return is_silent(self._extremes)

    def _listen(self, samples: Floats) -> None:
        """Remember whether there was any sound: a recording without has no words."""
        if self._silent and len(samples):
            seen = np.concatenate([self._extremes, samples])
            self._extremes = np.array([seen.min(), seen.max()], np.float32)

    def _advance(self, log_probs: Floats) -> list[Word]:
        """Go on with the next frames: the words that became stable."""
        if not len(log_probs):
            return []
        self._decoder.push(log_probs)
        held = self._rows
        self._rows = log_probs if held is None else np.concatenate([held, log_probs])
        return self._settle()

    def _settle(self) -> list[Word]:
        assert self._rows is not None
        stable: list[Word] = []
        tokens, overdue = self._decoder.tokens, self._is_overdue()
        whole = whole_words(tokens[: self._decoder.decided], self._tokenizer)
        if tokens != self._tokens or whole > self._known or overdue:
            self._tokens = tokens
            words = self._words(tokens)
            count = max(whole, self._overdue(words) if overdue else 0)
            if count > self._known:
                stable = [word for word, _, _ in words[self._known : count]]
                self._cut(words[count - 1])
                words = words[count - 1 :]
            self._provisional = [word for word, _, _ in words[self._known :]]
            if overdue and not self._provisional:
                self._forget()
        return stable

    def _words(self, tokens: tuple[int, ...]) -> list[tuple[Word, int, int]]:
        """Words of `tokens` in the stream, each with its first token and the one after its last."""
        assert self._rows is not None
        rows, first = self._rows, self._first
        missing = frames_needed(tokens) - len(rows)
        if missing > 0:  # the last stable word was found later than another hypothesis has it
            rows = np.concatenate([np.repeat(rows[:1], missing, axis=0), rows])
            first -= missing
        found = find_words(rows, tokens, self._tokenizer, self._frame_seconds, self._calibration)
        spans = split_words(tokens, self._tokenizer)
        begin, words = first * self._frame_seconds, []
        for i, (word, (_, start, end)) in enumerate(zip(found, spans, strict=True)):
            word = word.shifted(begin)
            if i >= self._known:
                times = max(word.start, self._reached), max(word.end, self._reached)
                word = Word(word.text, *times, word.confidence)
            words.append((word, start, end))
        return words

    @property
    def _limit(self) -> float:
        """Words that ended before this time are decided, whatever other hypotheses say."""
        assert self._rows is not None
        return (self._first + len(self._rows) - self._most) * self._frame_seconds

    def _is_overdue(self) -> bool:
        assert self._rows is not None
        oldest = self._provisional[0].end if self._provisional else 0.0
        frames = len(self._rows)
        return frames > self._most and (oldest <= self._limit or frames > 2 * self._most)

    def _overdue(self, words: list[tuple[Word, int, int]]) -> int:
        """How many words are decided because they ended long ago; all if one goes on for ever."""
        assert self._rows is not None
        count = sum(word.end <= self._limit for word, _, _ in words)
        if len(self._rows) > 2 * self._most:
            count = len(words)
        if count > self._known:
            self._decoder.decide(words[count - 1][2])
        return count

    def _cut(self, last: tuple[Word, int, int]) -> None:
        """Forget all in front of the last stable word."""
        assert self._rows is not None
        word, first, _ = last
        frames = max(round(word.start / self._frame_seconds) - self._first, 0)
        self._decoder.drop(first)
        self._rows, self._first = self._rows[frames:].copy(), self._first + frames
        self._known, self._reached = 1, word.end
        self._tokens = self._tokens[first:]

    def _forget(self) -> None:
        """Forget a long pause, and the word in front of it."""
        assert self._rows is not None
        self._decoder.decide(len(self._tokens))
        self._decoder.drop(len(self._tokens))
        frames = len(self._rows) - self._most // 2
        self._rows, self._first = self._rows[frames:].copy(), self._first + frames
        self._tokens, self._known = (), 0


def _pieces(samples: Floats) -> Iterator[Floats]:
    for start in range(0, len(samples), _PIECE):
        yield samples[start : start + _PIECE]
