"""Ranking of weights: against torch's own pruning, in every scope, with thresholds and ties."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from asr.errors import AsrError
from asr.pruning.masks import PrunedTooFar
from asr.pruning.patterns import Bank, Block, Element
from asr.pruning.prunable import find
from asr.pruning.pruner import Pruner
from asr.pruning.rigl import RigL
from asr.pruning.rule import Rule
from asr.pruning.schedule import ThresholdSchedule
from asr.pruning.selection import ranking_groups
from asr.pruning.sparsity_schedules import Cubic, OneShot
from asr.pruning.threshold_schedule import ThresholdRamp

RAMP = ThresholdRamp(1, 20, 80, 2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(2, 8, 3)
        self.rnn = nn.LSTM(7, 10, num_layers=2)
        self.output = nn.Linear(10, 6)


def prune_once(model, rule):
    """Masks after the first step."""
    pruner = Pruner(model, rule)
    pruner.step()
    return pruner.masks()


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.906, 0.95])
def test_each_tensor_equals_torch_s_unstructured_pruning(sparsity):
    ours, theirs = Net(), Net()
    masks = prune_once(ours, Rule(OneShot(1, sparsity)))
    for name, keep in masks.items():
        module, _, leaf = name.rpartition(".")
        prune.l1_unstructured(theirs.get_submodule(module), leaf, amount=sparsity)
        assert torch.equal(keep, dict(theirs.named_buffers())[f"{name}_mask"].bool()), name


def test_all_tensors_together_equal_torch_s_global_pruning():
    ours, theirs = Net(), Net()
    masks = prune_once(ours, Rule(OneShot(1, 0.6), scope="global"))
    parts = [name.rpartition(".") for name in find(theirs)]
    prune.global_unstructured(
        [(theirs.get_submodule(module), leaf) for module, _, leaf in parts],
        pruning_method=prune.L1Unstructured,
        amount=0.6,
    )
    buffers = dict(theirs.named_buffers())
    for name, keep in masks.items():
        assert torch.equal(keep, buffers[f"{name}_mask"].bool()), name


def test_groups_are_ranked_among_themselves():
    model = Net()
    with torch.no_grad():
        model.output.weight.mul_(100)  # would win against all others
        model.rnn.weight_hh_l1.mul_(2)
    masks = prune_once(model, Rule(OneShot(1, 0.75), scope="group"))
    assert int(masks["output.weight"].sum()) == 15
    first, second = (int(masks[f"rnn.weight_hh_l{layer}"].sum()) for layer in (0, 1))
    assert first + second == 200
    assert second > 2 * first


def test_a_tensor_that_loses_all_its_weights_to_larger_ones_is_refused():
    model = Net()
    with torch.no_grad():
        model.rnn.weight_hh_l0.mul_(1e-3)
    with pytest.raises(PrunedTooFar, match=r'rnn\.weight_hh_l0 .* 0 of 400 weights left.*"tensor"'):
        prune_once(model, Rule(OneShot(1, 0.9), ["rnn*"], scope="global"))


@pytest.mark.parametrize(
    ("shape", "rule", "left"),
    [
        ((1, 4), Rule(Cubic(0, 60, 2, 0.9)), "0 of 4"),
        ((1, 4), Rule(Cubic(0, 60, 2, 0.9), scope="group"), "0 of 4"),
        ((20, 20), Rule(Cubic(0, 60, 2, 0.997)), "1 of 400"),
        ((20, 20), Rule(replace(RAMP, target=0.997)), "1 of 400"),
        ((64, 64), Rule(Cubic(0, 60, 2, 0.99), pattern=Bank(32)), "0 of 4096"),
        ((8, 4), Rule(Cubic(0, 60, 2, 0.9), pattern=Block(4, 2)), "0 of 32"),
        ((20, 20), Rule(RigL(60, 6, 0.997)), "1 of 400"),
    ],
    ids=str,
)
def test_a_target_that_empties_a_tensor_is_refused_before_training(shape, rule, left):
    layer = nn.Linear(shape[1], shape[0])
    with pytest.raises(
        PrunedTooFar, match=rf"weight .* at the target of 9.*{left} weights left.* a lower sparsity"
    ):
        Pruner(layer, rule)


@pytest.mark.parametrize(
    ("layer", "rule", "left"),
    [
        (nn.Linear(4, 5), Rule(OneShot(1, 0.9)), 2),
        (nn.Linear(20, 20), Rule(OneShot(1, 0.995)), 2),
        (nn.Conv1d(64, 64, 3, groups=64), Rule(OneShot(1, 0.9), pattern=Bank(32)), 64),
        (nn.Linear(8, 8), Rule(OneShot(1, 0.75), pattern=Block(4, 4)), 16),
    ],
    ids=str,
)
def test_a_target_that_leaves_enough_is_begun_and_reached(layer, rule, left):
    assert int(prune_once(layer, rule)["weight"].sum()) == left


@dataclass(frozen=True)
class AtQ(ThresholdSchedule):
    """The threshold q itself, at every step."""

    @property
    def update_steps(self):
        return range(1, 100)

    def relative_threshold(self, step):
        return 1.0


def at_or_above(weight, eps, previous=None):
    """The mask of a weight under the threshold eps."""
    model = nn.Linear(weight.numel(), 1, bias=False, dtype=weight.dtype)
    with torch.no_grad():
        model.weight.copy_(weight)
    (group,) = ranking_groups(model, [Rule(AtQ(), thresholds={"weight": eps})])
    before = {} if previous is None else {"weight": previous[None]}
    masks, used = group.masks_at(1, {"weight": model.weight}, before)
    assert used == eps
    return masks["weight"][0]


def test_a_weight_at_the_threshold_remains():
    weight = torch.tensor([-0.5, 0.25, 0.125, -0.25, 0.0])
    assert at_or_above(weight, 0.25).tolist() == [True, True, False, True, False]


def test_dropped_weight_does_not_come_back():
    previous = torch.tensor([True, False])
    assert at_or_above(torch.tensor([9.0, 9.0]), 1.0, previous).tolist() == [True, False]


def test_bfloat16_weights_are_compared_in_float32():
    weight = torch.tensor([0.1], dtype=torch.bfloat16)  # is 0.10009765625
    assert at_or_above(weight, 0.10009).all()
    assert not at_or_above(weight, 0.1001).any()


def test_mask_needs_no_gradient():
    assert not at_or_above(torch.ones(3), 0.5).requires_grad


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40),
    st.lists(st.floats(1e-6, 10), min_size=2),
)
def test_mask_is_monotone_idempotent_and_counts_exactly(values, thresholds):
    weight = torch.tensor(values)
    keep = torch.ones_like(weight, dtype=torch.bool)
    highest = 0.0
    for eps in thresholds:
        new = at_or_above(weight, eps, keep)
        assert not (new & ~keep).any()
        assert torch.equal(at_or_above(weight, eps, new), new)
        highest, keep = max(highest, eps), new
    eps32 = torch.tensor(highest).item()
    assert int(keep.sum()) == sum(abs(v) >= eps32 for v in weight.tolist())


def test_blocks_of_the_block_paper_are_compared_with_a_threshold_for_their_size():
    model = Net()
    q = 0.35
    expected = {}
    for name, weight in find(model, ["rnn*"]).items():
        tiles = weight.detach().view(10, 4, -1, 1).abs().amax(dim=(1, 3))
        eps = RAMP.threshold(40, q) * 4**0.25
        expected[name] = (tiles >= eps).repeat_interleave(4, 0)
    thresholds = dict.fromkeys(expected, q)
    pruner = Pruner(model, Rule(RAMP, pattern=Block(4, 1), thresholds=thresholds))
    for _ in range(41):
        pruner.step()
    assert 0.1 < pruner.sparsity() < 0.9
    for name, keep in pruner.masks().items():
        assert torch.equal(keep, expected[name]), name


def test_a_convolution_is_pruned_in_banks_of_its_inputs_and_taps():
    masks = prune_once(Net(), Rule(OneShot(1, 0.5), ["conv*"], Bank(6)))
    assert (masks["conv.weight"].flatten(1).view(8, 3, 6).sum(2) == 3).all()


def test_of_equal_weights_those_of_lower_index_stay():
    model = nn.Linear(4, 2, bias=False)
    nn.init.ones_(model.weight)
    keep = prune_once(model, Rule(OneShot(1, 0.625)))["weight"]
    assert keep.tolist() == [[True, True, True, False], [False] * 4]


patterns = st.sampled_from([Element(), Block(3, 2), Block(4, 4, "l2"), Block(16, 1), Bank(4)])
shapes = st.tuples(st.integers(2, 9), st.integers(2, 9))


@settings(max_examples=60, deadline=None)
@given(patterns, shapes, st.lists(st.floats(0.05, 0.8), min_size=1, max_size=4), st.integers(0, 99))
def test_masks_never_grow_follow_their_pattern_and_count_exactly(pattern, shape, sparsities, seed):
    torch.manual_seed(seed)
    model = nn.Linear(shape[1], shape[0], bias=False)
    (name,) = find(model)
    alive = {}
    for sparsity in sorted(sparsities):
        with torch.no_grad():  # as an optimiser would, pruned weights included
            model.weight.copy_(torch.randint(-3, 4, shape) / 2 + 0.1)
        (group,) = ranking_groups(model, [Rule(OneShot(1, sparsity), pattern=pattern)])
        weights = {name: model.weight}
        keep = group.masks_at(1, weights, alive)[0][name]
        again = group.masks_at(1, weights, {name: keep})[0][name]
        assert torch.equal(keep, again), "idempotent"
        assert not alive or not (keep & ~alive[name]).any(), "monotonic"
        pruned = int((~keep).sum())
        if isinstance(pattern, Bank):
            for bank in keep.split(pattern.columns, dim=1):
                short = None if bank.shape[1] == pattern.columns else bank.shape[1]
                assert (bank.sum(1) == pattern.count(sparsity, short)).all(), "banks equal"
        else:
            units = pattern.units(keep.float()) > 0
            assert torch.equal(pattern.expand(units, keep.shape), keep), "blocks whole"
            sizes = pattern.sizes(keep.shape)
            largest = keep.numel() // len(units) if sizes is None else int(sizes.max())
            assert abs(pruned - sparsity * keep.numel()) <= largest / 2 + 1e-4, "counted"
        alive = {name: keep}


@pytest.mark.parametrize("scope", ["tensor", "group", "global"])
@pytest.mark.parametrize("pattern", [Element(), Block(4, 1), Block(5, 3, "l2")], ids=str)
def test_ramp_ends_within_half_a_point_of_its_target_while_weights_move(pattern, scope):
    model = Net()
    tensors = ["rnn*weight_hh*"] if scope == "tensor" else ["rnn*"]
    pruner = Pruner(model, Rule(replace(RAMP, target=0.9), tensors, pattern, scope))
    generator = torch.Generator().manual_seed(1)
    for _ in range(80):
        with torch.no_grad():
            for weight in find(model, tensors).values():
                weight.mul_(1.01).add_(0.02 * torch.randn(weight.shape, generator=generator))
        pruner.step()
    sparsities = [sparsity for _, sparsity in pruner.curve]
    assert sparsities == sorted(sparsities)
    assert len(sparsities) == RAMP.mask_updates
    # Blocks of up to 15 elements in tensors of 400.
    assert sparsities[-1] == pytest.approx(0.9, abs=0.005 if pattern == Element() else 0.02)
    # The largest of a block varies little from block to block, so most fall in the last third.
    assert (0.1 if pattern == Element() else 0.0) < sparsities[len(sparsities) // 2] < 0.85
    assert max(b - a for a, b in pairwise(sparsities)) < 0.3
    assert all(q > 0 for q in pruner.thresholds.values())


def test_a_network_that_is_sparser_than_the_target_is_refused():
    model = Net()
    with torch.no_grad():
        model.output.weight[:5] = 0.0
    for rule in (
        Rule(Cubic(1, 40, 1, 0.8), ["output*"], keep_zeros=True),
        Rule(replace(RAMP, target=0.8), ["output*"], keep_zeros=True),
    ):
        with pytest.raises(
            AsrError, match=r"output.weight: 83\.33% .* more than the target of 80\.00%"
        ):
            Pruner(model, rule)
    Pruner(model, Rule(Cubic(1, 40, 1, 0.84), ["output*"], keep_zeros=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("pattern", [Element(), Block(4, 1), Bank(4)], ids=str)
def test_a_gpu_chooses_the_same_weights_and_deterministically(pattern):
    rule = Rule(OneShot(1, 0.75), ["rnn*"], pattern)
    here = prune_once(Net(), rule)
    torch.use_deterministic_algorithms(True)
    try:
        there = prune_once(Net().cuda(), rule)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(here[name], there[name].cpu()) for name in here)
