"""Turns log-probabilities (numpy) into words; imports neither torch nor a model."""

from asr.decode.decoder import Decoder, DecoderStream, make_decoder
from asr.decode.hypothesis import Hypothesis
from asr.decode.library import native
from asr.decode.options import DecoderOptions

__all__ = ["Decoder", "DecoderOptions", "DecoderStream", "Hypothesis", "make_decoder", "native"]
