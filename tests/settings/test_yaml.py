"""Settings: YAML and key=value in, every mistake of a person out."""

from pathlib import Path

import pytest
from places import ROOT

from asr.errors import AsrError
from asr.settings.run import Run
from asr.settings.yaml import describe, load, to_plain, write_yaml
from asr.train.grid import read_grid

RECIPES = ROOT / "recipes"
SINGLE = sorted(p for p in RECIPES.glob("*.yaml") if "runs:" not in p.read_text())
GRIDS = sorted(p for p in RECIPES.glob("*.yaml") if "runs:" in p.read_text())


def test_overrides_win_over_the_file_and_types_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: x\nmodel:\n  hidden: 32\n  layers: 2\n")
    settings = load(Run, path, ["model.hidden=64", "augment.speeds=[1.0]", "model.cell=lstm"])
    assert (settings.name, settings.model.hidden, settings.model.layers) == ("x", 64, 2)
    assert settings.augment.speeds == [1.0]
    assert settings.model.cell == "lstm"


def test_text_settings_take_what_stands_behind_the_sign() -> None:
    settings = load(Run, None, ["label=GRU: 90 %, a=b", "init="])
    assert (settings.label, settings.init) == ("GRU: 90 %, a=b", "")


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    settings = load(Run, None, ["model.conv_channels=[8, 16]", "data.train=[a.jsonl]"])
    write_yaml(tmp_path / "x.yaml", settings)
    assert load(Run, tmp_path / "x.yaml") == settings


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("model.hiden=64", "Did you mean: 'hidden'"),
        ("modle.hidden=64", "Did you mean: 'model'"),
        ("model.hidden=wide", "could not be converted to Integer"),
        ("model.cell=gur", "expected one of ['gru', 'lstm', 'rnn_tanh', 'rnn_relu']"),
        ("model.hidden", "settings are given as key=value"),
        ("pruning.tensors=[*hh*]", "needs quotes"),
        ("model.hidden=0", "model.hidden=0: at least 1"),
        ("model.conv_kernels=[[4,5],[5,5]]", "must be two odd numbers"),
        ("frontend.mels=40", "model.mels=80, frontend.mels=40: must be equal"),
        ("pruning.target=90", "pruning.target=90.0: from 0 to below 1"),
        ("pruning.block=[16]", "[rows, columns], at least"),
        ("pruning.method=cubic pruning.target=0.9 pruning.keep_zeros=true", "init is empty"),
        ("pruning.lasso=-1", "lasso=-1.0: not negative"),
        ("data.max_seconds=500", "must fit into a batch"),
        ("augment.speeds=[]", "one or more factors"),
        ("frontend.high_hertz=9000", "half the sample rate"),
        ("pruning.method=fixed_mask", "init is empty"),
        ("augment.noise_folder=noise", "augment.noise_probability=0 uses no noise"),
        ("data.test=a.jsonl", "a list is written as [a,b]"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(override: str, fragment: str) -> None:
    with pytest.raises(AsrError) as error:
        load(Run, None, override.split())
    assert fragment in str(error.value)


def test_all_mistakes_of_a_file_are_shown_together(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("nam: x\nmodel:\n  hiden: 3\n  layers: many\n")
    with pytest.raises(AsrError) as error:
        load(Run, path, [])
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert all(str(path) in line for line in lines)


def test_ranges_of_several_sections_are_shown_together() -> None:
    with pytest.raises(AsrError) as error:
        load(Run, None, ["model.layers=0", "optimiser.warmup=2", "training.epochs=0"])
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1", "just words"])
def test_a_file_that_is_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(AsrError, match=r"x\.yaml"):
        load(Run, path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="no such settings file"):
        load(Run, tmp_path / "none.yaml")


@pytest.mark.parametrize("path", SINGLE, ids=lambda p: p.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    assert load(Run, path).data.train


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.stem)
def test_every_run_of_a_shipped_grid_loads(path: Path) -> None:
    plan = read_grid(path, [])  # loads the settings of every run
    assert len(plan.runs) >= 3
    assert plan.base.is_file()


def test_every_setting_says_what_it_means() -> None:
    rows = describe(Run)
    assert len(rows) > 70
    assert [key for key, _, _, meaning in rows if not meaning] == []
    assert to_plain(Run())["model"]["hidden"] == 256
