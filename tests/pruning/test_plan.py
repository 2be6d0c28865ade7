"""The plan predicts what a Pruner does, as far as the weights are known."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from asr.errors import AsrError
from asr.pruning import (
    Bank,
    Block,
    Cubic,
    FixedMask,
    OneShot,
    PrunedTooFar,
    Pruner,
    Rule,
    ThresholdRamp,
    calibrate,
    find,
)
from asr.pruning.plan import plan

RAMP = ThresholdRamp(start=10, ramp=40, end=101, frequency=3)
CUBIC = Cubic(start=10, end=100, frequency=3, target=0.9)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"rnn": nn.GRU(32, 32), "norm": nn.LayerNorm(32), "output": nn.Linear(32, 8)}
    )


def test_a_schedule_of_sparsities_is_predicted_exactly(model: nn.Module) -> None:
    found = plan(model, Rule(CUBIC, ["rnn*"]), total_steps=120)
    assert [step for step, _ in found.curve] == list(CUBIC.update_steps)
    for t in found.tensors:
        for step, sparsity in t.curve:
            assert sparsity == pytest.approx(CUBIC.sparsity(step), abs=1 / t.elements)
    assert found.final == pytest.approx(0.9, abs=1e-3)
    assert [t.name for t in found.tensors] == ["rnn.weight_ih_l0", "rnn.weight_hh_l0"]
    assert [t.group for t in found.tensors] == ["input", "recurrent"]
    assert found.elements == 2 * 96 * 32
    assert found.prunable == found.elements + 8 * 32
    assert found.parameters == sum(p.numel() for p in model.parameters())


def test_what_is_predicted_is_what_a_pruner_does_to_weights_that_stay(model: nn.Module) -> None:
    rules = [
        Rule(replace(RAMP, target=0.8), ["rnn.weight_hh*"]),
        Rule(CUBIC, ["rnn.weight_ih*"], Block(16, 1)),
        Rule(OneShot(50, 0.5), ["output*"]),
    ]
    found = plan(model, rules, model.state_dict())
    pruner = Pruner(model, rules)
    for _ in range(100):
        pruner.step()
    assert {t.name: t.final for t in found.tensors} == pruner.sparsities()
    assert dict(found.curve) == pytest.approx(dict(pruner.curve), abs=1e-12)


def test_a_threshold_is_compared_with_the_dense_weights(model: nn.Module) -> None:
    q = calibrate(model, find(model, ["rnn*"]), 0.9)
    found = plan(model, Rule(RAMP, thresholds=q), model)
    for t in found.tensors:
        size = find(model)[t.name].detach().abs()
        for step, sparsity in t.curve:
            below = (size < RAMP.threshold(step, q[t.name])).float().mean().item()
            assert sparsity == pytest.approx(below, abs=1e-6)
    assert "a trained network" in found.basis


def test_a_target_without_weights_follows_the_ramp_over_a_normal_distribution() -> None:
    model = nn.Linear(400, 400)
    found = plan(model, Rule(replace(RAMP, target=0.9)))
    assert found.final == pytest.approx(0.9, abs=1e-5)
    deviations = 1.6448536  # nine in ten of a normal distribution lie within
    for step, sparsity in found.curve:
        height = RAMP.relative_threshold(step) / RAMP.final_height
        assert sparsity == pytest.approx(math.erf(height * deviations / math.sqrt(2)), abs=0.01)
    assert plan(model, Rule(replace(RAMP, target=0.9))) == found, "the same draw every time"


def test_banks_end_at_whole_counts(model: nn.Module) -> None:
    found = plan(model, Rule(CUBIC, ["rnn*"], Bank(32)))
    assert found.final == 1 - 3 / 32
    assert all(sparsity * 32 == round(sparsity * 32) for _, sparsity in found.curve)


def test_a_fixed_mask_has_the_zeros_of_the_weights(model: nn.Module) -> None:
    with torch.no_grad():
        model["rnn"].weight_hh_l0[:24] = 0.0
    found = plan(model, Rule(FixedMask(), ["rnn.weight_hh*"]))
    assert found.curve == ((0, 0.25),)
    assert "no updates, the zeros that are there stay" in found.table()


def test_custom_scores_get_gradients_of_zero(model: nn.Module) -> None:
    class FirstOrder(Cubic):
        def scores(
            self, step: int, name: str, weight: nn.Parameter, keep: torch.Tensor | None
        ) -> torch.Tensor:
            assert weight.grad is not None
            return (weight * weight.grad).abs()

    found = plan(model, Rule(FirstOrder(10, 100, 3, 0.9)))
    assert found.final == pytest.approx(0.9, abs=2e-3)


def test_the_model_is_left_as_it_is(model: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan(model, Rule(CUBIC))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_bank_shows_how_many_columns_remain(model: nn.Module) -> None:
    table = plan(model, Rule(CUBIC, pattern=Bank(32))).table()
    assert "to 90.00%: 3 of 32 columns are kept" in table


def test_the_table_names_tensors_updates_and_the_curve(model: nn.Module) -> None:
    rules = [Rule(CUBIC, ["rnn*"], Block(16, 1)), Rule(replace(RAMP, target=0.5), ["output*"])]
    lines = plan(model, rules, total_steps=120).table().splitlines()
    assert lines[1].split() == [
        "rnn.weight_ih_l0", "96x32", "3,072", "input", "block", "16x1", "Cubic", "90.10%"
    ]  # fmt: skip
    assert lines[3].split()[-3:] == ["element", "ThresholdRamp", "50.00%"]
    text = "\n".join(lines)
    assert "pruned: 6,400 of 6,400 prunable weights, of a model of 6,664; 88.50% of them" in text
    assert "Cubic: 31 updates after every 3 steps, from step 10 to 100 of 120, to 90.00%" in text
    assert "ThresholdRamp: 30 updates after every 3 steps, from step 12 to 99 of 120" in text
    assert "to a target of 50.00%" in text
    start = lines.index(next(line for line in lines if line.split() == ["step", "sparsity"]))
    curve = [line.split() for line in lines[start + 1 : start + 13]]
    assert [curve[0][0], curve[-1]] == ["10", ["100", "88.50%"]]
    assert lines[-1] == "predicted from normally distributed weights, as if they did not change"


def test_the_picture_has_the_curve_of_each_tensor_and_of_all(model: nn.Module) -> None:
    found = plan(model, Rule(CUBIC), total_steps=120)
    (axes,) = found.draw().axes
    *thin, thick = axes.lines
    assert len(thin) == 3
    assert thick.get_xdata()[0] == 0
    assert thick.get_xdata()[-1] == 120
    assert thick.get_ydata()[-1] == pytest.approx(100 * found.final)


@pytest.mark.parametrize(
    ("rule", "options", "fragment"),
    [
        (Rule(CUBIC), {"total_steps": 90}, "last update is after step 100, but the .* 90 steps"),
        (
            Rule(RAMP, thresholds={"output.weight": 0.1}),
            {},
            r"output\.weight: its threshold says nothing without weights",
        ),
        (
            Rule(CUBIC, ["output*"]),
            {"weights": {"output.weight": torch.ones(3, 3)}},
            r"output\.weight is \[8, 32\] here and \[3, 3\] among",
        ),
        (Rule(CUBIC, ["output*"]), {"weights": {}}, r"here and not there among the weights"),
        (Rule(CUBIC, ["lstm*"]), {}, r"no prunable weight matches 'lstm\*'"),
        (Rule(FixedMask()), {}, "no weight of .* is zero"),
        (CUBIC, {}, r"Cubic is not a Rule, .* write Rule\(schedule"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    model: nn.Module, rule: Any, options: dict[str, object], fragment: str
) -> None:
    with pytest.raises(AsrError, match=fragment):
        plan(model, rule, **options)  # type: ignore[arg-type]


def test_a_tensor_that_would_be_nearly_empty_is_predicted(model: nn.Module) -> None:
    rule = Rule(RAMP, thresholds={"output.weight": 5.0})
    with pytest.raises(PrunedTooFar, match=r"predicted for step \d+: output\.weight .* would be"):
        plan(model, rule, model)
