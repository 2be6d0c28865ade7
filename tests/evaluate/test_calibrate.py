"""A calibration fitted on a dev set is stored in the model file; the network is unchanged."""

from pathlib import Path

import numpy as np
import pytest

from asr.corpus.manifest import read_manifest, write_manifest
from asr.decode.confidence import Calibration, calibration_error
from asr.errors import AsrError
from asr.evaluate.calibrate import (
    ScoredWords,
    calibrate_to,
    score_words,
    words_right,
)
from asr.model.file import copy_with_training
from asr.model.pack import pack
from asr.sparse import read
from asr.transcribe.recogniser import load

ABOUT = {"words": 5, "fitted_on": "dev.jsonl", "decoder": "greedy"}


def test_words_are_right_where_the_best_alignment_has_them_equal() -> None:
    assert words_right("A B C", ["A", "X", "C"]) == [True, False, True]
    assert words_right("A B", ["X", "A", "B"]) == [False, True, True]
    assert words_right("", ["X"]) == [False]
    assert words_right("A", []) == []


def test_confidences_of_a_calibrated_file_are_the_rate_of_right_words(
    trained: Path, corpus: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.asr"
    unsure = {"confidence": Calibration(1.0, -3.0).to_plain()}
    copy_with_training(trained, plain, unsure)
    out = tmp_path / "out.asr"
    printed = calibrate_to(plain, str(corpus / "test.jsonl"), out)
    assert "| Confidence | Words | Mean confidence | Right |" in printed
    assert read(out)[1]["training"]["confidence"]["fitted_on"] == "test.jsonl"

    before, after = (score_words(load(p), str(corpus / "test.jsonl")) for p in (plain, out))
    assert len(after.right) > 100
    assert (before.right == after.right).all()
    assert calibration_error(after.rows(5)) < 0.5 * calibration_error(before.rows(5))
    assert f"{len(after.right)} words" in printed
    assert "a right word is more confident than a wrong one" in printed
    # The map may not change the order of the words.
    assert (np.argsort(before.confidences) == np.argsort(after.confidences)).mean() > 0.99


def test_the_network_is_the_same_and_a_packed_copy_has_the_map(
    trained: Path, tmp_path: Path
) -> None:
    for dense in (False, True):
        source = trained
        if dense:
            from asr.model.file import load_model, save_model

            loaded = load_model(trained)
            source = tmp_path / "dense.asr"
            save_model(source, loaded.model, loaded.tokenizer, loaded.frontend, {"name": "x"})
        out = tmp_path / f"out{dense}.asr"
        copy_with_training(source, out, {"confidence": Calibration(1.5, 0.5).to_plain() | ABOUT})
        (before, old), (after, new) = read(source), read(out)
        assert all((before[name] == after[name]).all() for name in before | after)
        assert new["training"].pop("confidence") == {"slope": 1.5, "offset": 0.5} | ABOUT
        old["training"].pop("confidence", None)
        assert old == new
        assert load(out).calibration == Calibration(1.5, 0.5)
        # The table of tensors is the same: only the metadata may have grown.
        assert abs(out.stat().st_size - source.stat().st_size) < 300
    pack(tmp_path / "outTrue.asr", tmp_path / "packed.asr")
    assert load(tmp_path / "packed.asr").calibration == Calibration(1.5, 0.5)


def test_too_few_recordings_change_no_file(trained: Path, corpus: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.asr"
    model.write_bytes(trained.read_bytes())
    utterances = read_manifest(corpus / "test.jsonl")
    recogniser = load(trained)
    for utterance in utterances:
        [transcript] = recogniser.transcribe(utterance.audio_filepath)
        if transcript.text == utterance.text:
            break
    write_manifest(tmp_path / "one.jsonl", [utterance])
    with pytest.raises(AsrError, match="words are right; calibration needs both kinds"):
        calibrate_to(model, str(tmp_path / "one.jsonl"))
    assert model.read_bytes() == trained.read_bytes()


def test_a_file_with_a_bad_map_is_refused(trained: Path, tmp_path: Path) -> None:
    copy_with_training(trained, tmp_path / "bad.asr", {"confidence": {"slope": -1, "offset": 0}})
    with pytest.raises(AsrError, match=r"slope=-1: must be above 0"):
        load(tmp_path / "bad.asr")


def test_no_words_are_refused_and_figures_are_printed(corpus: Path) -> None:
    figures = str(ScoredWords(np.array([0.25, 0.75]), np.array([False, True])))
    assert figures == (
        "2 words, 50.0 % right; calibration error 25.0 %; "
        "a right word is more confident than a wrong one in 100.0 %"
    )
