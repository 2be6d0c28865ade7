"""Settings from YAML and key=value; every mistake is refused with its place and advice."""

from pathlib import Path

import pytest
from paths import ROOT

from asr.errors import AsrError
from asr.plain import to_plain
from asr.settings.run import Run
from asr.settings.yaml import describe, load, write_yaml
from asr.train.grid import read_grid

RECIPES = ROOT / "recipes"
SINGLE = sorted(p for p in RECIPES.rglob("*.yaml") if "runs:" not in p.read_text())
GRIDS = sorted(p for p in RECIPES.rglob("*.yaml") if "runs:" in p.read_text())


def test_overrides_win_over_the_file_and_have_the_right_types(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: x\nmodel:\n  hidden: 32\n  layers: 2\n")
    settings = load(Run, path, ["model.hidden=64", "augment.speeds=[1.0]", "model.cell=lstm"])
    assert (settings.name, settings.model.hidden, settings.model.layers) == ("x", 64, 2)
    assert settings.augment.speeds == [1.0]
    assert settings.model.cell == "lstm"


def test_a_text_setting_takes_everything_after_the_equals_sign() -> None:
    settings = load(Run, None, ["label=GRU: 90 %, a=b", "init="])
    assert (settings.label, settings.init) == ("GRU: 90 %, a=b", "")


def test_settings_that_are_written_read_back_the_same(tmp_path: Path) -> None:
    settings = load(Run, None, ["model.conv_channels=[8, 16]", "data.train=[a.jsonl]"])
    write_yaml(tmp_path / "x.yaml", settings)
    assert load(Run, tmp_path / "x.yaml") == settings


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("model.hiden=64", "Did you mean: 'hidden'"),
        ("modle.hidden=64", "Did you mean: 'model'"),
        ("model.hidden=wide", "command line: model.hidden: expected a whole number, found 'wide'"),
        ("model.cell=gur", "expected one of 'gru', 'lstm', 'rnn_tanh', 'rnn_relu'"),
        ("model.hidden", "settings are given as key=value"),
        ("pruning.tensors=[*hh*]", "needs quotes"),
        ("model.hidden=0", "model.hidden=0: at least 1"),
        ("name=..", "name='..': a plain name"),
        ("model.hidden={{h}}", "model.hidden"),
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
        (
            "augment.noise_folder=noise",
            "noise_folder=noise does nothing without augment.noise_prob",
        ),
        ("augment.noise_snr_decibels=[5,9]", "without augment.noise_probability above 0: set that"),
        ("augment.time_masks=0 augment.time_mask_frames=9", "or leave time_mask_frames at 25"),
        ("augment.frequency_masks=0 augment.frequency_mask_bands=9", "frequency_masks above 0"),
        ("augment.response_folder=rooms", "without augment.reverberation_probability above 0"),
        (
            "data.spoken.text=[a] data.spoken.vocabulary=large",
            "data.spoken.text replaces it",
        ),
        ("tokenizer.size=300", "tokenizer.size=300 does nothing without tokenizer.kind=sentence"),
        ("tokenizer.file=x.model", "tokenizer.file=x.model does nothing without tokenizer.kind=s"),
        (
            "tokenizer.kind=sentencepiece tokenizer.file=x.model tokenizer.size=300",
            "tokenizer.size=300 does nothing without training a tokenizer",
        ),
        ("optimiser.momentum=0.9", "momentum=0.9 does nothing without optimiser.name=nesterov"),
        ("optimiser.decay=constant optimiser.final_fraction=0.1", "optimiser.decay=cosine or"),
        ("distillation.weight=0.4", "distillation.weight=0.4 does nothing without distillation.te"),
        ("model.bidirectional=false model.combine=concat", "without model.bidirectional=true"),
        ("data.test=a.jsonl", "a list, which is written as [a,b], found 'a.jsonl'"),
        ("data.workers=", "command line: data.workers: expected a whole number, found None"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(override: str, fragment: str) -> None:
    with pytest.raises(AsrError) as error:
        load(Run, None, override.split())
    assert fragment in str(error.value)


def test_all_mistakes_of_a_file_are_listed_together(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("nam: x\nmodel:\n  hiden: 3\n  layers: many\n")
    with pytest.raises(AsrError) as error:
        load(Run, path, [])
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert all(str(path) in line for line in lines)


def test_ranges_of_several_sections_are_listed_together() -> None:
    with pytest.raises(AsrError) as error:
        load(Run, None, ["model.layers=0", "optimiser.warmup=2", "training.epochs=0"])
    assert len(str(error.value).splitlines()) == 3


def test_a_mistake_names_the_place_that_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: 5\nmodel:\n  hidden: 0\n  layers: 2\noptimiser: fast\n")
    with pytest.raises(AsrError) as error:
        load(Run, path, ["model.layers=0", "data.workers=x"])
    assert str(error.value).splitlines() == [
        f"{path}: name: expected text, found 5; put it in quotes",
        "command line: data.workers: expected a whole number, found 'x'",
        f"{path}: model.hidden=0: at least 1",
        "command line: model.layers=0: at least 1",
        f"{path}: optimiser: expected a group of keys, found 'fast'",
    ]


def test_an_override_may_switch_off_what_the_file_sets_details_of(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("augment: {noise_probability: 0.2, noise_snr_decibels: [5, 9]}\n")
    off = load(Run, path, ["augment.noise_probability=0"]).augment
    assert (off.noise_probability, off.noise_snr_decibels) == (0.0, [10.0, 30.0])
    with pytest.raises(
        AsrError, match=r"^command line: augment\.noise_snr_decibels=\[4\.0, 9\.0\]"
    ):
        load(Run, path, ["augment.noise_probability=0", "augment.noise_snr_decibels=[4,9]"])
    path.write_text("augment: {noise_snr_decibels: [5, 9]}\n")  # a mistake in the file
    with pytest.raises(AsrError, match=r"r\.yaml: augment\.noise_snr_decibels=\[5\.0, 9\.0\] does"):
        load(Run, path, ["augment.time_masks=1"])


def test_a_number_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("optimiser:\n  learning_rate: 1e-3\n")
    assert load(Run, path).optimiser.learning_rate == 0.001
    assert load(Run, path, ["optimiser.learning_rate=2E-4"]).optimiser.learning_rate == 0.0002


def test_a_key_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model:\n  hidden: 3\n  layers: 1\n  hidden: 4\n")
    with pytest.raises(AsrError, match=r"'hidden' is listed twice\n.*line 4"):
        load(Run, path)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1", "just words"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(AsrError, match=r"x\.yaml"):
        load(Run, path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="no such settings file"):
        load(Run, tmp_path / "none.yaml")


@pytest.mark.parametrize("path", SINGLE, ids=lambda p: p.stem)
def test_every_recipe_loads(path: Path) -> None:
    assert load(Run, path).data.train


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.stem)
def test_every_run_of_a_grid_loads(path: Path) -> None:
    plan = read_grid(path, [])  # loads the settings of every run
    assert len(plan.runs) >= 3
    assert plan.base.is_file()


def test_every_setting_has_a_description() -> None:
    rows = describe(Run)
    assert len(rows) > 70
    assert [key for key, _, _, meaning in rows if not meaning] == []
    assert to_plain(Run())["model"]["hidden"] == 256


@pytest.mark.parametrize(
    "content",
    [
        b"name: 2026-99-99\n",
        "name: \u00e9\n".encode("latin-1"),
        b"a: " + b"[" * 100_000,
        b"a: \0",
        b"model: {hidden: {{ hidden }}}\n",
    ],
    ids=["a date that is none", "Latin-1", "deep brackets", "zero bytes", "a template"],
)
def test_a_file_that_is_not_yaml_is_named(content, tmp_path):
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(AsrError, match=r"run\.yaml: cannot be read as YAML"):
        load(Run, tmp_path / "run.yaml")
