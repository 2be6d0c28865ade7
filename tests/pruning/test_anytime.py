"""Every kind of pruning may be interrupted, copied, exported and continued at any time."""

import copy
import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asr import sparse
from asr.pruning import (
    Bank,
    Block,
    Cubic,
    FewUpdates,
    FixedMask,
    OneShot,
    Pruner,
    RigL,
    Rule,
    ThresholdRamp,
    find,
    statistics,
)

STEPS = 26
FIRST, LAST = 6, 22  # updates of the gradual ones: 6, 8, ..., 22


class LargestGradient(Cubic):
    """Cubic by another criterion, under which weights come back."""

    regrows = True

    def scores(
        self, step: int, name: str, weight: nn.Parameter, keep: Tensor | None
    ) -> Tensor | None:
        grad = weight.grad if weight.grad is not None else torch.zeros_like(weight)
        return weight.detach().abs() + grad.abs()


def _rules() -> dict[str, list[Rule]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewUpdates)
        ramp = ThresholdRamp(start=4, ramp=10, end=24, frequency=2)
        to_target = replace(ramp, target=0.8)
        cubic = Cubic(start=FIRST, end=LAST, frequency=2, target=0.8, initial=0.1)
        regrowing = LargestGradient(start=FIRST, end=LAST, frequency=2, target=0.8, initial=0.1)
    return {
        "ramp to a target": [Rule(to_target, ["rnn*"])],
        "ramp with q": [Rule(ramp, thresholds={"rnn.weight_hh_l0": 0.2})],
        "cubic, global": [Rule(cubic, ["conv*", "rnn*"], scope="global")],
        "cubic, blocks": [Rule(cubic, ["rnn*"], Block(4, 2), scope="group")],
        "banks": [Rule(cubic, ["rnn*"], Bank(4))],
        "at the first step": [Rule(OneShot(1, 0.8))],
        "one shot": [Rule(OneShot(12, 0.8))],
        "regrowing": [Rule(regrowing, ["rnn*"])],
        "rigl": [Rule(RigL(end=LAST, frequency=2, target=0.8), ["rnn*"])],
        "two rules": [
            Rule(to_target, ["rnn*"]),
            Rule(cubic, ["conv*"], Block(2, 3)),
        ],
    }


RULES = _rules()


class Net(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv1d(6, 8, 3, padding=1)
        self.rnn = nn.GRU(8, 12, bidirectional=True)
        self.output = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.permute(1, 2, 0)).permute(2, 0, 1)
        return self.output(self.rnn(y)[0])


class Training:
    """Momentum, two batches per step, bfloat16 autocast and clipping together."""

    def __init__(self, kind: str, seed: int = 0) -> None:
        self.model = Net(seed)
        self.optimiser = torch.optim.SGD(self.model.parameters(), 0.05, 0.9, nesterov=True)
        self.pruner = Pruner(self.model, RULES[kind], self.optimiser)

    def step(self) -> None:
        for part in range(2):
            torch.manual_seed(2 * self.pruner.steps + part)
            with torch.autocast("cpu", torch.bfloat16):
                output = self.model(torch.randn(5, 3, 6))
            output.float().square().add(0.1).log().mean().backward()
        self.pruner.mask_gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimiser.step()
        self.pruner.step()
        self.optimiser.zero_grad()

    def parts(self) -> tuple[Any, Any, Any]:
        return self.model, self.optimiser, self.pruner


@pytest.mark.parametrize("kind", RULES)
def test_a_training_resumed_at_any_step_is_bit_equal(
    kind: str,
) -> None:
    whole = Training(kind)
    files: dict[int, bytes] = {}
    for step in range(1, STEPS + 1):
        whole.step()
        file = io.BytesIO()
        torch.save([part.state_dict() for part in whole.parts()], file)
        files[step] = file.getvalue()
    for stop in (1, FIRST - 1, FIRST, 11, 12, 13, LAST, LAST + 1, STEPS):
        resumed = Training(kind, seed=5)
        states = torch.load(io.BytesIO(files[stop]), weights_only=True)
        for part, state in zip(resumed.parts(), states, strict=True):
            part.load_state_dict(state)
        while resumed.pruner.steps < STEPS:
            resumed.step()
        for (name, there), here in zip(
            whole.model.named_parameters(), resumed.model.parameters(), strict=True
        ):
            assert torch.equal(there, here), f"{name}, resumed after step {stop}"
        assert resumed.pruner.mask_hash() == whole.pruner.mask_hash()
        assert resumed.pruner.curve == whole.pruner.curve
        assert resumed.pruner.thresholds == whole.pruner.thresholds
    assert 0.3 < whole.pruner.sparsity() < 0.95


@pytest.mark.parametrize("kind", RULES)
def test_settled_masks_never_change_again(kind: str) -> None:
    training = Training(kind)
    masks: dict[str, Tensor] | None = None
    settled_at = STEPS
    for step in range(1, STEPS + 1):
        training.step()
        now = training.pruner.masks()
        if masks is not None:
            assert training.pruner.settled
            assert all(torch.equal(now[name], keep) for name, keep in masks.items())
        elif training.pruner.settled:
            masks, settled_at = now, step
        assert training.pruner.settled or not training.pruner.finished
    assert settled_at < STEPS
    # 1 of 4 is what a bank keeps from 62.5 % on, and 80 % come later.
    assert (settled_at < LAST) == (kind in ("banks", "at the first step", "one shot"))


