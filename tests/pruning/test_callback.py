"""The Pruner inside Lightning: hook order, accumulation, checkpoints that resume bit for bit."""

import math

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from asr.errors import AsrError
from asr.pruning import (
    Block,
    Cubic,
    FixedMask,
    GroupLasso,
    GroupLassoCallback,
    PruningCallback,
    RigL,
    Rule,
    ThresholdRamp,
    Unfinished,
    calibrate,
    find,
)

RAMP = ThresholdRamp(start=4, ramp=20, end=66, frequency=2)  # 30 updates: 6, 8, ..., 64
STEPS, STEPS_PER_EPOCH = 72, 24

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    for message in (
        r"The 'train_dataloader' does not have many workers",
        r"You're resuming from a checkpoint that ended before the epoch ended",
        r"The number of training batches \(\d+\) is smaller than the logging interval",
        r"Checkpoint directory .* exists and is not empty",
        r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need",
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    )
]


class Module(LightningModule):
    """Batches are drawn from the optimiser's step, so that the loader has no position to lose."""

    def __init__(self, seed=0, optimiser="adamw"):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.ModuleDict({"rnn": nn.GRU(6, 12), "output": nn.Linear(12, 5)})
        self.optimiser = optimiser
        self.norms = []

    def training_step(self, batch, index):
        generator = torch.Generator().manual_seed(self.global_step)
        x = torch.randn(5, 3, 6, generator=generator)
        return self.net["output"](self.net["rnn"](x)[0]).pow(2).add(0.1).log().mean()

    def configure_optimizers(self):
        if self.optimiser == "adamw":
            return torch.optim.AdamW(self.parameters(), 5e-3)
        return torch.optim.SGD(self.parameters(), 5e-2, momentum=0.9, nesterov=True)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, **kwargs):
        norm = nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val or math.inf)
        keeps = self.trainer.callbacks[0].pruner.masks()
        unpruned = [
            p.grad[keeps[n]] if n in keeps else p.grad for n, p in self.net.named_parameters()
        ]
        pruned = [p.grad[~keeps[n]] for n, p in self.net.named_parameters() if n in keeps]
        assert all(not grad.any() for grad in pruned)
        self.norms.append((norm.item(), torch.cat([g.flatten() for g in unpruned]).norm().item()))


def pruning(module, schedule=RAMP):
    thresholds = calibrate(Module().net, find(Module().net, ["rnn*"]), 0.8)
    if callable(schedule):
        return PruningCallback(
            lambda total: Rule(schedule(total), thresholds=thresholds), module.net
        )
    return PruningCallback(Rule(schedule, thresholds=thresholds), module.net)


