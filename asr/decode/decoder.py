"""Options to a decoder: the one place that knows which decoders there are."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from asr.decode.greedy import GreedyDecoder
from asr.decode.hypothesis import Hypothesis
from asr.decode.lm.model import LanguageModel
from asr.decode.options import DecoderOptions
from asr.text.tokenizer import Tokenizer


class Decoder(Protocol):
    """Anything that reads the log-probabilities of one utterance."""

    def decode(self, log_probs: npt.NDArray[np.floating]) -> list[Hypothesis]:
        """Readings of `log_probs (frames, units)`, natural logs, best first, at least one."""
        ...


def make_decoder(
    options: DecoderOptions, tokenizer: Tokenizer, lm: LanguageModel | None = None
) -> Decoder:
    """The decoder that `options` ask for; its language model is opened here, once.

    `lm` is the model of the file `options.lm`, if it is open already.
    A decoder holds no state between calls and may be used by several threads.
    Raises AsrError if the language model or an extra that is needed is missing.
    """
    if options.decoder == "greedy":
        return GreedyDecoder(tokenizer)
    if options.decoder == "flashlight":
        from asr.decode.flashlight import FlashlightDecoder

        return FlashlightDecoder(options, tokenizer, lm)
    from asr.decode.beam import BeamDecoder

    return BeamDecoder(options, tokenizer, lm)
