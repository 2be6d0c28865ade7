"""`asr prune plan`: steps and tensors of a recipe, predictions from the available weights."""

import re
from pathlib import Path

import pytest
import torch
from command_line import run_asr

from asr.errors import AsrError
from asr.features.logmel_torch import Frontend
from asr.model.dimensions import Model
from asr.model.file import save_model
from asr.model.torch_network import DeepSpeech
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.text.tokenizer import CharacterTokenizer
from asr.train.plan import plan_of, plan_to

SIZE = ["model.hidden=16", "model.layers=1", "model.conv_channels=[2,2]"]
RAMP = ["pruning.method=threshold_ramp", "pruning.target=0.8"]


def settings(*words: str) -> Run:
    return load(Run, None, [*SIZE, *words])


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A model file of the size above, its recurrent weights spread over a tenth of the values."""
    torch.manual_seed(3)
    model = DeepSpeech(Model(hidden=16, layers=1, conv_channels=[2, 2]))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith("rnn") and ".weight_" in name:
                weight.copy_(torch.linspace(-0.1, 0.1, weight.numel()).view_as(weight))
    save_model(tmp_path / "dense.asr", model, CharacterTokenizer(), Frontend())
    return tmp_path / "dense.asr"


def test_the_command_counts_steps_as_training_does_and_draws(corpus: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {{root: {corpus}, train: [train.jsonl], batch_seconds: 10}}\n")
    words = ["data.max_seconds=9", "training.epochs=4", "training.accumulate=2", *SIZE, *RAMP]
    plot = tmp_path / "plan.svg"
    run = run_asr("prune", "plan", recipe, *words, "pruning.mask_updates=12", "--plot", plot)
    assert run.returncode == 0, run.stderr
    first = run.stdout.splitlines()[0].split()
    assert first[1:3] == ["utterances,", "0.03"]
    steps, epochs, each = int(first[4]), int(first[7]), int(first[10])
    assert (epochs, steps) == (4, 4 * each)
    assert run.stdout.splitlines()[0].endswith(f"4 epochs of {each} steps of 2 batches")
    assert "FewUpdates" in run.stderr, "twelve updates are few"
    assert "ThresholdRamp: 15 updates after every step, from step 10 to 24 of 36" in run.stdout
    assert "to a target of 80.00%" in run.stdout
    percent = re.search(r"; (\d+\.\d+)% of them, ", run.stdout)
    assert percent is not None
    assert float(percent[1]) == pytest.approx(80, abs=0.1)
    assert plot.read_text().startswith("<?xml")


def test_thresholds_are_predicted_from_the_dense_network(dense: Path) -> None:
    ramp = ["pruning.method=threshold_ramp", f"pruning.dense={dense}", "pruning.percentile=0.9"]
    found = plan_of(settings(*ramp), 1000)
    assert "trained network" in found.basis
    # Of evenly spread weights the fraction below eps is eps over the largest.
    height = found.tensors[0].rule.schedule.relative_threshold(found.curve[-1][0])  # type: ignore[attr-defined]
    for t in found.tensors:
        assert t.final == pytest.approx(0.9 * height, abs=0.02)


def test_a_recipe_that_starts_from_weights_is_predicted_from_them(dense: Path) -> None:
    found = plan_of(settings("pruning.method=cubic", "pruning.target=0.9", f"init={dense}"), 1000)
    assert "trained network" in found.basis
    assert found.final == pytest.approx(0.9, abs=0.002)


@pytest.mark.parametrize(
    ("words", "tensor", "expected"),
    [
        (["method=cubic", "pattern=bank"], "weight_hh", 0.75),
        (["method=cubic", "pattern=block", "scope=group"], "", 0.75),
        (["method=one_shot", "at=0"], "weight_ih", 0.75),
        (["method=rigl"], "weight_hh", 0.75),
        (["method=one_shot"], "weight_ih", 0.75),
    ],
)
def test_each_method_of_the_settings_has_a_plan(
    words: list[str], tensor: str, expected: float
) -> None:
    found = plan_of(settings("pruning.target=0.75", *(f"pruning.{w}" for w in words)), 1000)
    some = [t for t in found.tensors if tensor in t.name]
    dropped = sum(t.final * t.elements for t in some)
    assert dropped / sum(t.elements for t in some) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("words", "steps", "fragment"),
    [
        (["pruning.method=none"], 1000, "pruning.method=none: nothing is pruned"),
        ([*RAMP, "pruning.tensors=[lstm*]"], 1000, r"no prunable weight matches 'lstm\*'"),
        ([*RAMP], 60, r"40 updates do not fit"),
    ],
)
def test_what_cannot_be_planned_is_refused(words: list[str], steps: int, fragment: str) -> None:
    with pytest.raises(AsrError, match=fragment):
        plan_of(settings(*words), steps)


def test_missing_data_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(AsrError, match=r"data\.train must name"):
        plan_to(settings(*RAMP))
    short = [f"data.root={corpus}", "data.train=[train.jsonl]", "data.max_seconds=0.1"]
    with pytest.raises(AsrError, match=r"none of \d+ utterances is short enough"):
        plan_to(settings(*RAMP, *short))
    with pytest.raises(AsrError, match=r"plan\.gif: a picture's name"):
        plan_to(settings(*RAMP), tmp_path / "plan.gif")