@pytest.mark.parametrize("kind", RULES)
def test_pruned_weights_are_zero_after_every_step_and_masks_never_grow(kind: str) -> None:
    training = Training(kind)
    before = training.pruner.masks()
    for _ in range(STEPS):
        training.step()
        masks = training.pruner.masks()
        for name, weight in find(training.model).items():
            if name in masks:
                assert not weight[~masks[name]].any()
                assert weight.dtype == torch.float32
                back = masks[name] & ~before[name]
                assert kind in ("regrowing", "rigl") or not back.any()
                assert not weight[back].any(), "regrown weights begin at zero"
        before = masks


def copies(model: nn.Module, x: Tensor, exported: bool) -> list[Callable[[Tensor], Tensor]]:
    """The model as a deep copy, a script, and an exported program if `exported`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is")
        # This warning is given for any nn.GRU, pruned or not.
        warnings.filterwarnings("ignore", message=r"The tensor attributes self\.rnn\._flat_weights")
        made: list[Any] = [copy.deepcopy(model), torch.jit.script(model)]
        if exported:
            made.append(torch.export.export(copy.deepcopy(model).eval(), (x,)).module())
    return made


@pytest.mark.parametrize("kind", ["ramp to a target", "banks", "rigl", "two rules"])
def test_a_pruned_model_is_copied_scripted_and_exported_at_any_step(kind: str) -> None:
    training, x = Training(kind), torch.randn(4, 2, 6)
    model, keys = training.model, list(Net().state_dict())
    for step in range(STEPS + 1):
        if step in (0, FIRST, 13, LAST, STEPS):
            if step == STEPS:
                training.pruner.finalize()
            expected = model(x)
            for made in copies(model, x, exported=step in (FIRST, STEPS)):
                torch.testing.assert_close(made(x), expected)
            copied = copy.deepcopy(training.model)
            assert list(model.state_dict()) == keys
            assert [type(m) for m in model.modules()] == [type(m) for m in Net().modules()]
            for module in model.modules():
                for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
                    assert not getattr(module, hooks)
                assert not hasattr(module, "parametrizations")
        if step < STEPS:
            training.step()
            if step == FIRST:
                assert torch.equal(copied(x), expected), "a copy is not pruned with its model"


def test_a_copied_pruner_continues_with_a_copied_model() -> None:
    training = Training("ramp to a target")
    for _ in range(12):
        training.step()
    copied = copy.deepcopy(training)
    assert copied.pruner.model is copied.model
    for _ in range(STEPS - 12):
        training.step()
        copied.step()
    for there, here in zip(training.model.parameters(), copied.model.parameters(), strict=True):
        assert torch.equal(there, here)
    assert copied.pruner.mask_hash() == training.pruner.mask_hash()


def predict(model: nn.Module, steps: int, pruner: Pruner | None = None) -> float:
    """Train to predict a sine; the loss of the last step."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        phase = torch.rand(1, 16, 1, generator=generator)
        wave = torch.sin(torch.arange(26)[:, None, None] / 3 + 6.3 * phase)
        output = model["output"](model["rnn"](wave[:-1])[0])  # type: ignore[index]
        loss = (output - wave[1:])[3:].square().mean()
        optimiser.zero_grad()
        loss.backward()
        if pruner:
            pruner.mask_gradients()
        optimiser.step()
        if pruner:
            pruner.step(optimiser)
    return float(loss.detach())


def network(seed: int) -> nn.ModuleDict:
    torch.manual_seed(seed)
    return nn.ModuleDict({"rnn": nn.LSTM(1, 24), "output": nn.Linear(24, 1)})


def test_a_network_that_somebody_else_trained_is_pruned_and_then_pruned_further_from_its_file(
    tmp_path: Path,
) -> None:
    foreign = network(1)
    dense_loss = predict(foreign, 200)
    torch.save(foreign.state_dict(), tmp_path / "theirs.pt")

    first = network(2)
    first.load_state_dict(torch.load(tmp_path / "theirs.pt", weights_only=True))
    rule = Rule(Cubic(start=4, end=64, frequency=2, target=0.6), ["rnn.weight_hh*"])
    pruner = Pruner(first, rule)
    loss = predict(first, 90, pruner)
    assert pruner.finalize().prunable_sparsity == pytest.approx(0.6, abs=1e-3)
    assert loss < 0.02
    assert dense_loss < 0.02

    arrays = {name: tensor.numpy() for name, tensor in first.state_dict().items()}
    sparse.write(tmp_path / "pruned.asr", arrays, {}, values="fp16")
    packed = {n: torch.from_numpy(a) for n, a in sparse.read(tmp_path / "pruned.asr")[0].items()}
    zeros = packed["rnn.weight_hh_l0"] == 0

    tuned = network(3)
    tuned.load_state_dict(packed)
    pruner = Pruner(tuned, Rule(FixedMask(), ["rnn.weight_hh*"]))
    predict(tuned, 10, pruner)
    assert torch.equal(tuned["rnn"].weight_hh_l0 == 0, zeros)

    second = network(4)
    second.load_state_dict(packed)
    rule = Rule(
        Cubic(start=4, end=64, frequency=2, target=0.85), ["rnn.weight_hh*"], keep_zeros=True
    )
    pruner = Pruner(second, rule)
    for _ in range(9):
        loss = predict(second, 10, pruner)
        assert bool((second["rnn"].weight_hh_l0[zeros] == 0).all())
    assert pruner.finalize().prunable_sparsity == pytest.approx(0.85, abs=1e-3)
    assert loss < 0.02
    assert statistics(second, ["rnn.weight_ih*"]).prunable_sparsity == 0.0