def fit(tmp_path, module, callbacks, checkpoint=None, **options):
    trainer = Trainer(
        **{"max_steps": STEPS, "gradient_clip_val": 0.1, "callbacks": callbacks, **options},
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    batches = STEPS_PER_EPOCH * options.get("accumulate_grad_batches", 1)
    loader = DataLoader(range(batches), batch_size=1)
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return trainer


def every_step(folder):
    return ModelCheckpoint(
        folder, "{step}", every_n_train_steps=1, save_top_k=-1, auto_insert_metric_name=False
    )


@pytest.fixture(scope="module", params=["adamw", "nesterov"])
def whole(request, tmp_path_factory):
    """An uninterrupted run with a checkpoint of every step; its callback comes last."""
    folder = tmp_path_factory.mktemp(request.param)
    module = Module(optimiser=request.param)
    callback = pruning(module)
    fit(folder, module, [callback, every_step(folder)])
    return folder, module, callback


# Before start, at start, on an update, at an epoch's end, between two, last update, after it, last.
@pytest.mark.parametrize("stop", [3, 4, 20, 24, 33, 64, 65, 71, 72])
def test_resumed_training_is_the_same_training(whole, stop, tmp_path):
    folder, module, callback = whole
    other = Module(seed=5, optimiser=module.optimiser)
    resumed = pruning(other)
    fit(tmp_path, other, [resumed], folder / f"{stop}.ckpt")
    for (name, there), here in zip(module.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(there, here), name
    assert resumed.pruner.steps == STEPS
    assert resumed.pruner.curve == callback.pruner.curve


def test_every_checkpoint_holds_the_masked_weights_of_its_step(whole):
    folder, _, callback = whole
    sparsity = 0.0
    for step in range(1, STEPS + 1):
        checkpoint = torch.load(folder / f"{step}.ckpt", weights_only=True)
        sparsity = dict(callback.pruner.curve).get(step, sparsity)
        weights = [checkpoint["state_dict"][f"net.{n}"] for n in callback.pruner.names]
        zeros = sum(int((w == 0).sum()) for w in weights)
        assert zeros / sum(w.numel() for w in weights) == pytest.approx(sparsity)
        assert checkpoint["callbacks"]["PruningCallback"]["step"] == step
    assert sparsity > 0.5


def test_gradients_are_masked_before_lightning_clips(whole):
    _, module, _ = whole
    assert len(module.norms) == STEPS
    for clipped, unpruned in module.norms:
        assert min(unpruned, 0.1) == pytest.approx(min(clipped, 0.1), rel=1e-4)


def test_model_is_ordinary_after_training(whole):
    _, module, callback = whole
    assert list(module.state_dict()) == list(Module().state_dict())
    for name, keep in callback.pruner.masks().items():
        weight = find(module.net)[name]
        assert torch.equal(weight != 0, keep)
        assert not torch.signbit(weight[~keep]).any()


@pytest.mark.filterwarnings("ignore::asr.pruning.Unfinished")
def test_accumulated_batches_count_as_one_step(tmp_path):
    module = Module()
    callback = pruning(module)
    trainer = fit(tmp_path, module, [callback], max_steps=10, accumulate_grad_batches=3)
    assert trainer.fit_loop.epoch_loop.total_batch_idx + 1 == 30
    assert callback.pruner.steps == 10
    assert [step for step, _ in callback.pruner.curve] == [6, 8, 10]


def test_a_training_that_ends_before_pruning_gives_one_warning_at_its_start(tmp_path):
    module, total = Module(), 3 * STEPS  # batches, counted as optimiser steps
    schedule = Cubic.from_fractions(total, 0.1, 0.6, target=0.9)
    callback = PruningCallback(Rule(schedule, ["rnn*"]), module.net)
    with pytest.warns(
        Unfinished, match=r"has 72 steps, but the last .* step 130: a schedule counts steps of the"
    ) as caught:
        fit(tmp_path, module, [callback], accumulate_grad_batches=3)
    assert sum(warning.category is Unfinished for warning in caught) == 1
    assert 0.5 < callback.pruner.sparsity() < 0.9


def test_a_training_does_not_resume_from_a_checkpoint_that_was_only_tested(tmp_path):
    module = Module()
    module.test_step = module.training_step
    callback = pruning(module)
    trainer = fit(tmp_path, module, [callback])
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    trainer.test(
        module, DataLoader(range(1)), ckpt_path=tmp_path / "whole.ckpt", verbose=False,
        weights_only=True,
    )  # fmt: skip
    again = Module()
    callback.model = again.net
    fit(tmp_path, again, [callback])
    assert callback.pruner.steps == STEPS
    assert len(callback.pruner.curve) == RAMP.mask_updates


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_batch_that_is_skipped_at_an_update_of_rigl_does_not_change_the_mask(tmp_path):
    class Skipping(Module):
        def training_step(self, batch, index):
            return None if index == 11 else super().training_step(batch, index)

    module, masks = Skipping(), []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, *args):
            masks.append(callback.pruner.masks()["rnn.weight_hh_l0"])

    module.configure_gradient_clipping = lambda *args, **kwargs: None
    callback = PruningCallback(Rule(RigL(18, 6, 0.8), ["rnn*"]), module.net)
    fit(tmp_path, module, [callback, Watch()], max_steps=20)
    assert [step for step, _ in callback.pruner.curve] == [1, 6, 18]
    assert not torch.equal(masks[5], masks[4])
    assert torch.equal(masks[11], masks[10])


class SaveTooEarly(Callback):
    """Saves before the pruning callback has done its part of the step."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, *args):
        trainer.save_checkpoint(self.folder / f"early{trainer.global_step}.ckpt")


@pytest.mark.filterwarnings("ignore::asr.pruning.Unfinished")
def test_a_checkpoint_between_the_steps_of_optimiser_and_pruner_resumes_to_the_same(tmp_path):
    module = Module()
    module.configure_gradient_clipping = lambda *args, **kwargs: None
    callback = pruning(module)
    fit(tmp_path, module, [SaveTooEarly(tmp_path), callback], max_steps=40)
    for stop in (20, 33):
        other = Module(seed=5)
        other.configure_gradient_clipping = lambda *args, **kwargs: None
        fit(tmp_path, other, [pruning(other)], tmp_path / f"early{stop}.ckpt", max_steps=40)
        for there, here in zip(module.parameters(), other.parameters(), strict=True):
            assert torch.equal(there, here)


def test_a_schedule_of_all_steps_is_resolved_once(tmp_path):
    asked = []

    def schedule(total):
        asked.append(total)
        return ThresholdRamp.from_fractions(total, 0.1, 0.3, 0.9, mask_updates=30)

    options = {"max_steps": -1, "max_epochs": 2}
    module = Module()
    first = pruning(module, schedule)
    fit(tmp_path, module, [first, every_step(tmp_path)], **options)
    assert asked == [48]
    other = Module()
    resumed = pruning(other, schedule)
    fit(tmp_path, other, [resumed], tmp_path / "30.ckpt", max_steps=-1, max_epochs=3)
    assert asked == [48, 48]
    assert resumed.pruner.rules[0].schedule == ThresholdRamp(5, 14, 43, 1)
    assert resumed.pruner.rules == first.pruner.rules
    assert resumed.pruner.steps == 72


def test_unknown_number_of_steps_needs_a_schedule(tmp_path):
    module = Module()
    callback = pruning(module, ThresholdRamp.from_fractions)
    with pytest.raises(AsrError, match="number of optimiser steps is not known"):
        fit(tmp_path, module, [callback], max_steps=-1, max_epochs=-1)


def change(whole, path, edit):
    """The checkpoint of step 20 after `edit`, and a module that it could be resumed into."""
    folder, module, _ = whole
    checkpoint = torch.load(folder / "20.ckpt", weights_only=True)
    edit(checkpoint["callbacks"])
    torch.save(checkpoint, path)
    return Module(optimiser=module.optimiser), path


def test_checkpoint_without_pruning_state_is_refused(whole, tmp_path):
    module, path = change(whole, tmp_path / "20.ckpt", lambda c: c.pop("PruningCallback"))
    with pytest.raises(AsrError, match="at step 20 from a checkpoint without pruning state"):
        fit(tmp_path, module, [pruning(module)], path)


def test_checkpoint_of_another_schedule_is_refused(whole, tmp_path):
    module, path = change(whole, tmp_path / "20.ckpt", lambda c: None)
    other = pruning(module, ThresholdRamp(4, 20, 70, 2))
    with pytest.raises(AsrError, match="end: 66 in the checkpoint, 70 here"):
        fit(tmp_path, module, [other], path)


def test_checkpoint_counted_in_another_unit_is_refused(whole, tmp_path):
    """A state that counts other steps than the optimiser: batches, for example."""
    module, path = change(
        whole, tmp_path / "20.ckpt", lambda c: c["PruningCallback"].update(step=40)
    )
    with pytest.raises(AsrError, match="optimiser is at step 20 and the pruner at 40"):
        fit(tmp_path, module, [pruning(module)], path)


def test_fixed_mask_preserves_zeros_through_training(tmp_path):
    module = Module()
    with torch.no_grad():
        module.net["rnn"].weight_hh_l0[:, ::2] = 0.0
    callback = PruningCallback(Rule(FixedMask(), ["net.rnn*"]))
    before = module.net["rnn"].weight_hh_l0.clone()
    module.configure_gradient_clipping = lambda *args, **kwargs: None
    fit(tmp_path, module, [callback], max_steps=5)
    after = module.net["rnn"].weight_hh_l0
    assert torch.equal(after == 0, before == 0)
    assert callback.pruner.sparsity() == pytest.approx(216 / 648)


def test_network_that_is_not_trained_is_refused(tmp_path):
    with pytest.raises(AsrError, match="ModuleDict to prune is not a part of the Module"):
        fit(tmp_path, Module(), [pruning(Module())])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_group_lasso_adds_its_gradients_once_for_each_step_and_before_clipping(
    tmp_path, accumulate
):
    seen = []

    class Counting(GroupLasso):
        def add_gradients(self):
            weight = module.net["rnn"].weight_hh_l0
            before = weight.grad.clone()
            super().add_gradients()
            torch.testing.assert_close(
                weight.grad - before, torch.autograd.grad(self.penalty(), weight)[0]
            )
            seen.append(float((weight.grad - before).norm()))

    module = Module()
    rule = Rule(Cubic(4, 66, 2, 0.75), ["rnn*"], pattern=Block(4, 1))
    callbacks = [
        PruningCallback(rule, module.net),
        GroupLassoCallback(Counting(module.net, 5.0, 4, 1, ["rnn*"])),
    ]
    fit(tmp_path, module, callbacks, accumulate_grad_batches=accumulate)
    assert len(seen) == STEPS
    assert min(norm for norm, _ in module.norms[:10]) > 5, "clipped gradients include the penalty"
    kept = callbacks[0].pruner.masks()["rnn.weight_hh_l0"].view(9, 4, 12).any(1)
    assert int(kept.sum()) == 27
    # 27 blocks of norm-1 gradients are left of 108: pruned blocks get none.
    assert seen[-1] == pytest.approx(5 * math.sqrt(27), rel=1e-3)


@pytest.mark.filterwarnings("ignore::asr.pruning.Unfinished")
def test_rigl_resumes_from_a_checkpoint_between_two_updates(tmp_path):
    def rigl(module):
        rule = Rule(RigL(60, 6, 0.8), ["rnn*"])
        return PruningCallback(rule, module.net)

    results = []
    for stops in ([STEPS], [33, STEPS], [36, STEPS], [1, STEPS]):
        checkpoint = None
        for stop in stops:
            module = Module()
            module.configure_gradient_clipping = lambda *a, **k: None
            trainer = Trainer(
                max_steps=stop, callbacks=[rigl(module)], accelerator="cpu", logger=False,
                enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
                enable_checkpointing=False,
            )  # fmt: skip
            loader = DataLoader(range(STEPS_PER_EPOCH), batch_size=1)
            trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
            checkpoint = str(tmp_path / f"{stop}.ckpt")
            trainer.save_checkpoint(checkpoint)
        results.append(module.net.state_dict())
    for other in results[1:]:
        assert all(torch.equal(results[0][name], other[name]) for name in other)
