"""Whoever writes the weights after the Pruner, the model ends with the zeros that it reports."""

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from small_training import Net, backward
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from asr.errors import AsrError
from asr.pruning import Cubic, OneShot, Pruner, PruningCallback, RigL, Rule, find, statistics

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    for message in (
        r"The '\w+_dataloader' does not have many workers",
        r"The number of training batches \(\d+\) is smaller than the logging interval",
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        r"Checkpoint directory .* exists and is not empty",
        r"You're resuming from a checkpoint that ended before the epoch ended",
        r"Detected call of `lr_scheduler.step\(\)` before",
        r"Trainer was configured with `.*` but",
    )
]
EPOCHS, PER_EPOCH = 3, 20
RULES = {
    "cubic": Rule(Cubic(start=5, end=50, frequency=1, target=0.9), ["net.rnn*"]),
    "one shot": Rule(OneShot(step=30, target=0.9), ["net.rnn*"]),
    "rigl": Rule(RigL(end=50, frequency=6, target=0.9), ["net.rnn*"]),
}


class Module(LightningModule):
    """A network with a batch norm, because SWA treats one specially; notes what was validated."""

    def __init__(self, norm=True):
        super().__init__()
        torch.manual_seed(0)
        norm = nn.BatchNorm1d(12) if norm else nn.Identity()
        self.net = nn.ModuleDict({"rnn": nn.GRU(6, 12), "norm": norm, "output": nn.Linear(12, 5)})
        self.validated = []

    def forward(self, x):
        y = self.net["rnn"](x)[0]
        return self.net["output"](self.net["norm"](y.flatten(0, 1)))

    def training_step(self, batch, index):
        torch.manual_seed(self.global_step)
        return self(torch.randn(5, 3, 6)).pow(2).add(0.1).log().mean()

    def validation_step(self, batch, index):
        self.validated.append(zeros(self))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 5e-3)


class CopyOfOldWeights(Callback):
    """Somebody's own averaging: writes what it once read, at the end."""

    def on_train_start(self, trainer, pl_module):
        self.old = {name: p.detach().clone() for name, p in pl_module.named_parameters()}

    def on_train_end(self, trainer, pl_module):
        pl_module.load_state_dict(self.old, strict=False)


WRITERS = {
    "EMA": lambda: EMAWeightAveraging(decay=0.9),
    "EMA by the epoch": lambda: EMAWeightAveraging(
        decay=0.9, update_every_n_steps=7, update_starting_at_epoch=1
    ),
    "equal weights": WeightAveraging,
    "SWA": lambda: StochasticWeightAveraging(1e-2, swa_epoch_start=1, annealing_epochs=1),
    "SWA without norm": lambda: WRITERS["SWA"](),
    "own": CopyOfOldWeights,
}


def zeros(module):
    return statistics(module, ["net.rnn*"]).prunable_sparsity


def trainer_of(tmp_path, callbacks, **options):
    return Trainer(
        **{"max_epochs": EPOCHS, "callbacks": callbacks, "num_sanity_val_steps": 1, **options},
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )


def fit(trainer, module, **options):
    loaders = DataLoader(range(PER_EPOCH)), DataLoader(range(1))
    trainer.fit(module, *loaders, **options)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("pruning_first", [True, False])
@pytest.mark.parametrize("writer", WRITERS)
def test_zeros_outlive_whatever_callback_writes_weights_in_any_order(
    writer, pruning_first, rule, tmp_path
):
    module = Module(norm="without norm" not in writer)
    pruning = PruningCallback(RULES[rule])
    callbacks = [pruning, WRITERS[writer]()][:: 1 if pruning_first else -1]
    saved = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer = trainer_of(tmp_path, [*callbacks, saved])
    fit(trainer, module)
    assert pruning.pruner.sparsity() == pytest.approx(0.9, abs=2e-3)
    assert zeros(module) == pytest.approx(0.9, abs=2e-3)
    assert statistics(module).prunable_sparsity > 0.7
    assert not torch.signbit(
        module.net["rnn"].weight_hh_l0[module.net["rnn"].weight_hh_l0 == 0]
    ).any()
    assert module.validated[-1] == pytest.approx(0.9, abs=2e-3)
    assert all(type(each).__name__ != "MasksLast" for each in trainer.callbacks)
    last = torch.load(sorted(tmp_path.glob("epoch=2*.ckpt"))[0], weights_only=True)
    weights = {n: w for n, w in last["state_dict"].items() if n.startswith("net.rnn.weight")}
    assert statistics(weights).prunable_sparsity == pytest.approx(0.9, abs=2e-3)


