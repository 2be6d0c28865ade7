"""Masks in a plain loop: zeros stay, resuming changes nothing, the model stays ordinary."""

import copy
import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import OPTIMISERS, RAMP, STEPS, Net, backward, setting, train
from torch import nn

from asr.errors import AsrError
from asr.pruning.masks import PrunedTooFar
from asr.pruning.prunable import find
from asr.pruning.pruner import Pruner
from asr.pruning.rule import Rule
from asr.pruning.schedule import FixedMask, Unfinished
from asr.pruning.sparsity_schedules import Cubic, OneShot
from asr.pruning.threshold_schedule import ThresholdRamp


@pytest.mark.parametrize("mask_gradients", [True, False])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_pruned_weight_stays_zero_with_any_momentum(optimiser, mask_gradients):
    model, optimiser, pruner = setting(optimiser)
    weights = find(model, ["rnn*"])
    zeroed = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in weights.items()}
    for _ in range(STEPS):
        train(model, optimiser, pruner, 1, mask_gradients)
        for name, weight in weights.items():
            assert not weight[zeroed[name]].any()
            zeroed[name] |= weight == 0
    assert all(0.5 < d.float().mean() < 0.99 for d in zeroed.values())
    assert pruner.sparsity() == pytest.approx(
        sum(int(d.sum()) for d in zeroed.values()) / sum(d.numel() for d in zeroed.values())
    )


def test_masks_change_at_update_steps_only_and_take_effect_at_once():
    model, optimiser, pruner = setting()
    for step in range(1, STEPS + 1):
        before = pruner.sparsity()
        train(model, optimiser, pruner, 1)
        assert RAMP.is_update(step) or pruner.sparsity() == before
        zeros = sum(int((w == 0).sum()) for w in find(model, ["rnn*"]).values())
        elements = sum(w.numel() for w in find(model, ["rnn*"]).values())
        assert zeros / elements == pytest.approx(pruner.sparsity())
        assert pruner.finished == (step >= 64)
    assert [step for step, _ in pruner.curve] == list(RAMP.update_steps)
    sparsities = [sparsity for _, sparsity in pruner.curve]
    assert sparsities == sorted(sparsities)
    assert sparsities[-1] == pruner.sparsity() > 0.6


def test_mask_is_the_threshold_of_this_step_on_the_weights_of_this_step():
    model, optimiser, pruner = setting()
    train(model, optimiser, pruner, 5)
    backward(model, 5)
    optimiser.step()
    eps = {n: RAMP.threshold(6, q) for n, q in pruner.thresholds.items()}
    expected = {n: find(model)[n].abs() >= eps[n] for n in eps}
    pruner.step(optimiser)
    assert pruner.masks().keys() == expected.keys()
    assert all(torch.equal(pruner.masks()[n], expected[n]) for n in expected)


def test_moments_of_pruned_weights_are_zeroed_at_updates():
    model, optimiser, pruner = setting("adamw")
    train(model, optimiser, pruner, 64)
    for name, keep in pruner.masks().items():
        state = optimiser.state[find(model)[name]]
        assert not keep.all()
        for moment in (state["exp_avg"], state["exp_avg_sq"]):
            assert not moment[~keep].any()
            assert moment[keep].all()


def test_only_gradients_of_unpruned_weights_count_in_clipping():
    model, optimiser, pruner = setting()
    train(model, optimiser, pruner, 64)
    optimiser.zero_grad()
    backward(model, 0)
    dense = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    keeps = pruner.masks()
    unpruned = torch.cat(
        [
            (p.grad * keeps[n] if n in keeps else p.grad).flatten()
            for n, p in model.named_parameters()
        ]
    ).norm()
    pruner.mask_gradients()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert norm == pytest.approx(unpruned.item(), rel=1e-6)
    assert norm < 0.9 * dense


