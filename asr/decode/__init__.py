"""Log-probabilities (numpy) and lengths to words; knows no torch and no model."""

from asr.decode.make import make_decoder
from asr.decode.options import DecoderOptions
from asr.decode.types import Decoder, Hypothesis
from asr.native import native

__all__ = ["Decoder", "DecoderOptions", "Hypothesis", "make_decoder", "native"]
