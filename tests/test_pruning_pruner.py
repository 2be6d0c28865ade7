"""Masks in a plain loop: zeros stay, a resumed run is the same run, the model stays ordinary."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn

from asr.errors import AsrError
from asr.pruning.calibrate import calibrate
from asr.pruning.masks import PrunedTooFar
from asr.pruning.prunable import find
from asr.pruning.pruner import Pruner
from asr.pruning.schedule import Frozen, Schedule, ThresholdRamp

RAMP = ThresholdRamp(start=4, ramp=20, end=66, frequency=2)  # 30 updates: 6, 8, ..., 64
STEPS = 72

OPTIMISERS = {
    "adam": lambda p: torch.optim.Adam(p, 2e-3, weight_decay=1e-4, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 5e-3),
    "nesterov": lambda p: torch.optim.SGD(p, 5e-2, momentum=0.9, nesterov=True),
    "momentum": lambda p: torch.optim.SGD(p, 5e-2, momentum=0.9, weight_decay=1e-4),
}


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.rnn = nn.GRU(6, 12, bidirectional=True)
        self.output = nn.Linear(24, 5)

    def forward(self, x):
        return self.output(self.rnn(x)[0])


def backward(model, step):
    torch.manual_seed(step)
    model(torch.randn(5, 3, 6)).pow(2).sum(-1).add(0.1).log().mean().backward()


def train(model, optimiser, pruner, steps, mask_gradients=True, clip=None):
    for _ in range(steps):
        optimiser.zero_grad()
        backward(model, pruner.steps)
        if mask_gradients:
            pruner.mask_gradients()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        pruner.step(optimiser)


def setting(optimiser="adamw", patterns=("rnn*",)):
    model = Net()
    thresholds = calibrate(model, find(model, patterns), 0.8)
    return model, OPTIMISERS[optimiser](model.parameters()), Pruner(model, RAMP, thresholds)


@pytest.mark.parametrize("mask_gradients", [True, False])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_zero_stays_zero_whatever_the_momentum(optimiser, mask_gradients):
    model, optimiser, pruner = setting(optimiser)
    weights = find(model, ["rnn*"])
    dead = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in weights.items()}
    for _ in range(STEPS):
        train(model, optimiser, pruner, 1, mask_gradients)
        for name, weight in weights.items():
            assert not weight[dead[name]].any()
            dead[name] |= weight == 0
    assert all(0.5 < d.float().mean() < 0.99 for d in dead.values())
    assert pruner.sparsity() == pytest.approx(
        sum(int(d.sum()) for d in dead.values()) / sum(d.numel() for d in dead.values())
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
    assert [step for step, _ in pruner.curve] == RAMP.update_steps
    shares = [share for _, share in pruner.curve]
    assert shares == sorted(shares)
    assert shares[-1] == pruner.sparsity() > 0.6


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


def test_moments_of_dropped_weights_are_zeroed_at_updates():
    model, optimiser, pruner = setting("adamw")
    train(model, optimiser, pruner, 64)
    for name, keep in pruner.masks().items():
        state = optimiser.state[find(model)[name]]
        assert not keep.all()
        for moment in (state["exp_avg"], state["exp_avg_sq"]):
            assert not moment[~keep].any()
            assert moment[keep].all()


def test_gradients_of_living_weights_alone_count_in_clipping():
    model, optimiser, pruner = setting()
    train(model, optimiser, pruner, 64)
    optimiser.zero_grad()
    backward(model, 0)
    dense = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    keeps = pruner.masks()
    alive = torch.cat(
        [
            (p.grad * keeps[n] if n in keeps else p.grad).flatten()
            for n, p in model.named_parameters()
        ]
    ).norm()
    pruner.mask_gradients()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert norm == pytest.approx(alive.item(), rel=1e-6)
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
    """A run that nothing interrupted, and the states it could have been resumed from."""
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
    resumed = (other, optimiser, Pruner(other, RAMP, pruner.thresholds))
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
    resumed = Pruner(other, RAMP, pruner.thresholds)
    resumed.load_state_dict(pruner.state_dict())
    for name, keep in pruner.masks().items():
        assert torch.equal(find(other)[name] != 0, keep)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"schedule": ThresholdRamp(4, 20, 68, 2)}, "end: 66 in the checkpoint, 68 here"),
        ({"thresholds": 2.0}, r"thresholds\):\n  rnn.weight_hh_l0: 0\.\d+ in the checkpoint"),
        ({"patterns": ["rnn.weight_hh*"]}, r"rnn.weight_ih_l0: \[36, 6\] in the .*, absent here"),
    ],
)
def test_state_of_another_pruning_is_refused_with_the_difference(change, fragment):
    _, _, pruner = setting()
    model = Net()
    arguments = {"schedule": RAMP, "patterns": None, **change}
    scale = arguments.pop("thresholds", 1.0)
    thresholds = {name: q * scale for name, q in pruner.thresholds.items()}
    other = Pruner(model, thresholds=thresholds, **arguments)
    with pytest.raises(AsrError, match=fragment):
        other.load_state_dict(pruner.state_dict())


def test_state_for_another_shape_is_refused():
    _, _, pruner = setting()
    other = Pruner(
        nn.ModuleDict({"rnn": nn.GRU(7, 12, bidirectional=True)}), RAMP, pruner.thresholds
    )
    with pytest.raises(AsrError, match=r"rnn.weight_ih_l0: \[36, 6\] in the checkpoint, \[36, 7\]"):
        other.load_state_dict(pruner.state_dict())


def test_finalize_leaves_an_ordinary_model():
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
    twin = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is")
        scripted = torch.jit.script(model)
        # Said of any nn.GRU, pruned or not.
        warnings.filterwarnings("ignore", message=r"The tensor attributes self\.rnn\._flat_weights")
        exported = torch.export.export(model.eval(), (x,)).module()
    for other in (twin, scripted, exported):
        torch.testing.assert_close(other(x), expected)
    train(model, optimiser, pruner, 1)
    assert torch.equal(twin(x), expected)


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
    pruner = Pruner(net, RAMP, thresholds)
    assert pruner.names == ["f.weight_ih_l0", "f.weight_hh_l0"]
    for _ in range(64):
        pruner.step()
    assert torch.equal(net["b"].weight_ih_l0 != 0, pruner.masks()["f.weight_ih_l0"])
    assert net["b"].weight_hh_l0.all()
    both = {"f.weight_ih_l0": 0.1, "b.weight_ih_l0": 0.2}
    with pytest.raises(AsrError, match=r"two thresholds for f\.weight_ih_l0"):
        Pruner(net, RAMP, both)


def test_frozen_keeps_the_zeros_it_finds():
    model, optimiser, pruner = setting()
    train(model, optimiser, pruner, STEPS)
    pruner.finalize()
    zeros = {name: w == 0 for name, w in find(model).items()}
    before = model.rnn.weight_hh_l0.clone()
    optimiser = OPTIMISERS["adamw"](model.parameters())
    train(model, optimiser, Pruner(model, Frozen(), patterns=["rnn*"]), 5)
    assert all(torch.equal(w == 0, zeros[name]) for name, w in find(model).items())
    assert not torch.equal(model.rnn.weight_hh_l0, before)


def test_frozen_resumes_with_the_masks_of_its_beginning():
    model = Net()
    with torch.no_grad():
        model.rnn.weight_hh_l0[3] = 0.0
    pruner = Pruner(model, Frozen(), patterns=["rnn*"])
    with torch.no_grad():
        model.rnn.weight_hh_l0[4] = 0.0  # a zero by chance, not of the mask
    resumed = Pruner(model, Frozen(), patterns=["rnn*"])
    resumed.load_state_dict(pruner.state_dict())
    assert resumed.sparsity() == pruner.sparsity()
    assert resumed.masks()["rnn.weight_hh_l0"].all(dim=1).sum() == 35


def test_tensor_pruned_too_far_stops_before_anything_is_zeroed():
    model = Net()
    thresholds = dict.fromkeys(find(model), 1e-2) | {"output.weight": 50.0}
    pruner = Pruner(model, RAMP, thresholds)
    for _ in range(5):
        pruner.step()
    with pytest.raises(PrunedTooFar, match=r"output\.weight \[5, 24\] would be 100\.00% sparse"):
        pruner.step()
    assert all(weight.all() for weight in find(model).values())


class Cubic(Schedule):
    def is_update(self, step):
        return False

    def is_finished(self, step):
        return False


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"thresholds": None}, r"ThresholdRamp needs thresholds.*calibrate"),
        ({"thresholds": {"rnn.weight": 0.1}}, r"threshold for 'rnn\.weight', which is no prunable"),
        ({"thresholds": {"output.weight": 0.0}}, r"output\.weight: q=0\.0 must be a number above"),
        ({"thresholds": {"output.weight": float("nan")}}, r"q=nan must be"),
        ({"patterns": ["rnn*"]}, r"no threshold for rnn\.weight_ih_l0, .*: calibrate with"),
        ({"schedule": Frozen()}, r"Frozen and compares nothing: give it no thresholds"),
        ({"schedule": Frozen(), "thresholds": None}, r"no weight of .* is zero: load the pruned"),
        ({"schedule": Cubic()}, r"Cubic is not a pruning schedule"),
        ({"min_density": 50}, r"min_density=50: a share"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, fragment):
    good = {"schedule": RAMP, "thresholds": {"output.weight": 0.1}}
    with pytest.raises(AsrError, match=fragment):
        Pruner(Net(), **{**good, **arguments})


def test_bad_patterns_are_refused_as_by_find():
    with pytest.raises(AsrError, match=r"no prunable weight matches 'lstm\*'"):
        Pruner(Net(), RAMP, {"output.weight": 0.1}, patterns=["lstm*"])
