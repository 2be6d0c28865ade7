"""torchaudio's `ctc_decoder` (flashlight) behind our decoder's interface: a reference for ours.

It reads the same language model files, sums alignments as ours does, looks ahead by the same
unigram scores, and agrees with our beam search if ours is also restricted to the model's
vocabulary (`unknown_score=-inf`): on all of 60 utterances of a trained network. Where a network is
unsure of everything (88 % of its words wrong) both miss the best text by some 10 nats at beam 32,
each in its own way: texts differ, their true scores are equal in the mean. Known differences:

- With a language model it spells words along a lexicon and can write no others. SentencePiece
  tokens spell a word in one way only, that of the tokenizer's encoder; ours takes any.
- A word of several tokens is scored at its last token, not where the next word begins, so other
  prefixes may fall out of the beam.
- A prefix takes two places in its beam, ended by a blank and not; one place in ours.
- The threshold is measured against the best candidate so far, not the best of the frame; and the
  frames are those of the best alignment it kept after merging, not of the best one of all.

Without a language model it knows no words and gives no bonus for them. It boosts no phrases.
"""

import math
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torchaudio.models import decoder as module

from asr.decode.hypothesis import Hypothesis
from asr.decode.lm.model import UNKNOWN, LanguageModel
from asr.decode.lm.open import open_lm
from asr.decode.options import DecoderOptions
from asr.decode.scoring import token_spellings
from asr.text.tokenizer import BLANK, CharacterTokenizer, Tokenizer, UnknownCharacters

_SPACE = CharacterTokenizer().encode(" ")[0]
_NEVER = -1e5
"""Log-probability of tokens that are not tried: infinity would give differences of infinities."""


