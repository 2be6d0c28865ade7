"""What trainings cost: read from finished run folders, and steps that are timed."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT
from report_records import plain_record

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.file import save_model
from asr.model.torch_network import DeepSpeech
from asr.pruning import OneShot, Pruner, Rule
from asr.report.measurements import Measurement, read_measurement
from asr.settings.run import Run
from asr.settings.yaml import write_yaml
from asr.text.tokenizer import CharacterTokenizer

MODULE = runpy.run_path(str(ROOT / "recipes" / "shipped" / "cost.py"))
MAIN = MODULE["main"]
HEADING = "epoch,step,seconds,learning_rate,train_loss,dev_loss,dev_wer,sparsity\n"
SMALL = Model(mels=8, conv_channels=[4, 4], hidden=16, layers=1)


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def training(folder: Path, name: str, rates: list[float], kept: float, final_step: int = 0) -> Path:
    """A run folder whose validations, one after every 100 steps, had these error rates."""
    made = folder / name
    made.mkdir(parents=True)
    record = plain_record(name, tests={}, sparsity=0.9 if final_step else None)
    record["training"] |= {"dev_wer": kept, "steps": 100 * len(rates)}
    if final_step:
        record["pruning"]["curve"] = [[50, 0.5], [final_step, 0.9], [final_step + 10, 0.9]]
    (made / "record.json").write_text(json.dumps(record))
    rows = [f"{i},{100 * i},{3600 * i},0.001,1.0,1.0,{rate}," for i, rate in enumerate(rates, 1)]
    (made / "metrics.csv").write_text(HEADING + "\n".join(rows) + "\n")
    settings = Run(name=name, model=SMALL, frontend=Frontend(mels=8))
    write_yaml(
        made / "config.yaml", replace(settings, data=replace(settings.data, batch_seconds=20.0))
    )
    network = DeepSpeech(SMALL)
    if final_step:
        Pruner(network, Rule(OneShot(1, 0.9), ["rnn*"])).step()
    save_model(made / "model.asr", network, CharacterTokenizer(), Frontend(mels=8))
    return made


def measured(tmp_path: Path, *arguments: Any) -> Measurement:
    record = tmp_path / "cost.json"
    assert MAIN([*map(str, arguments), "--allow-busy", "-o", str(record)]) == 0
    return read_measurement(record)


def test_epochs_and_hours_until_another_network_was_as_good(tmp_path: Path) -> None:
    large = training(tmp_path, "large", [0.9, 0.5, 0.4, 0.3], 0.3)
    small = training(tmp_path, "small", [0.95, 0.8, 0.45, 0.5], 0.45)
    found = measured(tmp_path, large, small, "--reach", "small", "large")
    rows = found.rows
    assert [row["wer"] for row in rows] == [0.3, 0.45]
    assert [row["reach small"].split()[0] for row in rows] == ["3", "3"]
    assert [row["reach large"].split()[0] for row in rows] == ["4", "never"]
    for row in rows:
        assert row["hours"] == pytest.approx(400 / row["steps_per_second"] / 3600, rel=1e-4)


def test_a_pruned_network_has_two_speeds_and_is_not_as_good_before_its_zeros_are_there(
    tmp_path: Path,
) -> None:
    dense = training(tmp_path, "dense", [0.9, 0.5, 0.4, 0.4], 0.4)
    sparse = training(tmp_path, "sparse", [0.35, 0.6, 0.5, 0.4], 0.4, final_step=150)
    [_, row] = measured(tmp_path, dense, sparse, "--reach", "dense").rows
    assert row["reach dense"].startswith("4 ")
    before, after = row["steps_per_second"], row["final_steps_per_second"]
    assert row["hours"] == pytest.approx((150 / before + 250 / after) / 3600, rel=1e-4)


def test_a_network_whose_zeros_were_there_from_the_start_makes_sparse_steps_only(
    tmp_path: Path,
) -> None:
    tuned = training(tmp_path, "tuned", [0.5, 0.4], 0.4, final_step=150)
    record = json.loads((tuned / "record.json").read_text())
    record["pruning"]["curve"] = []
    (tuned / "record.json").write_text(json.dumps(record))
    [row] = measured(tmp_path, tuned, "--reach", "tuned").rows
    assert row["reach tuned"].startswith("2 ")
    assert row["hours"] == pytest.approx(200 / row["final_steps_per_second"] / 3600, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no validation"), ("a,b\n1,2\n", "not the metrics"), (HEADING, "no validation")],
)
def test_a_folder_without_validations_is_refused(tmp_path: Path, text: str, message: str) -> None:
    made = training(tmp_path, "one", [0.5], 0.5)
    (made / "metrics.csv").write_text(text)
    with pytest.raises(AsrError, match=message):
        MAIN([str(made)])


def test_what_is_to_be_reached_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="other"):
        MAIN([str(training(tmp_path, "one", [0.5], 0.5)), "--reach", "other"])


def test_two_run_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    folders = [training(tmp_path / place, "one", [0.5], 0.5) for place in ("a", "b")]
    with pytest.raises(AsrError, match="two of the run folders are called one"):
        MAIN([str(folder) for folder in folders])
