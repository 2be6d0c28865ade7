"""The prefix beam search as a decoder: in C where it was compiled, else in Python."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from asr.decode import phrases
from asr.decode.hypothesis import Hypothesis
from asr.decode.library import library
from asr.decode.lm.model import LanguageModel
from asr.decode.lm.open import open_lm
from asr.decode.native_beam import CompiledSearch
from asr.decode.options import DecoderOptions
from asr.decode.reference import Found, log_add, search
from asr.decode.scoring import Reader, spell
from asr.text.tokenizer import Tokenizer


class BeamDecoder:
    """N-best readings by a prefix beam search with language model, word bonus and phrases.

    The score of a text sums all ways to write it that are in the beam at the end.

    Words are scored where they end: at the space, at the next piece with a word mark, or at the
    end of the utterance. Threads may share a decoder; the C search lets them run at once.
    `native=False` searches in Python even where the C library was built.
    """

    def __init__(
        self,
        options: DecoderOptions,
        tokenizer: Tokenizer,
        lm: LanguageModel | None = None,
        native: bool = True,
    ) -> None:
        self._options, self._units = options, tokenizer
        boosted = options.phrases
        self.reader = Reader(
            spelt=spell(tokenizer),
            lm=(lm or open_lm(options.lm)) if options.lm else None,
            phrases=phrases.build(boosted, options.phrase_bonus, tokenizer) if boosted else None,
            lm_weight=options.lm_weight,
            word_bonus=options.word_bonus,
            unknown_score=options.unknown_score,
        )
        loaded = library() if native else None
        margins = (options.beam, options.beam_threshold, options.token_threshold)
        self._compiled = CompiledSearch(loaded, self.reader, *margins) if loaded else None

    def decode(self, log_probs: npt.NDArray[np.floating]) -> list[Hypothesis]:
        """Up to `nbest` readings of `log_probs (frames, units)`, best first, no text twice."""
        assert log_probs.shape[1] == self._units.size, (log_probs.shape, self._units.size)
        rows = np.ascontiguousarray(log_probs, dtype=np.float32)
        if np.isnan(rows).any():
            raise ValueError("log-probabilities hold NaN")
        best: dict[str, Found] = {}
        for found in self._search(rows):
            text = self._units.decode(found.tokens)
            best[text] = _joined(best[text], found) if text in best else found
        ranked = sorted(best.items(), key=lambda item: -item[1].score)
        return [_hypothesis(found, text, rows) for text, found in ranked[: self._options.nbest]]

    def _search(self, rows: npt.NDArray[np.float32]) -> list[Found]:
        if self._compiled:
            return self._compiled(rows)
        options = self._options
        return search(
            rows, self.reader, options.beam, options.beam_threshold, options.token_threshold
        )


def _joined(first: Found, second: Found) -> Found:
    """Two ways to write one text, by pieces or by a space at the end: it may be either."""
    if second.acoustic_score == -math.inf:
        return first
    acoustic = log_add(first.acoustic_score, second.acoustic_score)
    score = first.score + (acoustic - first.acoustic_score)
    return replace(first, score=score, acoustic_score=acoustic)


def _hypothesis(found: Found, text: str, rows: npt.NDArray[np.float32]) -> Hypothesis:
    posteriors = np.exp(rows[list(found.frames), list(found.tokens)])
    return Hypothesis(
        tokens=found.tokens,
        frames=found.frames,
        confidences=tuple(np.minimum(posteriors, 1.0).tolist()),
        text=text,
        score=found.score,
        acoustic_score=found.acoustic_score,
        lm_score=found.lm_score,
    )