def test_accumulated_batches_count_as_one_optimiser_step():
    model, optimiser, pruner = setting()
    for _ in range(8):
        for part in range(3):
            backward(model, part)
        pruner.mask_gradients()
        optimiser.step()
        pruner.step(optimiser)
        optimiser.zero_grad()
    assert pruner.steps == 8
    assert [step for step, _ in pruner.curve] == [6, 8]


@pytest.fixture(scope="module", params=["adamw", "nesterov"])
def whole(request):
    """An uninterrupted run, and the states from which it could be resumed."""
    run = setting(request.param)
    model, _, pruner = run
    states = {}
    while pruner.steps < STEPS:
        train(*run, 1, clip=0.1)
        file = io.BytesIO()
        torch.save([part.state_dict() for part in run], file)
        states[pruner.steps] = file.getvalue()
    return request.param, model, pruner, states


# Before start, at start, on an update, between two, last update, after it, last step but one, last.
@pytest.mark.parametrize("stop", [3, 4, 20, 21, 64, 65, 71, 72])
def test_mask_survives_resume_bit_for_bit(whole, stop):
    name, model, pruner, states = whole
    other = Net(seed=5)
    optimiser = OPTIMISERS[name](other.parameters())
    resumed = (other, optimiser, Pruner(other, pruner.rules))
    loaded = torch.load(io.BytesIO(states[stop]), weights_only=True)
    for part, state in zip(resumed, loaded, strict=True):
        part.load_state_dict(state)
    train(*resumed, STEPS - stop, clip=0.1)
    for (key, there), here in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(there, here), key
    assert resumed[2].curve == pruner.curve
    assert resumed[2].steps == STEPS


def test_loading_applies_the_masks_at_once():
    model, optimiser, pruner = setting()
    train(model, optimiser, pruner, 64)
    other = Net(seed=5)
    resumed = Pruner(other, pruner.rules)
    resumed.load_state_dict(pruner.state_dict())
    for name, keep in pruner.masks().items():
        assert torch.equal(find(other)[name] != 0, keep)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (
            {"schedule": ThresholdRamp(4, 20, 68, 2)},
            r"rule 1\):\n  schedule.end: 66 in .*, 68 here",
        ),
        ({"thresholds": 2.0}, r"rule 1\):\n  thresholds.rnn.weight_hh_l0: 0\.\d+ in the checkp"),
        ({"tensors": ["rnn.weight_hh*"]}, r"rnn.weight_ih_l0: \[36, 6\] in the .*, absent here"),
        ({"keep_zeros": True}, "keep_zeros: False in the checkpoint, True here"),
    ],
)
def test_state_of_another_pruning_is_refused_with_the_difference(change, fragment):
    _, _, pruner = setting()
    model = Net()
    arguments = {"schedule": RAMP, **change}
    scale = arguments.pop("thresholds", 1.0)
    thresholds = {name: q * scale for name, q in pruner.thresholds.items()}
    other = Pruner(model, Rule(thresholds=thresholds, **arguments))
    with pytest.raises(AsrError, match=fragment):
        other.load_state_dict(pruner.state_dict())


def test_state_for_another_shape_is_refused():
    _, _, pruner = setting()
    other = Pruner(nn.ModuleDict({"rnn": nn.GRU(7, 12, bidirectional=True)}), pruner.rules)
    with pytest.raises(AsrError, match=r"rnn.weight_ih_l0: \[36, 6\] in the checkpoint, \[36, 7\]"):
        other.load_state_dict(pruner.state_dict())


def test_the_model_is_ordinary_after_finalize():
    model, optimiser, pruner = setting()
    keys, names = list(model.state_dict()), [n for n, _ in model.named_modules()]
    train(model, optimiser, pruner, STEPS)
    stats = pruner.finalize()
    assert list(model.state_dict()) == keys
    assert [n for n, _ in model.named_modules()] == names
    assert type(model.rnn) is nn.GRU
    for module in model.modules():
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
            assert not getattr(module, kind)
    assert all(p._backward_hooks is None for p in model.parameters())
    assert stats.prunable_sparsity == pytest.approx(pruner.sparsity())
    assert [t.name for t in stats.tensors] == pruner.names
    for weight in find(model, ["rnn*"]).values():
        assert not torch.signbit(weight[weight == 0]).any()
    with pytest.raises(AsrError, match="was finalized"):
        pruner.step()


