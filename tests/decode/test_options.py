"""Options of decoders: contradictions are refused with advice."""

import pytest

from asr.decode import DecoderOptions
from asr.errors import AsrError


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"decoder": "best"}, "unknown; there are greedy, beam"),
        ({"lm": "x.arpa"}, "lm: greedy decoding cannot use it; set decoder=beam"),
        ({"phrases": ("A",), "nbest": 2}, "nbest, phrases: greedy decoding cannot use them"),
        (
            {"decoder": "beam", "phrases": "ANNA"},
            r"phrases='ANNA': a list of phrases, .*\['ANNA'\]",
        ),
        ({"beam": 10}, "beam: greedy"),
        ({"decoder": "beam", "beam": 0}, "beam=0: must be at least 1"),
        ({"decoder": "beam", "nbest": 33}, "at most beam=32"),
        ({"decoder": "beam", "lm_weight": 0.3}, "lm_weight: needs a language model"),
        ({"decoder": "beam", "lm": "x", "lm_weight": -1.0}, "must not be negative"),
        ({"decoder": "beam", "prior_weight": -0.1}, "prior_weight=-0.1: must not be negative"),
        ({"decoder": "beam", "prior_weight": float("nan")}, "a finite number"),
        ({"prior_weight": 0.4}, "prior_weight: greedy decoding cannot use it"),
        ({"decoder": "beam", "lm": "x", "unknown_score": float("nan")}, "a number, or -inf"),
        ({"decoder": "beam", "word_bonus": float("inf")}, "a finite number"),
        ({"decoder": "beam", "beam_threshold": 0.0}, "beam_threshold=0.0: must be above 0"),
        ({"decoder": "beam", "token_threshold": -1.0}, "token_threshold=-1.0: must be above 0"),
        ({"decoder": "beam", "phrase_bonus": 2.0}, "no phrases to boost"),
    ],
)
def test_conflicts_are_refused(options, fragment):
    with pytest.raises(AsrError, match=fragment):
        DecoderOptions(**options)


def test_phrases_may_come_as_a_list():
    assert DecoderOptions("beam", phrases=["A", "B"]).phrases == ("A", "B")  # type: ignore[arg-type]
