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
    write_calibration,
)
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
    write_calibration(trained, plain, Calibration(1.0, -3.0), ABOUT)  # far too unsure
    out = tmp_path / "out.asr"
    printed = calibrate_to(plain, str(corpus / "test.jsonl"), out)
    assert "| Confidence | Words | Mean confidence | Right |" in printed
    assert read(out)[1]["training"]["confidence"]["fitted_on"] == "test.jsonl"

    unsure, sure = (score_words(load(p), str(corpus / "test.jsonl")) for p in (plain, out))
    assert len(sure.right) > 100
    assert (unsure.right == sure.right).all()
    assert calibration_error(sure.rows(5)) < 0.5 * calibration_error(unsure.rows(5))
    assert f"{len(sure.right)} words" in printed
    assert "a right word is more confident than a wrong one" in printed
    # The map may not change the order of the words.
    assert (np.argsort(unsure.confidences) == np.argsort(sure.confidences)).mean() > 0.99


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
        write_calibration(source, out, Calibration(1.5, 0.5), ABOUT)
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
    write_calibration(trained, tmp_path / "bad.asr", Calibration(), {"slope": -1.0})
    with pytest.raises(AsrError, match=r"slope=-1\.0: must be above 0"):
        load(tmp_path / "bad.asr")


def test_no_words_are_refused_and_figures_are_printed(corpus: Path) -> None:
    figures = str(ScoredWords(np.array([0.25, 0.75]), np.array([False, True])))
    assert figures == (
        "2 words, 50.0 % right; calibration error 25.0 %; "
        "a right word is more confident than a wrong one in 100.0 %"
    )
