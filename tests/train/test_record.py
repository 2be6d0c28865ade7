"""A record of a run contains no folders of this machine."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from paths import ROOT

from asr.corpus.manifest import read_manifest, write_manifest
from asr.corpus.spoken.settings import Spoken
from asr.plain import to_plain
from asr.settings.data import AugmentSettings, DataSettings
from asr.settings.run import Run
from asr.train.record import _evaluate, command, name_only, without_folders
from asr.transcribe.recogniser import load

SAID = "/home/me/runs/shipped/lines.txt"


def test_settings_in_a_record_name_files_but_no_folders_of_this_machine() -> None:
    run = Run(
        init="/home/me/runs/a/model.asr",
        runs="/home/me/runs",
        data=DataSettings(
            root="/home/me/speech",
            train=["/home/me/a/train.jsonl", "spoken:train"],
            dev=["b/dev.jsonl"],
            test=["/home/me/test-clean"],
            spoken=Spoken(text=[SAID, "b.txt"], folder="/home/me/x"),
        ),
        augment=AugmentSettings(
            noise_folder="/home/me/noise/esc10",
            noise_probability=0.5,
            response_folder="rooms",
            reverberation_probability=0.5,
        ),
    )
    plain = without_folders(to_plain(run))
    assert "/home" not in str(plain)
    assert plain["init"] == "a/model.asr"
    assert plain["data"]["spoken"]["text"] == ["shipped/lines.txt", "b.txt"]
    assert plain["data"]["train"] == ["a/train.jsonl", "spoken:train"]
    assert plain["data"]["dev"] == ["b/dev.jsonl"]
    assert plain["data"]["test"] == ["me/test-clean"]
    assert plain["augment"]["noise_folder"] == "noise/esc10"
    assert plain["augment"]["response_folder"] == "rooms"


def test_speakers_that_are_unknown_are_not_counted(
    trained: Path, corpus: Path, tmp_path: Path
) -> None:
    utterances = [replace(u, speaker="") for u in read_manifest(corpus / "dev.jsonl")[:2]]
    write_manifest(tmp_path / "dev.jsonl", utterances)
    tested = _evaluate(load(trained), f"{tmp_path}/dev.jsonl", tmp_path / "ref_hyp.txt", Run())
    assert tested.speakers is None
    assert "speakers" not in tested.conditions


def test_a_command_names_files_but_no_folders_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["/home/me/plan/a.yaml", "data.root=/home/me/speech", "seed=2", "data.train=[a,b]"]
    monkeypatch.setattr(
        sys, "argv", ["/usr/bin/asr", "train", *words, f"data.spoken.text=[{SAID}]"]
    )
    expected = (
        "asr train plan/a.yaml seed=2 'data.train=[a,b]' 'data.spoken.text=[shipped/lines.txt]'"
    )
    assert command() == expected


def test_a_command_names_no_folder_of_this_machine() -> None:
    recipe = str(ROOT / "recipes" / "shipped" / "training.yaml")
    assert name_only(recipe) == "recipes/shipped/training.yaml"
    assert name_only("init=/home/somebody/runs/x/model.asr") == "init=x/model.asr"
    assert name_only("data.spoken.text=[/home/somebody/a/lines.txt]") == (
        "data.spoken.text=[a/lines.txt]"
    )
    assert name_only("model.hidden=64") == "model.hidden=64"
