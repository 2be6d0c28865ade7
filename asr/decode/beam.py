"""The prefix beam search as a decoder: in C where it was compiled, otherwise in Python."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from asr.decode.hypothesis import Hypothesis
from asr.decode.library import library
from asr.decode.lm.case import in_case_of
from asr.decode.lm.model import LanguageModel
from asr.decode.lm.open import open_lm
from asr.decode.native_beam import NativeSearch, NativeSettings
from asr.decode.options import DecoderOptions
from asr.decode.phrases import build_phrases
from asr.decode.priors import penalties
from asr.decode.reference import Search
from asr.decode.scoring import ScoredPrefix, Scorer, log_add, token_spellings
from asr.text.tokenizer import Tokenizer


class BeamDecoder:
    """N-best hypotheses by a prefix beam search with language model, word bonus and phrases.

    The score of a text sums all token sequences that write it and are in the beam at the end.
    Words are scored where they end: at the space, at the next token with a word mark, or at the
    end of the utterance. `priors (tokens,)` are needed where the options weigh them. Threads may
    share a decoder; the C search runs them in parallel.
    `native=False` searches in Python even where the C library was built.
    """

    def __init__(
        self,
        options: DecoderOptions,
        tokenizer: Tokenizer,
        lm: LanguageModel | None = None,
        priors: npt.NDArray[np.floating] | None = None,
        native: bool = True,
    ) -> None:
        self._options, self._tokenizer = options, tokenizer
        self._penalties = penalties(priors, options.prior_weight)
        phrases, spellings = options.phrases, token_spellings(tokenizer)
        if options.lm:
            letters = b"".join(spelling or b"" for spelling in spellings)
            lm = in_case_of(letters.decode(errors="ignore"), lm or open_lm(options.lm), options.lm)
        self.scorer = Scorer(
            spellings=spellings,
            lm=lm if options.lm else None,
            phrases=build_phrases(phrases, options.phrase_bonus, tokenizer) if phrases else None,
            lm_weight=options.lm_weight,
            word_bonus=options.word_bonus,
            unknown_score=options.unknown_score,
        )
        self._limits = (options.beam, options.beam_threshold, options.token_threshold)
        loaded = library() if native else None
        self._native = NativeSettings(loaded, self.scorer, *self._limits) if loaded else None

    def decode(self, log_probs: npt.NDArray[np.floating]) -> list[Hypothesis]:
        """Up to `nbest` hypotheses of `log_probs (frames, tokens)`, best first, no text twice.

        Texts that an `unknown_score` of minus infinity forbids are left out if there are others.

        `log_probs` are natural logs. Raises ValueError if one of them is NaN.
        """
        rows = self._checked(log_probs)
        ranked = self._ranked(self._search(rows))
        possible = [item for item in ranked if item[1].score > -math.inf]
        ranked = possible or ranked[:1]
        return [_hypothesis(prefix, text, rows) for text, prefix in ranked[: self._options.nbest]]

    def stream(self) -> "BeamStream":
        """As in `Decoder`."""
        return BeamStream(self)

    def _checked(self, log_probs: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        assert log_probs.shape[1] == self._tokenizer.size, (log_probs.shape, self._tokenizer.size)
        rows = np.ascontiguousarray(log_probs, dtype=np.float32)
        if np.isnan(rows).any():
            raise ValueError("log-probabilities hold NaN")
        return rows

    def _begin(self) -> NativeSearch | Search:
        return NativeSearch(self._native) if self._native else Search(self.scorer, *self._limits)

    def _search(self, rows: npt.NDArray[np.float32]) -> list[ScoredPrefix]:
        search = self._begin()
        search.push(self._weighed(rows))
        return search.finish()

    def _weighed(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The log-probabilities that are searched; confidences are those of the network."""
        return rows if self._penalties is None else rows - self._penalties

    def _ranked(self, prefixes: list[ScoredPrefix]) -> list[tuple[str, ScoredPrefix]]:
        """Texts and their prefixes, best first; prefixes of one text are joined."""
        best: dict[str, ScoredPrefix] = {}
        for prefix in prefixes:
            text = self._tokenizer.decode(prefix.tokens)
            best[text] = _joined(best[text], prefix) if text in best else prefix
        return sorted(best.items(), key=lambda item: -item[1].score)


class BeamStream:
    """The search of a stream: as in `DecoderStream`."""

    def __init__(self, decoder: BeamDecoder) -> None:
        self._decoder, self._search = decoder, decoder._begin()
        self._decided: tuple[int, ...] = ()

    def push(self, log_probs: npt.NDArray[np.floating]) -> None:
        self._search.push(self._decoder._weighed(self._decoder._checked(log_probs)))
        self._decided += self._search.decide()

    @property
    def tokens(self) -> tuple[int, ...]:
        return self._decided + self._search.best()

    @property
    def decided(self) -> int:
        return len(self._decided)

    def decide(self, count: int) -> None:
        if count > self.decided:
            self._decided += self._search.decide(count - self.decided)

    def drop(self, count: int) -> None:
        assert count <= self.decided, (count, self.decided)
        self._decided = self._decided[count:]

    def finish(self) -> tuple[int, ...]:
        prefixes = self._search.finish()
        whole = [replace(prefix, tokens=self._decided + prefix.tokens) for prefix in prefixes]
        return self._decoder._ranked(whole)[0][1].tokens


def _joined(first: ScoredPrefix, second: ScoredPrefix) -> ScoredPrefix:
    """Two token sequences of one text, as one hypothesis: their probabilities add up."""
    if second.acoustic_score == -math.inf:
        return first
    acoustic = log_add(first.acoustic_score, second.acoustic_score)
    score = first.score + (acoustic - first.acoustic_score)
    return replace(first, score=score, acoustic_score=acoustic)


def _hypothesis(prefix: ScoredPrefix, text: str, rows: npt.NDArray[np.float32]) -> Hypothesis:
    posteriors = np.exp(rows[list(prefix.frames), list(prefix.tokens)])
    return Hypothesis(
        tokens=prefix.tokens,
        frames=prefix.frames,
        confidences=tuple(np.minimum(posteriors, 1.0).tolist()),
        text=text,
        score=prefix.score,
        acoustic_score=prefix.acoustic_score,
        lm_score=prefix.lm_score,
    )
