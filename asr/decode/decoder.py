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


class DecoderStream(Protocol):
    """A decoder on log-probabilities that come in pieces; it finds what it finds in all at once.

    Tokens are counted from the first one that was not dropped.
    """

    def push(self, log_probs: npt.NDArray[np.floating]) -> None:
        """Go on with the next `log_probs (frames, tokens)` (natural log), one frame or more."""
        ...

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of the best hypothesis so far."""
        ...

    @property
    def decided(self) -> int:
        """How many of the first of them cannot change any more: all hypotheses have them."""
        ...

    def decide(self, count: int) -> None:
        """Give up all hypotheses that do not begin with the first `count` tokens of the best."""
        ...

    def drop(self, count: int) -> None:
        """Forget the first `count` tokens, which must be decided."""
        ...

    def finish(self) -> tuple[int, ...]:
        """Tokens of the best hypothesis, now that the stream has ended."""
        ...


class Decoder(Protocol):
    """Anything that turns the log-probabilities of one utterance into hypotheses."""

    def decode(self, log_probs: npt.NDArray[np.floating]) -> list[Hypothesis]:
        """One or more hypotheses of `log_probs (frames, tokens)` (natural log), the best first."""
        ...

    def stream(self) -> DecoderStream:
        """The decoder on log-probabilities that come in pieces."""
        ...


def make_decoder(
    options: DecoderOptions,
    tokenizer: Tokenizer,
    lm: LanguageModel | None = None,
    priors: npt.NDArray[np.floating] | None = None,
) -> Decoder:
    """The decoder that `options` ask for; opens the language model `options.lm`.

    `lm` is that language model if it is open already, `priors (tokens,)` are those of the network
    (`asr.decode.priors`). A decoder keeps no state between calls, so threads may share it. Raises
    AsrError if the language model is missing or damaged, and for a `prior_weight` without priors.

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
    return BeamDecoder(options, tokenizer, lm, priors)
