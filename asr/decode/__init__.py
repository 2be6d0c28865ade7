"""Turns log-probabilities (numpy) into words; imports neither torch nor a model."""

from asr.decode.decoder import Decoder, make_decoder
from asr.decode.hypothesis import Hypothesis
from asr.decode.library import native
from asr.decode.options import DecoderOptions

__all__ = ["Decoder", "DecoderOptions", "Hypothesis", "make_decoder", "native"]