def test_deepcopy_script_and_export_work_under_pruning():
    model, optimiser, pruner = setting()
    train(model, optimiser, pruner, 41)
    x = torch.randn(4, 2, 6)
    expected = model(x)
    copied = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is")
        scripted = torch.jit.script(model)
        # This warning is given for any nn.GRU, pruned or not.
        warnings.filterwarnings("ignore", message=r"The tensor attributes self\.rnn\._flat_weights")
        exported = torch.export.export(model.eval(), (x,)).module()
    for other in (copied, scripted, exported):
        torch.testing.assert_close(other(x), expected)
    train(model, optimiser, pruner, 1)
    assert torch.equal(copied(x), expected)


def test_every_replica_computes_the_same_masks():
    runs = [setting(), setting()]
    for run in runs:
        train(*run, STEPS)
    first, second = (run[2].masks() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_masks_of_autocast_training_come_from_float32_weights():
    model, optimiser, pruner = setting()
    with torch.autocast("cpu", torch.bfloat16):
        train(model, optimiser, pruner, 6)
        keep = pruner.masks()["rnn.weight_hh_l0"]
    weight = model.rnn.weight_hh_l0
    assert weight.dtype == torch.float32
    eps = RAMP.threshold(6, pruner.thresholds["rnn.weight_hh_l0"])
    assert weight[keep].abs().min() >= torch.tensor(eps)


def test_model_may_be_moved_cast_and_assigned_while_pruned():
    model, optimiser, pruner = setting()
    train(model, optimiser, pruner, 64)
    keeps = pruner.masks()
    model.load_state_dict(Net(seed=7).state_dict(), assign=True)
    model.double()
    pruner.step()
    assert all(torch.equal(find(model)[name] != 0, keep) for name, keep in keeps.items())


def test_tied_parameter_is_masked_once_under_its_first_name():
    net = nn.ModuleDict({"f": nn.GRU(6, 12), "b": nn.GRU(6, 12)})
    net["b"].weight_ih_l0 = net["f"].weight_ih_l0
    thresholds = dict.fromkeys(["f.weight_hh_l0", "b.weight_ih_l0"], 0.15)
    pruner = Pruner(net, Rule(RAMP, thresholds=thresholds))
    assert pruner.names == ["f.weight_ih_l0", "f.weight_hh_l0"]
    for _ in range(64):
        pruner.step()
    assert torch.equal(net["b"].weight_ih_l0 != 0, pruner.masks()["f.weight_ih_l0"])
    assert net["b"].weight_hh_l0.all()
    both = {"f.weight_ih_l0": 0.1, "b.weight_ih_l0": 0.2}
    with pytest.raises(AsrError, match=r"two thresholds for f\.weight_ih_l0"):
        Pruner(net, Rule(RAMP, thresholds=both))


def test_fixed_mask_preserves_the_zeros_of_the_model():
    model, optimiser, pruner = setting()
    train(model, optimiser, pruner, STEPS)
    pruner.finalize()
    zeros = {name: w == 0 for name, w in find(model).items()}
    before = model.rnn.weight_hh_l0.clone()
    optimiser = OPTIMISERS["adamw"](model.parameters())
    train(model, optimiser, Pruner(model, Rule(FixedMask(), ["rnn*"])), 5)
    assert all(torch.equal(w == 0, zeros[name]) for name, w in find(model).items())
    assert not torch.equal(model.rnn.weight_hh_l0, before)


def test_fixed_mask_resumes_with_the_masks_of_its_beginning():
    model = Net()
    with torch.no_grad():
        model.rnn.weight_hh_l0[3] = 0.0
    pruner = Pruner(model, Rule(FixedMask(), ["rnn*"]))
    with torch.no_grad():
        model.rnn.weight_hh_l0[4] = 0.0  # a zero by chance, not of the mask
    resumed = Pruner(model, Rule(FixedMask(), ["rnn*"]))
    resumed.load_state_dict(pruner.state_dict())
    assert resumed.sparsity() == pruner.sparsity()
    assert resumed.masks()["rnn.weight_hh_l0"].all(dim=1).sum() == 35


def test_a_tensor_that_would_be_pruned_too_far_stops_before_anything_is_zeroed():
    model = Net()
    thresholds = dict.fromkeys(find(model), 1e-2) | {"output.weight": 50.0}
    pruner = Pruner(model, Rule(RAMP, thresholds=thresholds))
    for _ in range(5):
        pruner.step()
    with pytest.raises(PrunedTooFar, match=r"output\.weight \[5, 24\] would be 100\.00% sparse"):
        pruner.step()
    assert all(weight.all() for weight in find(model).values())


def test_different_masks_have_different_hashes():
    runs = [setting(), setting()]
    for run in runs:
        train(*run, 10)
    first, second = (run[2] for run in runs)
    assert first.mask_hash() == second.mask_hash()
    train(*runs[1], 2)
    assert first.mask_hash() != second.mask_hash()


def test_corrected_threshold_is_in_the_checkpoint():
    rule = Rule(replace(RAMP, target=0.9), ["rnn*"])

    def start(seed=0):
        model = Net(seed)
        return model, OPTIMISERS["adamw"](model.parameters()), Pruner(model, rule)

    whole, stopped, resumed = start(), start(), start(5)
    train(*whole, STEPS)
    train(*stopped, 33)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in stopped], file)
    file.seek(0)
    for part, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(*resumed, STEPS - 33)
    for there, here in zip(whole[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(there, here)
    assert resumed[2].thresholds == whole[2].thresholds
    assert resumed[2].curve == whole[2].curve


def test_density_that_is_not_a_fraction_is_refused():
    with pytest.raises(AsrError, match="min_density=50: a fraction"):
        Pruner(Net(), Rule(Cubic(1, 40, 1, 0.9)), min_density=50)


def test_weights_that_are_not_finite_stop_the_update():
    model = Net()
    with torch.no_grad():
        model.rnn.weight_hh_l0[1, 1] = float("nan")
    pruner = Pruner(model, Rule(OneShot(1, 0.5)))
    with pytest.raises(AsrError, match=r"rnn\.weight_hh_l0 holds NaN"):
        pruner.step()


def test_pruning_that_ends_before_its_last_update_gives_a_warning():
    model, optimiser, pruner = setting()
    train(model, optimiser, pruner, 40)
    with pytest.warns(Unfinished, match=r"step 40 with \d+\.\d+% .* update is after step 64"):
        pruner.finalize()
    model, optimiser, pruner = setting()
    train(model, optimiser, pruner, 64)
    pruner.finalize()


def test_numbers_of_numpy_and_torch_are_plain_numbers_in_the_checkpoint():
    ramp = ThresholdRamp(4, 20, 66, 2, np.float64(1.5))
    rules = [
        Rule(
            ramp,
            thresholds={"output.weight": np.float32(0.5), "rnn.weight_hh_l0": torch.tensor(0.25)},
        ),
        Rule(Cubic(4, 66, 2, np.float64(0.75)), ["*reverse"]),
        Rule(replace(ramp, target=np.float64(0.5)), ["rnn.weight_ih_l0"]),
    ]
    pruner = Pruner(Net(), rules)
    file = io.BytesIO()
    torch.save(pruner.state_dict(), file)
    file.seek(0)
    pruner.load_state_dict(torch.load(file, weights_only=True))
    first, second, third = pruner.state_dict()["rules"]
    assert first["thresholds"] == {"output.weight": 0.5, "rnn.weight_hh_l0": 0.25}
    assert second["schedule"]["target"] == 0.75
    assert third["schedule"]["target"] == 0.5
