"""What a decoder is, and the one place that knows which decoders there are."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from asr.decode.beam import BeamDecoder
from asr.decode.greedy import GreedyDecoder
from asr.decode.hypothesis import Hypothesis
from asr.decode.lm.model import LanguageModel
from asr.decode.options import DecoderOptions
from asr.text.tokenizer import Tokenizer


class Decoder(Protocol):
    """Anything that turns the log-probabilities of one utterance into hypotheses."""

    def decode(self, log_probs: npt.NDArray[np.floating]) -> list[Hypothesis]:
        """One or more hypotheses of `log_probs (frames, tokens)` (natural log), the best first."""
        ...


def make_decoder(
    options: DecoderOptions, tokenizer: Tokenizer, lm: LanguageModel | None = None
) -> Decoder:
    """The decoder that `options` ask for; opens the language model `options.lm`.

    `lm` is that language model if it is open already. A decoder keeps no state between calls, so
    threads may share it. Raises AsrError if the language model is missing or damaged.

    >>> from asr.text.tokenizer import CharacterTokenizer
    >>> tokenizer = CharacterTokenizer()
    >>> log_probs = np.full((3, tokenizer.size), -9.0)
    >>> log_probs[[0, 2], tokenizer.encode("HI")] = 0.0
    >>> log_probs[1, 0] = 0.0
    >>> make_decoder(DecoderOptions("beam"), tokenizer).decode(log_probs)[0].text
    'HI'
    """
    if options.decoder == "greedy":
        return GreedyDecoder(tokenizer)
    return BeamDecoder(options, tokenizer, lm)