@pytest.mark.parametrize("writer", ["EMA", "equal weights", "own"])
def test_the_weights_that_are_kept_are_those_of_the_writer(writer, tmp_path):
    """Pruning takes zeros from an average and changes nothing else in it."""
    results = []
    for pruning_first in (True, False):
        module = Module()
        callbacks = [PruningCallback(RULES["cubic"]), WRITERS[writer]()]
        fit(trainer_of(tmp_path, callbacks[:: 1 if pruning_first else -1]), module)
        results.append(module.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.filterwarnings("ignore::asr.pruning.Unfinished")
def test_a_run_with_an_average_resumes_from_its_checkpoint(tmp_path):
    states = []
    for stops in ([EPOCHS], [1, EPOCHS]):
        path, folder = None, tmp_path / str(len(stops))
        for stop in stops:
            module, pruning = Module(), PruningCallback(RULES["cubic"])
            saved = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
            callbacks = [pruning, EMAWeightAveraging(decay=0.9), saved]
            options = {"ckpt_path": path, "weights_only": True} if path else {}
            fit(trainer_of(tmp_path, callbacks, max_epochs=stop), module, **options)
            path = folder / "epoch=0.ckpt"
        states.append(module.state_dict())
    rnn = [name for name in states[0] if "rnn" in name]
    assert all(torch.equal(states[0][name], states[1][name]) for name in rnn)


@pytest.mark.parametrize("averaging", ["equal", "ema", "of a wrapped copy"])
def test_masks_are_applied_to_an_averaged_model(averaging):
    model = Net()
    optimiser = torch.optim.AdamW(model.parameters(), 5e-3)
    pruner = Pruner(model, Rule(Cubic(5, 50, 1, 0.9), ["rnn*"]))
    how = get_ema_multi_avg_fn(0.9) if averaging == "ema" else None
    average = AveragedModel(model, multi_avg_fn=how)
    for step in range(60):
        optimiser.zero_grad()
        backward(model, step)
        optimiser.step()
        pruner.step(optimiser)
        average.update_parameters(model)
    before = {name: p.clone() for name, p in average.module.named_parameters()}
    assert statistics(average.module, ["rnn*"]).prunable_sparsity < 0.1
    pruner.finalize()
    target = average.module if averaging == "of a wrapped copy" else average
    pruner.apply_masks(target)
    assert statistics(average.module, ["rnn*"]).prunable_sparsity == pruner.sparsity()
    keeps = pruner.masks()
    for name, weight in average.module.named_parameters():
        keep = keeps.get(name, torch.ones_like(weight, dtype=torch.bool))
        assert torch.equal(weight[keep], before[name][keep])


WRAPPERS = {
    "plain": lambda model: model,
    "average": AveragedModel,
    "data parallel": nn.DataParallel,
    "compiled": torch.compile,
    "average of a compiled": lambda model: AveragedModel(torch.compile(model)),
}


@pytest.mark.parametrize("target", WRAPPERS)
@pytest.mark.parametrize("pruned", WRAPPERS)
def test_masks_are_applied_however_either_model_is_wrapped(pruned, target):
    own, other = WRAPPERS[pruned](Net()), WRAPPERS[target](Net(seed=3))
    pruner = Pruner(own, Rule(OneShot(1, 0.5)))
    pruner.step()
    pruner.apply_masks(other)
    model, inner = (next(m for m in w.modules() if isinstance(m, Net)) for w in (own, other))
    for name, weight in find(model).items():
        assert 0.4 < (weight == 0).float().mean() < 0.6
        assert torch.equal(weight == 0, find(inner)[name] == 0)
    assert list(pruner.state_dict()["masks"]) == list(find(own)), "as in older checkpoints"


@pytest.mark.parametrize("other", [nn.GRU(6, 12), nn.Sequential(nn.GRU(6, 12)), nn.Linear(2, 2)])
def test_masks_of_another_network_are_refused(other):
    model = Net()
    pruner = Pruner(model, Rule(OneShot(1, 0.5)))
    pruner.step()
    with pytest.raises(AsrError, match=r"rnn\.weight_ih_l0 is not in the"):
        pruner.apply_masks(other)


def overwrite_data(model):
    for weight in model.parameters():
        weight.data.fill_(1.0)


def load_a_state(model):
    model.load_state_dict(Net(seed=3).state_dict())


def assign_a_state(model):
    model.load_state_dict(Net(seed=3).state_dict(), assign=True)


def replace_a_layer(model):
    model.rnn = Net(seed=3).rnn


@pytest.mark.parametrize("write", [overwrite_data, load_a_state, assign_a_state, replace_a_layer])
def test_sparsity_measures_the_model_and_not_the_masks(write):
    model = Net()
    pruner = Pruner(model, Rule(OneShot(1, 0.9), ["rnn*"]))
    pruner.step()
    assert pruner.sparsity() == pytest.approx(0.9, abs=1e-3)
    write(model)
    assert pruner.sparsity() == statistics(model, ["rnn*"]).prunable_sparsity == 0
    assert pruner.model_sparsity() == 0
    assert set(pruner.sparsities().values()) == {0}
    pruner.step()
    assert pruner.sparsity() == pytest.approx(0.9, abs=1e-3)
    assert pruner.finalize().prunable_sparsity == pruner.sparsity()


def another_width(model):
    model.rnn = nn.GRU(6, 11, bidirectional=True)


def another_type(model):
    model.rnn = nn.Identity()


def gone(model):
    del model.rnn


def parametrised(model):
    nn.utils.parametrizations.weight_norm(model.rnn, "weight_hh_l0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_width, r"rnn\.weight_ih_l0 is \[33, 6\] now and was \[36, 6\]"),
        (another_type, r"rnn\.weight_ih_l0 is not in the Net: if a layer was replaced"),
        (gone, r"rnn\.weight_ih_l0 is not in the Net"),
        (parametrised, r"rnn\.weight_hh_l0 was a parameter .*remove_parametrizations"),
    ],
)
def test_a_layer_that_no_longer_fits_the_masks_is_refused_at_the_next_step(change, message):
    model = Net()
    pruner = Pruner(model, Rule(OneShot(1, 0.9), ["rnn*"]))
    pruner.step()
    change(model)
    with pytest.raises(AsrError, match=message):
        pruner.step()
    with pytest.raises(AsrError, match=message):
        pruner.finalize()


