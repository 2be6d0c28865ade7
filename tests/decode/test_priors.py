"""Priors: the mean probability of each token, which a beam search may divide by."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from decoding_data import random_log_probs, spoken_log_probs, write_small_model

from asr.corpus.manifest import read_manifest
from asr.decode import DecoderOptions, make_decoder
from asr.decode.priors import from_plain, penalties, to_plain, token_priors
from asr.errors import AsrError
from asr.evaluate.calibrate import calibrate_to
from asr.evaluate.tune import run_set
from asr.text.tokenizer import CharacterTokenizer
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import load

TOKENIZER = CharacterTokenizer()
TEXT = "THE CAT SAT ON THE MAT"


def test_priors_are_means_over_frames_not_over_recordings() -> None:
    long, short = np.log([[0.5, 0.5]] * 3), np.log([[0.9, 0.1]])
    assert token_priors([long, short]) == pytest.approx([0.6, 0.4])
    with pytest.raises(AsrError, match="no recording is long enough"):
        token_priors([])
    with pytest.raises(AsrError, match="no recording is long enough"):
        token_priors([np.zeros((0, 3))])


def test_they_come_back_from_a_file_and_others_are_refused() -> None:
    priors = token_priors([random_log_probs(50, 4, 1)])
    found = from_plain(to_plain(priors), 4)
    assert found == pytest.approx(priors, abs=1e-6)
    assert from_plain(None, 4) is None
    for bad in ([0.5, 0.5], [0.5, 0.5, -0.1, 0.1], [0.5, float("nan"), 0, 0], "four", {"a": 1}):
        with pytest.raises(AsrError, match="must be 4 probabilities"):
            from_plain(bad, 4)


def test_a_token_that_is_never_written_gains_no_more_than_a_rare_one() -> None:
    found = penalties(np.array([0.9999, 1e-4, 0.0]), 0.5)
    assert found is not None
    assert found[1:] == pytest.approx([0.5 * np.log(1e-4)] * 2)
    assert penalties(None, 0.0) is None
    with pytest.raises(AsrError, match="asr calibrate"):
        penalties(None, 0.5)


@pytest.mark.parametrize("with_lm", [False, True])
def test_the_search_divides_by_a_power_of_the_priors(with_lm: bool, tmp_path: Path) -> None:
    lm = write_small_model(tmp_path) if with_lm else ""
    rows = spoken_log_probs(TEXT, TOKENIZER, 3, 1.6)
    priors = token_priors([rows])
    weighed = DecoderOptions("beam", lm=lm, prior_weight=0.5)
    decoder = make_decoder(weighed, TOKENIZER, priors=priors)
    found = decoder.decode(rows)[0]
    divided = rows - 0.5 * np.log(np.maximum(priors, 1e-4))
    expected = make_decoder(DecoderOptions("beam", lm=lm), TOKENIZER).decode(divided)[0]
    assert found.tokens == expected.tokens
    assert found.score == pytest.approx(expected.score, abs=1e-3)
    # Confidences are the network's posteriors all the same.
    posteriors = np.exp(rows[list(found.frames), list(found.tokens)])
    assert found.confidences == pytest.approx(posteriors, rel=1e-5)
    stream = decoder.stream()
    for first in range(0, len(rows), 7):
        stream.push(rows[first : first + 7])
    assert stream.finish() == found.tokens


def test_calibrate_measures_them_and_the_decoder_of_the_model_needs_them(
    trained: Path, corpus: Path, tmp_path: Path
) -> None:
    model, dev = tmp_path / "model.asr", str(corpus / "test.jsonl")
    model.write_bytes(trained.read_bytes())
    weighed = DecoderOptions("beam", prior_weight=0.3)
    source = read_manifest(corpus / "dev.jsonl")[0].audio_filepath
    with pytest.raises(AsrError, match=r"prior_weight=0\.3: the model file has no priors"):
        next(load(model).transcribe(source, TranscribeOptions(decoding=weighed)))
    calibrate_to(model, dev, decoding=weighed)
    recogniser = load(model)
    log_probs = run_set(recogniser, read_manifest(dev))
    assert recogniser.token_priors == pytest.approx(token_priors(log_probs), abs=1e-6)
    [transcript] = recogniser.transcribe(source, TranscribeOptions(decoding=weighed))
    assert transcript.text
    [same] = pickle.loads(pickle.dumps(recogniser)).transcribe(
        source, TranscribeOptions(decoding=weighed)
    )
    assert same.text == transcript.text
