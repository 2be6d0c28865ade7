"""A decoder on pieces finds what it finds in all at once, and forgets what is decided."""

from pathlib import Path

import numpy as np
import pytest
from decoding_data import random_log_probs, spoken_log_probs, write_small_model

from asr import environment
from asr.decode import DecoderOptions
from asr.decode.alignment import whole_words
from asr.decode.beam import BeamDecoder
from asr.decode.decoder import make_decoder
from asr.decode.greedy import GreedyDecoder
from asr.decode.library import native
from asr.text.tokenizer import CharacterTokenizer

TOKENIZER = CharacterTokenizer()
TEXT = "THE CAT SAT ON THE MAT"


def in_pieces(
    decoder: GreedyDecoder | BeamDecoder, rows: np.ndarray, longest: int, seed: int
) -> tuple[int, ...]:
    """Tokens of a stream; what is decided is dropped at random, and stays as it was."""
    rng, stream, reached = np.random.default_rng(seed), decoder.stream(), 0
    dropped: tuple[int, ...] = ()
    while reached < len(rows):
        size = int(rng.integers(1, longest + 1))
        decided = stream.tokens[: stream.decided]
        stream.push(rows[reached : reached + size])
        assert stream.tokens[: len(decided)] == decided
        reached += size
        count = int(rng.integers(0, stream.decided + 1))
        dropped += stream.tokens[:count]
        stream.drop(count)
    return dropped + stream.finish()


@pytest.mark.parametrize("longest", [1, 7, 200])
def test_greedy(longest: int) -> None:
    rows = random_log_probs(300, TOKENIZER.size, longest)
    decoder = GreedyDecoder(TOKENIZER)
    assert in_pieces(decoder, rows, longest, 0) == decoder.decode(rows)[0].tokens


@pytest.mark.parametrize("with_lm", [False, True])
@pytest.mark.parametrize("in_c", [True, False])
@pytest.mark.parametrize("noise", [0.3, 1.8])
def test_beam(with_lm: bool, in_c: bool, noise: float, tmp_path: Path) -> None:
    if in_c and native() != "C":
        pytest.skip("the C library was not built")
    lm = write_small_model(tmp_path) if with_lm else ""
    options = DecoderOptions("beam", beam=32 if in_c else 6, lm=lm, phrases=("CAT SAT",))
    decoder = BeamDecoder(options, TOKENIZER, native=in_c)
    rounds = 30 if in_c else 2
    rows = [spoken_log_probs(TEXT, TOKENIZER, seed, noise) for seed in range(rounds)]
    whole = decoder.decode(np.concatenate(rows))[0].tokens
    assert len(whole) > 15 * rounds
    for longest in (3, 40):
        assert in_pieces(decoder, np.concatenate(rows), longest, longest) == whole


@pytest.mark.parametrize("in_c", [True, False])
def test_what_is_given_up_does_not_come_back(in_c: bool) -> None:
    if in_c and native() != "C":
        pytest.skip("the C library was not built")
    decoder = BeamDecoder(DecoderOptions("beam", beam=8), TOKENIZER, native=in_c)
    stream = decoder.stream()
    for seed in range(6):
        stream.push(random_log_probs(20, TOKENIZER.size, seed))
        agreed = stream.tokens[:-1]
        stream.decide(len(agreed))
        assert stream.decided >= len(agreed)
        assert stream.tokens[: len(agreed)] == agreed
    assert stream.finish()[: len(agreed)] == agreed


def test_memory_of_a_long_search_stays_flat() -> None:
    # Alternatives of an early token may stay in the beam for ever: what is old is decided.
    if native() != "C":
        pytest.skip("the C library was not built")
    stream = make_decoder(DecoderOptions("beam"), TOKENIZER).stream()
    rows = np.concatenate([spoken_log_probs(TEXT, TOKENIZER, seed, 0.3) for seed in range(3)])
    peaks = []
    for _ in range(80):
        stream.push(rows)
        stream.decide(len(stream.tokens) - 20)
        stream.drop(stream.decided)
        assert len(stream.tokens) <= 20
        peaks.append(environment.peak_memory_mib())
    # Without forgetting, the search takes a MiB for every push.
    assert peaks[-1] - peaks[19] < 15


def test_a_word_has_ended_when_something_else_follows() -> None:
    for text, count in (("", 0), ("CAT", 0), ("CAT ", 1), ("CAT S", 1), (" CAT SAT ", 2)):
        assert whole_words(TOKENIZER.encode(text), TOKENIZER) == count
