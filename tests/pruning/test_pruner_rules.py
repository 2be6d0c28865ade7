"""Rules applied to a model in training: scopes, scores, regrowth, patterns, errors."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from small_training import OPTIMISERS, RAMP, STEPS, Net, backward, train

from asr.errors import AsrError
from asr.pruning.patterns import Bank, Block
from asr.pruning.pruner import Pruner
from asr.pruning.rule import Rule
from asr.pruning.schedule import FixedMask, SparsitySchedule
from asr.pruning.sparsity_schedules import Cubic, OneShot


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"rnn.weight": 0.1}, r"threshold for 'rnn\.weight', which is not a prunable"),
        ({"output.weight": 0.0}, r"output\.weight: q=0\.0 must be a number above"),
        ({"output.weight": float("nan")}, r"q=nan must be"),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(arguments, fragment):
    with pytest.raises(AsrError, match=fragment):
        Pruner(Net(), Rule(RAMP, thresholds=arguments))


@pytest.mark.parametrize(
    ("rules", "fragment"),
    [
        (
            Rule(RAMP, ["rnn*"], thresholds={"output.weight": 1.0}),
            r"no threshold for rnn\.weight_ih",
        ),
        (Rule(FixedMask()), r"no weight of .* is zero: load the pruned"),
        (Rule(replace(RAMP, target=0.9), ["lstm*"]), r"no prunable weight matches 'lstm\*'"),
        ([], "no rule given"),
        ([RAMP], r"ThresholdRamp is not a Rule, .* write Rule\(schedule"),
        (OneShot(1, 0.9), r"OneShot is not a Rule, .* write Rule\(schedule"),
        (
            [Rule(Cubic(1, 40, 1, 0.9), ["rnn*"]), Rule(replace(RAMP, target=0.9), ["*hh_l0"])],
            r"rnn.weight_hh_l0 is in rule 1 and in rule 2",
        ),
    ],
)
def test_rules_that_do_not_fit_the_model_are_refused(rules, fragment):
    with pytest.raises(AsrError, match=fragment):
        Pruner(Net(), rules)


@pytest.mark.parametrize("scope", ["tensor", "group", "global"])
@pytest.mark.parametrize("kind", ["ramp", "cubic", "at the first step", "one shot"])
def test_target_is_reached_exactly_in_every_scope(kind, scope):
    rule = {
        "ramp": Rule(replace(RAMP, target=0.9), ["rnn*"], scope=scope),
        "cubic": Rule(Cubic(4, 66, 2, 0.9), ["rnn*"], scope=scope),
        "at the first step": Rule(OneShot(1, 0.9), ["rnn*"], scope=scope),
        "one shot": Rule(OneShot(30, 0.9), ["rnn*"], scope=scope),
    }[kind]
    model = Net()
    pruner = Pruner(model, rule, OPTIMISERS["adamw"](model.parameters()))
    train(model, pruner.optimiser, pruner, STEPS)
    stats = pruner.finalize()
    expected = round(0.9 * stats.prunable_parameters)
    zeros = stats.prunable_parameters - stats.prunable_nonzeros
    if scope == "global":
        assert zeros == expected
    elif scope == "group":
        for group in ("input", "recurrent"):
            tensors = [t for t in stats.tensors if t.group == group]
            elements = sum(t.elements for t in tensors)
            assert sum(t.nonzeros for t in tensors) == elements - round(0.9 * elements)
    else:
        for tensor in stats.tensors:
            assert tensor.nonzeros == tensor.elements - round(0.9 * tensor.elements)
    assert pruner.sparsities() == {t.name: pytest.approx(t.sparsity) for t in stats.tensors}


def test_rules_prune_their_tensors_by_their_own_schedules():
    model = Net()
    rules = [Rule(OneShot(3, 0.5), ["output*"]), Rule(Cubic(10, 40, 1, 0.8), ["rnn*hh*"])]
    pruner = Pruner(model, rules)
    optimiser = OPTIMISERS["adamw"](model.parameters())
    train(model, optimiser, pruner, 5)
    assert pruner.sparsities() == {
        "rnn.weight_hh_l0": 0.0, "rnn.weight_hh_l0_reverse": 0.0, "output.weight": 0.5
    }  # fmt: skip
    assert not pruner.finished
    train(model, optimiser, pruner, 35)
    assert pruner.sparsities()["rnn.weight_hh_l0"] == pytest.approx(0.8, abs=2e-3)
    assert pruner.sparsities()["output.weight"] == 0.5
    assert pruner.finished


def test_scores_of_a_schedule_decide_which_weights_stay():
    model = Net()

    def scored(make):
        """Prune half at the first step, by other scores than magnitudes."""

        class ByScores(OneShot):
            def scores(self, step, name, weight, keep):
                return make(weight)

        return Rule(ByScores(1, 0.5), ["rnn.weight_hh_l0"])

    def early_columns(weight):
        return -torch.arange(weight.shape[1]).expand(weight.shape)

    pruner = Pruner(model, scored(early_columns))
    pruner.step()
    keep = pruner.masks()["rnn.weight_hh_l0"]
    assert keep[:, :6].all()
    assert not keep[:, 6:].any()
    for score, fragment in (
        (lambda weight: weight[0], r"is of shape \[12\], the weight of \[36, 12\]"),
        (lambda weight: weight / 0, r"score of rnn.weight_hh_l0 holds NaN"),
    ):
        pruner = Pruner(model, scored(score))
        with pytest.raises(AsrError, match=fragment):
            pruner.step()


@dataclass(frozen=True)
class Again(SparsitySchedule):
    """The same fraction, chosen anew at steps 2, 4 and 6."""

    regrows: ClassVar[bool] = True

    target: float = 0.5

    @property
    def update_steps(self):
        return range(2, 7, 2)

    def sparsity(self, step):
        return self.target


def test_regrown_weights_start_at_zero_and_the_score_sees_dense_gradients():
    model = Net()
    seen = []

    class TurnRound(Again):
        """Regrow the pruned weights: the mask is inverted at every update."""

        def scores(self, step, name, weight, keep):
            seen.append(weight.grad.count_nonzero().item())
            return None if keep is None else (~keep).float()

    pruner = Pruner(model, Rule(TurnRound(), ["rnn.weight_hh_l0"]))
    optimiser = OPTIMISERS["adamw"](model.parameters())
    train(model, optimiser, pruner, 2)
    first = pruner.masks()["rnn.weight_hh_l0"]
    optimiser.zero_grad()
    backward(model, 2)
    pruner.mask_gradients()
    assert not model.rnn.weight_hh_l0.grad[~first].any()
    optimiser.step()
    pruner.step(optimiser)
    train(model, optimiser, pruner, 1)
    second = pruner.masks()["rnn.weight_hh_l0"]
    assert torch.equal(second, ~first)
    assert not model.rnn.weight_hh_l0.any()
    train(model, optimiser, pruner, 1)
    assert model.rnn.weight_hh_l0[second].all()
    assert seen == [432, 432]


def test_zeros_stay_when_a_pruned_network_is_pruned_further():
    model = Net()
    with torch.no_grad():
        model.rnn.weight_hh_l0[:, :6] = 0.0
    rule = Rule(Cubic(6, 66, 2, 0.9, initial=0.5), ["rnn.weight_hh_l0"], keep_zeros=True)
    pruner = Pruner(model, rule)
    assert pruner.sparsity() == 0.5
    train(model, OPTIMISERS["adamw"](model.parameters()), pruner, 66)
    assert not model.rnn.weight_hh_l0[:, :6].any()
    assert pruner.sparsity() == pytest.approx(0.9, abs=2e-3)


@pytest.mark.parametrize("pattern", [Block(4, 1), Block(5, 5), Block(4, 4, "l2"), Bank(8)], ids=str)
def test_masks_follow_their_pattern_through_training(pattern):
    model = Net()
    pruner = Pruner(model, Rule(Cubic(4, 66, 2, 0.75), ["rnn*"], pattern))
    train(model, OPTIMISERS["adamw"](model.parameters()), pruner, STEPS)
    for name, keep in pruner.masks().items():
        if isinstance(pattern, Bank):
            widths = [8, 4] if keep.shape[1] == 12 else [6] if keep.shape[1] == 6 else [8, 8, 8]
            for bank in keep.split(widths, dim=1):
                assert bank.sum(1).unique().tolist() == [round(bank.shape[1] / 4 + 0.01)]
            continue
        units = pattern.units(keep.float())
        assert torch.equal(pattern.expand(units > 0, keep.shape), keep)
        assert pruner.sparsities()[name] == pytest.approx(0.75, abs=0.06)


@dataclass(frozen=True)
class Back(SparsitySchedule):
    """Half at step 1, none from step 2 on."""

    regrows: ClassVar[bool] = True

    target: float = 0.5

    @property
    def update_steps(self):
        return range(1, 3)

    def sparsity(self, step):
        return self.target if step == 1 else 0.0


def test_all_pruned_weights_may_come_back():
    model = Net()
    pruner = Pruner(model, Rule(Back(), ["rnn.weight_hh_l0"]))
    optimiser = OPTIMISERS["adamw"](model.parameters())
    train(model, optimiser, pruner, 1)
    assert pruner.sparsity() == 0.5
    train(model, optimiser, pruner, 3)
    assert pruner.sparsity() == 0.0
    assert pruner.masks()["rnn.weight_hh_l0"].all()
    assert model.rnn.weight_hh_l0.all()


@pytest.mark.parametrize("pattern", [Bank(4), Block(6, 6)], ids=str)
def test_a_sparse_network_can_be_pruned_further_at_the_same_sparsity(pattern):
    """A sparsity that the pattern rounds up is not above the target: after a resume, or further."""
    rule = Rule(Cubic(4, 66, 2, 0.65), ["rnn*hh*"], pattern, keep_zeros=True)
    model = Net()
    pruner = Pruner(model, rule)
    train(model, OPTIMISERS["adamw"](model.parameters()), pruner, 66)
    again = Pruner(model, rule)
    again.load_state_dict(pruner.state_dict())
    assert again.sparsity() == pruner.sparsity() > 0.655


def test_banks_that_have_too_few_weights_left_are_refused_where_they_are():
    model = Net()
    with torch.no_grad():
        model.rnn.weight_hh_l0[7, 5:8] = 0.0
    with pytest.raises(
        AsrError, match=r"row 7, bank 1 has 1 weights left where each has to keep 2"
    ):
        Pruner(model, Rule(Cubic(4, 66, 2, 0.5), ["rnn*hh*"], Bank(4), keep_zeros=True))
    Pruner(model, Rule(Cubic(4, 66, 2, 0.75), ["rnn*hh*"], Bank(4), keep_zeros=True))


@pytest.mark.parametrize("kind", ["cubic", "ramp"])
def test_blocks_of_a_network_with_scattered_zeros_end_at_the_target_of_all_its_weights(kind):
    model = Net()
    with torch.no_grad():
        for name in ("weight_hh_l0", "weight_hh_l0_reverse"):
            weight = getattr(model.rnn, name)
            weight.mul_(torch.rand(weight.shape) > 0.6)
    schedule = Cubic(4, 66, 2, 0.9) if kind == "cubic" else replace(RAMP, target=0.9)
    rule = Rule(schedule, ["rnn*hh*"], Block(4, 1), keep_zeros=True)
    pruner = Pruner(model, rule)
    train(model, OPTIMISERS["adamw"](model.parameters()), pruner, 66)
    for sparsity in pruner.sparsities().values():
        assert sparsity == pytest.approx(0.9, abs=0.005)