@pytest.mark.parametrize("more", [{"max_epochs": EPOCHS}, {"max_epochs": EPOCHS + 2}])
@pytest.mark.parametrize("rules", ["cubic", "function"])
def test_a_second_fit_of_one_trainer_goes_on_with_the_masks(rules, more, tmp_path):
    module = Module()
    pruning = PruningCallback(
        (lambda total: [RULES["cubic"]]) if rules == "function" else RULES["cubic"]
    )
    trainer = trainer_of(tmp_path, [pruning])
    fit(trainer, module)
    masks, curve = pruning.pruner.masks(), pruning.pruner.curve
    trainer.fit_loop.max_epochs = more["max_epochs"]
    fit(trainer, module)
    assert pruning.pruner.steps == trainer.global_step == more["max_epochs"] * PER_EPOCH
    assert pruning.pruner.curve == curve
    assert all(torch.equal(masks[name], keep) for name, keep in pruning.pruner.masks().items())
    assert zeros(module) == pytest.approx(0.9, abs=2e-3)


@pytest.mark.filterwarnings("ignore::asr.pruning.Unfinished")
def test_a_second_fit_amid_the_schedule_goes_on_with_the_schedule(tmp_path):
    results = []
    for parts in ([EPOCHS], [1, EPOCHS]):
        module, pruning = Module(), PruningCallback(RULES["cubic"])
        trainer = trainer_of(tmp_path, [pruning], max_epochs=parts[0])
        for part in parts:
            trainer.fit_loop.max_epochs = part
            fit(trainer, module)
        results.append(pruning.pruner.curve)
    assert results[0] == results[1]
    assert len(results[0]) == len(RULES["cubic"].schedule.update_steps)


@pytest.mark.parametrize("second", ["another network", "another callback", "no callback before"])
def test_a_trainer_that_has_trained_something_else_is_refused_in_plain_words(second, tmp_path):
    module, pruning = Module(), PruningCallback(RULES["cubic"])
    trainer = trainer_of(tmp_path, [] if second == "no callback before" else [pruning])
    fit(trainer, module)
    trainer.fit_loop.max_epochs = EPOCHS + 1
    if second != "another network":
        trainer.callbacks = [PruningCallback(RULES["cubic"])]
    with pytest.raises(AsrError, match=r"this Trainer has made 60 steps .* make a new Trainer"):
        fit(trainer, Module() if second == "another network" else module)
