"""Weight and word bonus of a language model are tuned on a dev set, never on a test set."""

from pathlib import Path

import pytest

from asr.corpus.manifest import read_manifest
from asr.decode import DecoderOptions
from asr.decode.lm.commands import lm_train
from asr.decode.lm.tune import tune
from asr.errors import AsrError
from asr.evaluate.dataset import evaluate
from asr.evaluate.tune import lm_tune, run_set, word_error_rate
from asr.model.file import copy_with_training
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import load


@pytest.fixture(scope="module")
def lm(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "m.lm"
    lm_train([corpus / "train.jsonl"], path, order=2, cutoffs="1")
    return path


def test_a_dev_set_is_decoded_with_every_pair_and_the_best_is_printed(
    trained: Path, corpus: Path, lm: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t.tsv"
    printed = lm_tune(trained, str(corpus / "dev.jsonl"), lm, "0.3,0.6", "0", output=table)
    assert "--lm-weight 0." in printed
    assert len(table.read_text().splitlines()) == 3


def test_prior_weights_are_tried_where_the_model_has_priors(
    trained: Path, corpus: Path, lm: Path, tmp_path: Path
) -> None:
    table, dev = tmp_path / "t.tsv", str(corpus / "dev.jsonl")
    lm_tune(trained, dev, lm, "0.3", "0", output=table)
    assert [line.split("\t")[2] for line in table.read_text().splitlines()[1:]] == ["0.0"]
    with pytest.raises(AsrError, match=r"prior_weight=0\.5: the model file has no priors"):
        lm_tune(trained, dev, lm, "0.3", "0", "0.5")
    priors = load(trained).tokenizer.size * [0.02]
    copy_with_training(trained, tmp_path / "with.asr", {"priors": priors})
    printed = lm_tune(tmp_path / "with.asr", dev, lm, "0.3", "0", output=table)
    tried = sorted(line.split("\t")[2] for line in table.read_text().splitlines()[1:])
    assert tried == ["0.0", "0.3", "0.5", "0.7"]
    assert "--prior-weight 0" in printed


def test_the_rate_of_a_pair_is_that_of_an_evaluation_with_it(
    trained: Path, corpus: Path, lm: Path
) -> None:
    recogniser = load(trained)
    utterances = read_manifest(corpus / "dev.jsonl")
    log_probs = run_set(recogniser, utterances)
    options = DecoderOptions("beam", lm=str(lm))
    rate = word_error_rate(utterances)
    [trial] = tune(log_probs, rate, recogniser.tokenizer, options, [0.6], [1.0])
    tuned = DecoderOptions("beam", lm=str(lm), lm_weight=0.6, word_bonus=1.0)
    figures, _, _ = evaluate(recogniser, utterances, TranscribeOptions(decoding=tuned))
    assert trial.wer == figures.wer


@pytest.mark.parametrize(
    "name", ["test.jsonl", "spoken:test", "libri/test-clean", "test/manifest.json"]
)
def test_a_test_set_is_refused_by_its_name(trained: Path, name: str, tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="is a test set by its name"):
        lm_tune(trained, name, tmp_path / "m.lm")


def test_a_dev_set_in_a_folder_called_test_is_not_refused_for_it(
    trained: Path, tmp_path: Path
) -> None:
    dev = tmp_path / "test" / "LibriSpeech" / "dev-clean.jsonl"
    with pytest.raises(AsrError, match="no such manifest"):
        lm_tune(trained, str(dev), tmp_path / "m.lm")


def test_weights_that_are_not_numbers_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(AsrError, match=r"weights='0\.2;0\.4': numbers with commas between them"):
        lm_tune(trained, "dev.jsonl", tmp_path / "m.lm", "0.2;0.4")
