"""Boosted phrases: a bonus that comes letter by letter, is taken back, or becomes final."""

import math
import random
from pathlib import Path

import pytest
from decoding_data import spoken_log_probs, write_small_model

from asr.decode import DecoderOptions, make_decoder
from asr.decode.beam import BeamDecoder
from asr.decode.phrases import ROOT, build_phrases
from asr.errors import AsrError
from asr.text.tokenizer import CharacterTokenizer, UnknownCharacters

TOKENIZER = CharacterTokenizer()


def bonus(text: str, *phrases: str) -> tuple[float, float]:
    """Bonus after `text`, its last word in part, and at the end of the utterance."""
    table = build_phrases(phrases, 1.0, TOKENIZER)
    node, final = ROOT, 0.0
    for byte in text.encode():
        gain, node = table.step(node, byte)
        final += gain
    now = final + table.values[node]
    if not text.endswith(" "):
        gain, node = table.step(node, 0x20)
        final += gain
    return now, final + table.finish(node)


def test_letters_add_their_part_of_the_bonus_and_other_words_take_it_back():
    assert bonus("CA", "CATS")[0] == pytest.approx(0.5)
    assert bonus("CAT", "CATS") == (pytest.approx(0.75), 0.0)
    assert bonus("CATS", "CATS") == (1.0, 1.0)
    assert bonus("CATSY", "CATS") == (0.0, 0.0)
    assert bonus("MY CATS", "CATS")[1] == 1.0


def test_a_word_in_part_counts_as_that_of_the_shortest_it_may_become():
    rng = random.Random(0)
    texts = {
        " ".join("".join(rng.choices("AB", k=rng.randint(1, 4))) for _ in range(3))
        for _ in range(20)
    }
    for text in texts:
        for end in range(1, len(text) + 1):
            done, _, part = text[:end].rpartition(" ")
            words = [len(t[len(done) :].split()[0]) for t in texts if t.startswith(text[:end])]
            expected = len(done.split()) + (len(part) / min(words) if part else 0.0)
            assert bonus(text[:end], *texts)[0] == pytest.approx(expected)


def test_a_phrase_must_start_where_a_word_does():
    assert bonus("CONCATS", "CATS") == (0.0, 0.0)


def test_each_word_of_a_phrase_counts_and_only_the_whole_phrase():
    assert bonus("NEW YORK", "NEW YORK")[1] == 2.0
    assert bonus("NEW YO", "NEW YORK")[0] == pytest.approx(1.5)
    assert bonus("NEW CAR", "NEW YORK")[1] == 0.0
    assert bonus("NEW", "NEW YORK")[1] == 0.0
    assert bonus("NEW NEW YORK", "NEW YORK")[1] == 2.0


def test_phrases_within_phrases():
    assert bonus("NEW YORK TIMES", "NEW YORK", "NEW YORK TIMES")[1] == 3.0
    assert bonus("NEW YORK CARS", "NEW YORK", "NEW YORK TIMES")[1] == 2.0
    assert bonus("NEW YORK CARS", "YORK", "NEW YORK TIMES")[1] == 1.0
    assert bonus("NEW YORK CITY", "NEW YORK", "YORK CITY")[1] == 2.0  # no word counts twice
    assert bonus("A B D", "A", "A B C", "B D")[1] == 3.0
    assert bonus("CAT CAT", "CAT")[1] == 2.0


def test_phrases_are_normalised():
    assert bonus("NEW YORK", "new york!")[1] == 2.0


@pytest.mark.parametrize(("phrase", "error"), [("...", AsrError), ("3 CATS", UnknownCharacters)])
def test_a_phrase_that_cannot_be_written_is_refused(phrase, error):
    with pytest.raises(error):
        make_decoder(DecoderOptions("beam", phrases=(phrase,)), TOKENIZER)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("unknown_score", [-10.0, -math.inf])
def test_a_boosted_name_is_recognised_against_a_language_model_that_lacks_it(
    native: bool, unknown_score: float, tmp_path: Path
) -> None:
    log_probs = spoken_log_probs("THE CATT SAT ON THE MAT", TOKENIZER, 4, 1.2)
    options = {"lm": write_small_model(tmp_path), "lm_weight": 0.6, "unknown_score": unknown_score}
    plain = make_decoder(DecoderOptions("beam", **options), TOKENIZER).decode(log_probs)[0]
    boosted = DecoderOptions("beam", **options, phrases=("CATT",), phrase_bonus=3.0)
    found = BeamDecoder(boosted, TOKENIZER, native=native).decode(log_probs)[0]
    assert "CATT" not in plain.text
    assert found.text == "THE CATT SAT ON THE MAT"
    language = 0.6 * found.lm_score + 3.0
    assert found.score == pytest.approx(found.acoustic_score + language)


@pytest.mark.parametrize("native", [True, False])
def test_a_word_that_only_begins_like_a_phrase_is_unknown(native: bool, tmp_path: Path) -> None:
    log_probs = spoken_log_probs("THE CATT SAT", TOKENIZER, 4, 0.1)
    options = {"lm": write_small_model(tmp_path), "lm_weight": 0.1, "unknown_score": -1.0}
    for phrase, penalty in (("CATTY", -1.0), ("ATT", -1.0), ("CATT", 2.0), ("CATT HATT", 0.0)):
        boosted = DecoderOptions("beam", **options, phrases=(phrase,), phrase_bonus=2.0)
        found = BeamDecoder(boosted, TOKENIZER, native=native).decode(log_probs)[0]
        assert found.text == "THE CATT SAT"
        language = 0.1 * found.lm_score + penalty
        assert found.score == pytest.approx(found.acoustic_score + language)
