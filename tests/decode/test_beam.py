"""The beam search against an enumeration of all alignments, and in C against Python."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pytest
from decoding_data import random_log_probs, small_model, spoken_log_probs, write_small_model

from asr import audio
from asr.corpus.manifest import read_manifest
from asr.decode import DecoderOptions, Hypothesis, make_decoder
from asr.decode import library as native_module
from asr.decode.beam import BeamDecoder
from asr.decode.library import native
from asr.decode.lm.open import open_lm
from asr.decode.reference import search
from asr.model.backend import open_backend
from asr.text.tokenizer import CharacterTokenizer, SentencePieceTokenizer, train_sentencepiece

CHARACTERS = CharacterTokenizer()
WIDE = {"beam": 10_000, "beam_threshold": math.inf, "token_threshold": math.inf}
TEXT = "THE CAT SAT ON THE MAT"


def by_hand(log_probs: np.ndarray) -> dict[tuple[int, ...], tuple[float, float, tuple[int, ...]]]:
    """Of every token sequence: log of the sum over alignments, of the best one, its frames."""
    frames, size = log_probs.shape
    found: dict[tuple[int, ...], tuple[float, float, tuple[int, ...]]] = {}
    for path in product(range(size), repeat=frames):
        score = sum(float(log_probs[t, token]) for t, token in enumerate(path))
        runs = [(token, [t for t, _ in run]) for token, run in groupby(enumerate(path), _token)]
        written = [(u, max(ts, key=lambda t: log_probs[t, u])) for u, ts in runs if u]
        written = [pair for i, pair in enumerate(written) if not is_ignored(written, i)]
        tokens = tuple(token for token, _ in written)
        spikes = tuple(spike for _, spike in written)
        total, best, best_spikes = found.get(tokens, (-math.inf, -math.inf, ()))
        if score > best:
            best, best_spikes = score, spikes
        found[tokens] = (np.logaddexp(total, score), best, best_spikes)
    return found


def is_ignored(written: list[tuple[int, int]], place: int) -> bool:
    """Spaces before the first word, or after another space."""
    return written[place][0] == 1 and (place == 0 or written[place - 1][0] == 1)


def _token(pair: tuple[int, int]) -> int:
    return pair[1]


def python_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_NATIVE", "0")
    native_module.library.cache_clear()


@pytest.fixture(autouse=True)
def _library_anew(monkeypatch: pytest.MonkeyPatch):
    yield
    monkeypatch.undo()
    native_module.library.cache_clear()


class FewTokens(CharacterTokenizer):
    """Blank, space, apostrophe and A: few enough to enumerate every alignment."""

    tokens = CharacterTokenizer().tokens[:4]  # type: ignore[assignment]


@pytest.mark.parametrize("seed", range(4))
def test_every_alignment_of_a_prefix_is_counted_and_the_best_gives_its_frames(seed):
    log_probs = random_log_probs(5, 4, seed)
    decoder = BeamDecoder(DecoderOptions("beam", **WIDE), FewTokens())
    expected = by_hand(log_probs)
    for found in decoder._search(log_probs):
        total, _, spikes = expected.pop(found.tokens)
        assert found.acoustic_score == found.score == pytest.approx(total, abs=1e-9)
        assert found.frames == spikes
    assert all(len(tokens) > 5 for tokens in expected)  # nothing that fits was missed


def test_a_word_is_scored_where_it_ends_and_the_sentence_at_its_end(tmp_path):
    path = write_small_model(tmp_path)
    lm = open_lm(path)
    options = DecoderOptions("beam", lm=path, lm_weight=0.7, word_bonus=1.5, unknown_score=-2.0)
    decoder = make_decoder(options, CHARACTERS)
    for text, unknown in ((TEXT, 0), ("THE CAT ATE", 1), ("XYZ", 1)):
        best = decoder.decode(spoken_log_probs(text, CHARACTERS, 1, 0.3))[0]
        words = text.split()
        lm_score = sum(score for score, _ in lm.sentence(text))
        assert best.text == text
        assert best.lm_score == pytest.approx(lm_score)
        expected = best.acoustic_score + 0.7 * lm_score + 1.5 * len(words) - 2.0 * unknown
        assert best.score == pytest.approx(expected)


def test_a_language_model_corrects_what_the_network_got_wrong(tmp_path):
    log_probs = spoken_log_probs(TEXT, CHARACTERS, 5, 1.6)
    alone = make_decoder(DecoderOptions("beam"), CHARACTERS).decode(log_probs)[0]
    options = DecoderOptions("beam", lm=write_small_model(tmp_path), lm_weight=1.0)
    helped = make_decoder(options, CHARACTERS).decode(log_probs)[0]
    assert alone.text != TEXT
    assert helped.text == TEXT


def test_closed_vocabulary_writes_words_of_the_model_only(tmp_path):
    options = DecoderOptions(
        "beam", lm=write_small_model(tmp_path), lm_weight=0.1, unknown_score=-math.inf
    )
    text = make_decoder(options, CHARACTERS).decode(spoken_log_probs("THE CAP", CHARACTERS, 1, 1))
    known = small_model().spellings()
    assert all(word in known for word in text[0].text.split())
    several = make_decoder(replace(options, nbest=8), CHARACTERS)
    for hypothesis in several.decode(spoken_log_probs("THE CAP", CHARACTERS, 1, 1)):
        assert hypothesis.score > -math.inf
        assert all(word in known for word in hypothesis.text.split())


def test_nbest_is_sorted_without_repeated_texts():
    options = DecoderOptions("beam", nbest=8)
    found = make_decoder(options, CHARACTERS).decode(spoken_log_probs(TEXT, CHARACTERS, 2, 1.5))
    scores = [hypothesis.score for hypothesis in found]
    assert len(found) == 8
    assert len({hypothesis.text for hypothesis in found}) == 8
    assert scores == sorted(scores, reverse=True)
    for hypothesis in found:
        assert len(hypothesis.tokens) == len(hypothesis.frames) == len(hypothesis.confidences)
        assert list(hypothesis.frames) == sorted(hypothesis.frames)
        assert all(0 <= confidence <= 1 for confidence in hypothesis.confidences)


def test_on_sure_log_probs_the_beam_search_equals_greedy_and_its_frames():
    log_probs = spoken_log_probs(TEXT, CHARACTERS, 3, 0.5)
    greedy = make_decoder(DecoderOptions(), CHARACTERS).decode(log_probs)[0]
    beam = make_decoder(DecoderOptions("beam"), CHARACTERS).decode(log_probs)[0]
    assert greedy.text == TEXT
    assert (beam.tokens, beam.frames) == (greedy.tokens, greedy.frames)
    assert beam.confidences == pytest.approx(greedy.confidences)


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_no_frames_give_no_words(decoder):
    found = make_decoder(DecoderOptions(decoder), CHARACTERS).decode(np.zeros((0, 29), np.float32))
    assert found == [Hypothesis((), (), (), "", 0.0, 0.0, 0.0)]


def test_impossible_tokens_are_left_out():
    log_probs = np.full((3, 29), -np.inf, dtype=np.float32)
    log_probs[:, 3] = [0.0, -np.inf, 0.0]
    log_probs[1, 0] = 0.0
    best = make_decoder(DecoderOptions("beam"), CHARACTERS).decode(log_probs)[0]
    assert (best.text, best.score, best.frames) == ("AA", 0.0, (0, 2))


def test_several_threads_use_one_decoder(tmp_path):
    decoder = make_decoder(DecoderOptions("beam", lm=write_small_model(tmp_path)), CHARACTERS)
    rows = [spoken_log_probs(TEXT, CHARACTERS, seed, 1.5) for seed in range(8)]
    alone = [decoder.decode(row) for row in rows]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(decoder.decode, rows)) == alone


# --- C and Python ---


def sentencepiece(tmp_path: Path) -> SentencePieceTokenizer:
    return train_sentencepiece(
        [TEXT, "A DOG RAN TO THE DOOR BY THE BENCH"], 40, tmp_path / "tokenizer"
    )


def in_both(options: DecoderOptions, tokenizer, log_probs: np.ndarray):
    """The prefixes that C finds and those that Python finds."""
    decoder = BeamDecoder(options, tokenizer)
    assert decoder._native is not None
    limits = (options.beam, options.beam_threshold, options.token_threshold)
    return decoder._search(log_probs), search(log_probs, decoder.scorer, *limits)


needs_c = pytest.mark.skipif(native() != "C", reason="the C library was not built")


@needs_c
@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
@pytest.mark.parametrize("noise", [0.5, 1.5, 2.5])
def test_c_gives_the_same_numbers_as_python(kind, noise, tmp_path):
    tokenizer = CHARACTERS if kind == "characters" else sentencepiece(tmp_path)
    lm = write_small_model(tmp_path)
    settings = [
        DecoderOptions("beam", beam=16),
        DecoderOptions("beam", beam=8, lm=lm, lm_weight=0.8, word_bonus=0.7, unknown_score=-3.0),
        DecoderOptions("beam", beam=8, lm=lm, phrases=("THE MAT", "THE MAN RAN", "BENCH")),
        DecoderOptions("beam", beam=5, lm=lm, unknown_score=-math.inf, beam_threshold=5.0),
    ]
    for seed, options in enumerate(settings):
        speech = spoken_log_probs(TEXT, tokenizer, seed, noise)
        for log_probs in (speech, random_log_probs(20, tokenizer.size, seed)):
            in_c, in_python = in_both(options, tokenizer, log_probs)
            assert in_c == in_python


@needs_c
def test_c_gives_the_same_numbers_as_python_on_a_trained_network(trained, corpus, tmp_path):
    backend = open_backend(trained, backend="torch")
    utterances = read_manifest(corpus / "test.jsonl")[:2]
    rows = [backend.features(audio.load(u.audio_filepath).samples) for u in utterances]
    options = DecoderOptions("beam", beam=8, lm=write_small_model(tmp_path), lm_weight=0.3)
    for log_probs in backend.log_probs(rows):
        in_c, in_python = in_both(options, backend.tokenizer, log_probs)
        assert in_c == in_python


def test_without_the_library_python_decodes_and_is_named(monkeypatch):
    log_probs = spoken_log_probs("A CAT", CHARACTERS, 1, 0.5)
    with_library = make_decoder(DecoderOptions("beam"), CHARACTERS).decode(log_probs)
    python_only(monkeypatch)
    assert native() == "Python"
    assert make_decoder(DecoderOptions("beam"), CHARACTERS).decode(log_probs) == with_library
