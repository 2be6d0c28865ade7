"""A manifest of parts of long recordings is read by everything that reads manifests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio
from asr.audio import Clip
from asr.corpus.check import Criteria, check
from asr.corpus.index import durations_of
from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.errors import AsrError
from asr.evaluate.calibrate import score_words
from asr.evaluate.dataset import evaluate
from asr.evaluate.tune import run_set
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.text.tokenizer import CharacterTokenizer
from asr.train.data import AudioCache
from asr.train.prepare import _refuse_overlap
from asr.transcribe.recogniser import load


@pytest.fixture(scope="module")
def joined(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list, list]:
    """Four utterances as files, and as parts of one long recording."""
    whole = read_manifest(corpus / "test.jsonl")[:4]
    folder = tmp_path_factory.mktemp("joined")
    samples = [soundfile.read(u.audio_filepath, dtype="int16")[0] for u in whole]
    path = folder / "long.flac"
    soundfile.write(path, np.concatenate(samples), 16000)
    starts = np.cumsum([0, *map(len, samples)]) / 16000
    parts = [
        replace(u, audio_filepath=str(path), offset=float(start), duration=len(s) / 16000)
        for u, start, s in zip(whole, starts, samples, strict=False)
    ]
    write_manifest(folder / "parts.jsonl", parts)
    write_manifest(folder / "whole.jsonl", whole)
    assert read_manifest(folder / "parts.jsonl") == parts
    return whole, parts


def test_evaluation_tuning_and_calibration_read_only_the_parts(joined, trained, tmp_path):
    recogniser = load(trained)
    results = []
    for utterances in joined:
        score, rows, _ = evaluate(recogniser, utterances)
        write_manifest(tmp_path / "m.jsonl", utterances)
        words = score_words(recogniser, str(tmp_path / "m.jsonl"))
        log_probs = run_set(recogniser, utterances)
        results.append(
            (score.wer, rows, words.confidences.tolist(), [x.tolist() for x in log_probs])
        )
    assert results[0] == results[1]
    assert len(results[0][1]) == 4
    [alone] = recogniser.transcribe(joined[1][1].source)
    [whole] = recogniser.transcribe(joined[0][1].source)
    assert (alone.text, alone.words) == (whole.text, whole.words)
    assert alone.path == joined[1][1].audio_filepath


def test_training_reads_only_the_parts(joined):
    caches = [
        (utterances, AudioCache(durations_of(utterances), 16000, limit))
        for utterances in joined
        for limit in (0, 10**7)
    ]
    for index in range(4):
        first, *others = [cache.load(index, found[index].source) for found, cache in caches]
        for samples in others:
            np.testing.assert_array_equal(samples, first)


def test_the_check_reads_only_the_parts(joined):
    criteria = Criteria(16000, Frontend().frames, Model().output_length, decode=True)
    whole, parts = joined
    assert not check(whole, CharacterTokenizer(), criteria).problems
    assert not check(parts, CharacterTokenizer(), criteria).problems
    beyond = replace(parts[3], duration=parts[3].duration + 2, id="beyond")
    report = check([*parts, beyond], CharacterTokenizer(), criteria)
    assert [key for key, _ in report.problems["unreadable"]] == ["beyond"]


def test_parts_that_overlap_are_not_in_two_of_train_dev_and_test(joined):
    _, parts = joined
    _refuse_overlap({"train": parts[:2], "test": parts[2:]})
    for train, test in ((parts[:3], parts[2:]), (parts[:1], [replace(parts[0], offset=None)])):
        with pytest.raises(
            AsrError, match=r"long\.flac is in data\.t.* have no recording in common"
        ):
            _refuse_overlap({"train": train, "test": test})


def test_lines_of_parts_get_ids_and_durations(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(80000), 16000)
    path = tmp_path / "m.jsonl"
    path.write_text(
        '{"audio_filepath": "a.wav", "offset": 1.5, "duration": 2, "text": ""}\n'
        '{"audio_filepath": "a.wav", "offset": 4, "text": "", "channel": 1}\n'
    )
    first, second = read_manifest(path)
    assert (first.id, second.id) == ("a-00001500", "a-00004000")
    assert (second.duration, second.channel) == (1.0, 1)
    assert first.source == Clip(str(tmp_path / "a.wav"), 1.5, 2.0)
    assert second.source == Clip(str(tmp_path / "a.wav"), 4.0, 1.0, 1)
    assert Utterance("b", "b.wav", 1.0, "", "").source == "b.wav"
    assert audio.length(first.source) == 2.0
