"""RigL: replaced weights against an independent implementation of Algorithm 1."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from asr.errors import AsrError
from asr.pruning import Block, Pruner, RigL, Rule, schedule_from_plain


def layers(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))


def rule(**options: Any) -> Rule:
    chosen = {"end": 12, "frequency": 4, "target": 0.8, "drop_fraction": 0.5} | options
    return Rule(RigL(**chosen))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(64, 20, generator=generator)
    return x, x[:, :4] * 2


def train_step(model: nn.Module, optimiser: torch.optim.Optimizer, pruner: Pruner) -> None:
    x, y = data()
    optimiser.zero_grad()
    (model(x) - y).square().mean().backward()
    pruner.mask_gradients()
    optimiser.step()
    pruner.step(optimiser)


def trainer(model: nn.Module, **options: Any) -> tuple[torch.optim.Optimizer, Pruner]:
    return torch.optim.Adam(model.parameters(), 0.01), Pruner(model, rule(**options))


@pytest.mark.parametrize(
    ("end", "frequency", "steps", "step", "replaced"),
    [
        (12, 4, [1, 4, 8, 12], 0, 0.5), (12, 4, [1, 4, 8, 12], 6, 0.25),
        (12, 4, [1, 4, 8, 12], 12, 0.0), (12, 4, [1, 4, 8, 12], 99, 0.0),
        (10, 4, [1, 4, 8], 5, 0.25), (3, 3, [1, 3], 1, 0.375), (4, 2, [1, 2, 4], 2, 0.25),
    ],
)  # fmt: skip
def test_steps_and_fractions(
    end: int, frequency: int, steps: list[int], step: int, replaced: float
) -> None:
    schedule = RigL(end, frequency, 0.9, drop_fraction=0.5)
    assert list(schedule.update_steps) == steps
    assert [s for s in range(2 * end) if schedule.is_update(s)] == steps
    assert next(s for s in range(2 * end) if schedule.is_finished(s)) == steps[-1]
    assert schedule.drop_fraction_at(step) == pytest.approx(replaced)
    assert (schedule.sparsity(0), schedule.sparsity(1), schedule.sparsity(99)) == (0, 0.9, 0.9)
    assert schedule_from_plain(schedule.to_plain()) == schedule


def test_fractions_of_all_steps() -> None:
    schedule = RigL.from_fractions(1000, end=0.75, mask_updates=20, target=0.9)
    assert (schedule.end, schedule.frequency, schedule.mask_updates) == (750, 37, 21)


def expected(
    weight: np.ndarray, gradient: np.ndarray, keep: np.ndarray, fraction: float
) -> np.ndarray:
    """Algorithm 1 with sets of positions: drop the smallest, grow among all that do not survive."""
    alive = [int(i) for i in np.flatnonzero(keep)]
    count = round(fraction * len(alive))
    survivors = set(sorted(alive, key=lambda i: -abs(weight.flat[i]))[: len(alive) - count])
    others = [i for i in range(weight.size) if i not in survivors]
    grown = set(sorted(others, key=lambda i: -abs(gradient.flat[i]))[:count])
    mask = np.zeros(weight.size, dtype=bool)
    mask[list(survivors | grown)] = True
    return mask.reshape(weight.shape)


def test_a_replacement_is_that_of_the_algorithm_and_new_weights_begin_at_zero() -> None:
    model = layers()
    optimiser, pruner = trainer(model)
    for _ in range(3):
        train_step(model, optimiser, pruner)
    before = {k: v.numpy().copy() for k, v in pruner.masks().items()}
    assert {k: int(v.sum()) for k, v in before.items()} == {"0.weight": 120, "2.weight": 24}
    x, y = data()
    optimiser.zero_grad()
    (model(x) - y).square().mean().backward()
    pruner.mask_gradients()
    parameters = {n: p for n, p in model.named_parameters() if n in before}
    dense = {n: p.grad.numpy().copy() for n, p in parameters.items() if p.grad is not None}
    assert all((dense[n][~before[n]] != 0).mean() > 0.5 for n in before), (
        "dense gradients remain readable"
    )
    optimiser.step()
    moved = {n: p.detach().numpy().copy() for n, p in parameters.items()}
    pruner.step(optimiser)
    fraction = 0.25 * (1 + np.cos(np.pi * 4 / 12))
    for name, mask in pruner.masks().items():
        right = expected(moved[name], dense[name], before[name], fraction)
        assert (mask.numpy() == right).all()
        assert (right != before[name]).sum() > 5
        after = parameters[name].detach().numpy()
        assert (after[right & before[name]] == moved[name][right & before[name]]).all()
        assert (after[~(right & before[name])] == 0).all()
        for moment in ("exp_avg", "exp_avg_sq"):
            state = optimiser.state[parameters[name]][moment]
            assert not state[~mask].any()
            assert not state[mask & ~torch.from_numpy(before[name])].any(), (
                "no moments of earlier weights"
            )


def test_the_number_of_weights_never_changes_and_gradients_are_masked_between_updates() -> None:
    model = layers()
    optimiser, pruner = trainer(model)
    masks = []
    for step in range(1, 17):
        train_step(model, optimiser, pruner)
        masks.append({k: v.clone() for k, v in pruner.masks().items()})
        assert {k: int(v.sum()) for k, v in masks[-1].items()} == {"0.weight": 120, "2.weight": 24}
        gradient = model[0].weight.grad
        assert gradient is not None
        outside = gradient[~masks[-1]["0.weight"]]
        if step not in (1, 4, 8, 12):
            assert not outside.any()
            assert torch.equal(masks[-1]["0.weight"], masks[-2]["0.weight"])
        assert not model[0].weight.detach()[~masks[-1]["0.weight"]].any()
    assert pruner.finished
    assert pruner.finalize().prunable_sparsity == pytest.approx(0.8)


def test_the_first_mask_is_random_but_the_same_for_one_seed() -> None:
    masks = []
    for seed in (1, 1, 2):
        model = layers()
        optimiser, pruner = trainer(model, seed=seed)
        train_step(model, optimiser, pruner)
        masks.append(pruner.masks()["0.weight"])
    assert torch.equal(masks[0], masks[1])
    together = int((masks[0] & masks[2]).sum())
    assert 8 <= together <= 45, "about 24 of 120 by chance"


def test_weights_move_to_where_the_task_needs_them() -> None:
    model = nn.Sequential(nn.Linear(20, 4, bias=False))
    optimiser, pruner = trainer(model, end=60, frequency=5, target=0.9)
    train_step(model, optimiser, pruner)
    useful = torch.zeros(4, 20, dtype=torch.bool)
    useful[range(4), range(4)] = True
    assert int((pruner.masks()["0.weight"] & useful).sum()) < 4
    for _ in range(80):
        train_step(model, optimiser, pruner)
    assert bool(pruner.masks()["0.weight"][useful].all())


@pytest.mark.parametrize("stopped", [0, 1, 3, 4, 5, 12, 14])
def test_resumed_at_any_step_it_ends_with_equal_weights(stopped: int) -> None:
    whole = layers()
    optimiser, pruner = trainer(whole)
    saved: dict[str, Any] = {}
    for step in range(16):
        if step == stopped:
            parts = {"model": whole, "optimiser": optimiser, "pruner": pruner}
            saved = {k: copy.deepcopy(v.state_dict()) for k, v in parts.items()}
        train_step(whole, optimiser, pruner)
    again = layers(1)
    optimiser, second = trainer(again)
    again.load_state_dict(saved["model"])
    optimiser.load_state_dict(saved["optimiser"])
    second.load_state_dict(saved["pruner"])
    for _ in range(16 - stopped):
        train_step(again, optimiser, second)
    assert second.mask_hash() == pruner.mask_hash()
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True)
    )


def test_without_gradients_the_error_names_the_order_of_calls() -> None:
    model = layers()
    optimiser, pruner = trainer(model)
    for _ in range(3):
        train_step(model, optimiser, pruner)
    optimiser.zero_grad()
    with pytest.raises(AsrError, match=r"before optimiser\.zero_grad"):
        pruner.step(optimiser)


def test_a_step_that_grad_scaler_skips_changes_no_mask() -> None:
    model = layers()
    optimiser, pruner = trainer(model)
    for _ in range(3):
        train_step(model, optimiser, pruner)
    before, weights = pruner.masks(), model[0].weight.detach().clone()
    x, y = data()
    scaler = torch.amp.GradScaler("cpu")
    optimiser.zero_grad()
    scaler.scale((model(x * float("inf")) - y).square().mean()).backward()
    scaler.unscale_(optimiser)
    pruner.mask_gradients()
    scaler.step(optimiser)
    scaler.update()
    pruner.step(optimiser)
    assert pruner.steps == 4, "a step at which weights are replaced"
    assert all(torch.equal(before[name], keep) for name, keep in pruner.masks().items())
    assert torch.equal(model[0].weight, weights)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"end": 3, "frequency": 4}, "need 2 <= frequency <= end"),
        ({"frequency": 1}, "need 2 <= frequency <= end"),
        ({"end": 0.75}, "must be a whole number of optimiser steps"),
        ({"target": 90}, "RigL: target=90: a fraction"),
        ({"drop_fraction": 0.0}, "RigL: drop_fraction=0.0: a fraction"),
    ],
)
def test_impossible_numbers_are_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(AsrError) as error:
        rule(**options)
    assert fragment in str(error.value)


@pytest.mark.parametrize(
    "options",
    [{"pattern": Block(4, 4)}, {"scope": "global"}],
)
def test_rigl_refuses_other_ways_to_choose_weights(options: dict[str, Any]) -> None:
    with pytest.raises(AsrError, match="it replaces single weights of each tensor"):
        Rule(RigL(12, 4, 0.8), **options)
    with pytest.raises(AsrError, match="it lets weights come back, which keep_zeros forbids"):
        Rule(RigL(12, 4, 0.8), keep_zeros=True)


def test_a_window_too_short_for_updates_is_refused() -> None:
    with pytest.raises(AsrError, match="20 updates do not fit"):
        RigL.from_fractions(40, end=0.5, mask_updates=20)