class TorchaudioBeam:
    """The interface of `BeamDecoder`, another search; for one thread."""

    def __init__(
        self, options: DecoderOptions, tokenizer: Tokenizer, lm: LanguageModel | None = None
    ) -> None:
        self._options, self._tokenizer = options, tokenizer
        self._spaced = isinstance(tokenizer, CharacterTokenizer)
        self._spellings = token_spellings(tokenizer)
        self._lm = (lm or open_lm(options.lm)) if options.lm else None
        # Names without spaces, for the files that it reads.
        names = [f"u{index}" for index in range(tokenizer.size)]
        lexicon_free = {
            "tokens": names,
            "nbest": options.beam,
            "beam_size": options.beam,
            "beam_threshold": options.beam_threshold,
            "log_add": True,
            "blank_token": names[BLANK],
            "sil_token": names[self._silence()],
        }
        if self._lm is None:
            self._decoder = module.ctc_decoder(lexicon=None, lm=None, **lexicon_free)
            return
        words = _spellings(self._lm, tokenizer, self._spaced)
        self._wrapped = _wrap(self._lm, list(words))
        with tempfile.TemporaryDirectory() as folder:
            lexicon, dictionary = Path(folder, "lexicon"), Path(folder, "words")
            lines = (f"{word} {' '.join(names[i] for i in ids)}\n" for word, ids in words.items())
            lexicon.write_text("".join(lines))
            dictionary.write_text("".join(f"{word}\n" for word in [*words, UNKNOWN]))
            self._decoder = module.ctc_decoder(
                lexicon=str(lexicon),
                lm=self._wrapped,
                lm_dict=str(dictionary),
                lm_weight=options.lm_weight,
                word_score=options.word_bonus,
                unk_word=UNKNOWN,
                **lexicon_free,
            )
        self._wrapped.building = False

    def _silence(self) -> int:
        """What it may write between words: the space, or a token that writes nothing."""
        unwritten = [i for i, spelling in enumerate(self._spellings) if spelling is None]
        return _SPACE if self._spaced else unwritten[-1]

    def decode(self, log_probs: npt.NDArray[np.floating]) -> list[Hypothesis]:
        """Up to `nbest` hypotheses of `log_probs (frames, tokens)`, best first, no text twice."""
        rows = np.array(log_probs, dtype=np.float32)
        limits = rows.max(axis=1, keepdims=True) - self._options.token_threshold
        tried = (rows >= limits) & np.array([spelling is not None for spelling in self._spellings])
        tried[:, BLANK] = True
        # A last frame that is a space ends the last word; a blank joins both kinds of alignment.
        last = np.full((1, rows.shape[1]), _NEVER, dtype=np.float32)
        last[0, _SPACE if self._spaced and self._lm else BLANK] = 0.0
        emissions = np.concatenate([np.where(tried, np.maximum(rows, _NEVER), _NEVER), last])
        emissions = np.ascontiguousarray(emissions, dtype=np.float32)
        results = self._decoder.decoder.decode(emissions.ctypes.data, *emissions.shape)
        found = [(list(result.tokens), float(result.score)) for result in results]
        hypotheses: dict[str, Hypothesis] = {}
        for alignment, score in found:
            hypothesis = self._hypothesis(alignment, score, rows)
            hypotheses.setdefault(hypothesis.text, hypothesis)
            if len(hypotheses) == self._options.nbest:
                break
        if not hypotheses:
            return [Hypothesis((), (), (), "", -math.inf, -math.inf, 0.0)]
        return list(hypotheses.values())

    def _hypothesis(
        self, alignment: list[int], score: float, rows: npt.NDArray[np.float32]
    ) -> Hypothesis:
        # One token for each frame, between one for the start, the frame that we added, and the end.
        path = alignment[1 : len(rows) + 1]
        tokens, frames, frame = [], [], 0
        for token, run in groupby(path):
            length = len(list(run))
            if token != BLANK:
                tokens.append(token)
                frames.append(frame + int(rows[frame : frame + length, token].argmax()))
            frame += length
        text = self._tokenizer.decode(tokens)
        lm_score, words = 0.0, len(text.split())
        if self._lm:
            lm_score = math.fsum(log for log, _ in self._lm.sentence(text))
        added = self._options.lm_weight * lm_score + self._options.word_bonus * words
        return Hypothesis(
            tokens=tuple(tokens),
            frames=tuple(frames),
            confidences=tuple(np.minimum(np.exp(rows[frames, tokens]), 1.0).tolist()),
            text=text,
            score=score,
            acoustic_score=score - added,
            lm_score=lm_score,
        )


def _spellings(lm: LanguageModel, tokenizer: Tokenizer, spaced: bool) -> dict[str, list[int]]:
    """Tokens of every word of the model that the tokenizer can write."""
    special = {lm.bos, lm.eos, lm.unknown}
    spellings = {}
    for number, word in enumerate(lm.spellings()):
        if number in special:
            continue
        try:
            spellings[word] = tokenizer.encode(f"{word} " if spaced else word)
        except UnknownCharacters:
            continue
    return spellings


def _wrap(lm: LanguageModel, words: list[str]) -> Any:
    """Our model as torchaudio calls one; `words` are numbered by their places."""
    numbers = [*map(lm.word, words), lm.unknown]

    class Wrapped(module.CTCDecoderLM):
        """While the lexicon is built it gives unigram scores, which the search looks ahead with."""

        def __init__(self) -> None:
            super().__init__()
            self.building = True
            self.states: dict[Any, int] = {}

        def start(self, start_with_nothing: bool) -> Any:
            state = module.CTCDecoderLMState()
            self.states = {state: 0 if self.building else lm.start}
            return state

        def score(self, state: Any, usr_token_idx: int) -> tuple[Any, float]:
            log, after = lm.score(self.states[state], numbers[usr_token_idx])
            if self.building:
                return state, log
            child = state.child(usr_token_idx)
            self.states[child] = after
            return child, log

        def finish(self, state: Any) -> tuple[Any, float]:
            log, _ = lm.score(self.states[state], lm.eos)
            return state, log

    return Wrapped()
