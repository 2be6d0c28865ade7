"""Our beam search against torchaudio's: the same texts, scores and frames."""

import math
import sys

import numpy as np
import pytest
from decoding_data import SENTENCES, spoken_log_probs, write_small_model

from asr import audio
from asr.corpus.manifest import read_manifest
from asr.decode import DecoderOptions, make_decoder
from asr.decode.lm.build import build_model
from asr.decode.lm.file import write_lm
from asr.decode.lm.train import number_words, train_ngrams
from asr.model.backend import open_backend
from asr.text.tokenizer import CharacterTokenizer, train_sentencepiece

if sys.version_info >= (3, 13):
    pytest.skip("flashlight-text has no wheel for this Python", allow_module_level=True)
from torchaudio_beam import TorchaudioBeam

CHARACTERS = CharacterTokenizer()


def both(tokenizer, **options):
    """Our decoder and torchaudio's with the same options and the same vocabulary."""
    closed = {"unknown_score": -math.inf} if "lm" in options else {}
    chosen = DecoderOptions("beam", **options, **closed)
    return make_decoder(chosen, tokenizer), TorchaudioBeam(chosen, tokenizer)


def test_a_clear_utterance_gives_equal_texts_scores_and_frames(tmp_path):
    ours, theirs = both(CHARACTERS, lm=write_small_model(tmp_path), lm_weight=0.7, word_bonus=0.5)
    log_probs = spoken_log_probs(SENTENCES[0], CHARACTERS, 1, 0.5)
    a, b = ours.decode(log_probs)[0], theirs.decode(log_probs)[0]
    assert a.text == b.text == SENTENCES[0]
    assert a.frames == b.frames
    assert a.confidences == pytest.approx(b.confidences)
    assert a.lm_score == pytest.approx(b.lm_score)
    assert a.score == pytest.approx(b.score, abs=0.1)
    assert a.acoustic_score == pytest.approx(b.acoustic_score, abs=0.1)


@pytest.mark.parametrize("sentencepiece", [False, True])
def test_with_a_language_model_nearly_all_noisy_utterances_give_equal_texts(
    sentencepiece, tmp_path
):
    tokenizer = (
        train_sentencepiece(SENTENCES, 30, tmp_path / "tokenizer") if sentencepiece else CHARACTERS
    )
    ours, theirs = both(tokenizer, lm=write_small_model(tmp_path), lm_weight=0.8, nbest=2)
    equal = 0
    for seed in range(40):
        log_probs = spoken_log_probs(SENTENCES[seed % 8], tokenizer, seed, 1.8)
        equal += ours.decode(log_probs)[0].text == theirs.decode(log_probs)[0].text
    assert equal >= 37


def test_without_a_language_model_utterances_give_equal_texts_and_frames():
    ours, theirs = both(CHARACTERS)
    for seed in range(10):
        log_probs = spoken_log_probs(SENTENCES[seed % 8], CHARACTERS, seed, 1.3)
        a, b = ours.decode(log_probs)[0], theirs.decode(log_probs)[0]
        assert (a.text, a.frames) == (b.text, b.frames)
        assert b.lm_score == 0.0


def test_log_probs_of_a_trained_network_give_equal_texts(trained, corpus, tmp_path):
    backend = open_backend(trained, backend="torch")
    utterances = read_manifest(corpus / "test.jsonl")[:20]
    # The test texts too: this is about agreement, not a word error rate.
    manifests = (corpus / "train.jsonl", corpus / "test.jsonl")
    texts = [utterance.text for path in manifests for utterance in read_manifest(path)]
    write_lm(tmp_path / "m.lm", build_model(train_ngrams(number_words(texts), 2, (1,)).ngrams))
    ours, theirs = both(backend.tokenizer, lm=str(tmp_path / "m.lm"), lm_weight=0.5)
    equal = total = 0
    for utterance in utterances:
        features = backend.features(audio.load(utterance.audio_filepath).samples)
        [log_probs] = backend.log_probs([features])
        a, b = ours.decode(log_probs)[0], theirs.decode(log_probs)[0]
        equal, total = equal + (a.text == b.text), total + 1
    assert equal >= 0.9 * total


def test_no_frames_give_no_words(tmp_path):
    for options in ({}, {"lm": write_small_model(tmp_path)}):
        found = both(CHARACTERS, **options)[1].decode(np.zeros((0, 29), np.float32))
        assert found[0].text == ""
        assert found[0].tokens == ()
