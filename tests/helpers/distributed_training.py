"""Run by torchrun, one process per rank.

    torchrun --nproc-per-node 2 tests/helpers/distributed_training.py equal FOLDER
    torchrun --nproc-per-node 2 tests/helpers/distributed_training.py train RECIPE KEY=VALUE ...

`equal` trains on fixed batches twice, each rank by itself on whole batches and all ranks together
on a part of each, and writes what differs to FOLDER/RANK.json. `train` is `asr train`; rank
DIE_RANK gets the signal SIGNAL before the batch after step DIE_AT, if those are set.
"""

import json
import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import Checkpoint
from torch.utils.data import DataLoader

from asr.model.torch_layers import MaskedBatchNorm
from asr.model.torch_network import DeepSpeech
from asr.pruning import PruningCallback
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.text.tokenizer import CharacterTokenizer
from asr.train.average import WeightAveraging, average_of
from asr.train.batches import Batch
from asr.train.callbacks import Figures
from asr.train.module import SpeechTraining
from asr.train.pruning import rule_of
from asr.train.ranks import Ranks, joined
from asr.train.trainer import make_trainer, place, quiet
from asr.train.watch import Watch

STEPS = 20
UTTERANCES = 6
WORDS = [
    "model.hidden=8", "model.layers=2", "model.conv_channels=[2,2]", "model.dropout=0",
    "optimiser.name=nesterov", "optimiser.learning_rate=0.02", "optimiser.clip_norm=0.5",
    "pruning.method=threshold_ramp", "pruning.target=0.8", "pruning.mask_updates=6",
    "pruning.start=0.1", "pruning.ramp=0.4", "pruning.end=0.9", "training.epochs=1",
    "training.precision=float32", "training.average=0.9", "training.strategy=ddp",
]  # fmt: skip


def batch_of(step: int) -> Batch:
    """Utterances of different lengths and numbers of tokens, the same on every rank."""
    draw = torch.Generator().manual_seed(step)
    lengths = torch.randint(60, 121, (UTTERANCES,), generator=draw)
    tokens = torch.randint(1, 7, (UTTERANCES,), generator=draw)
    features = torch.randn(UTTERANCES, int(lengths.max()), 80, generator=draw)
    targets = torch.randint(1, 29, (UTTERANCES, int(tokens.max())), generator=draw)
    return Batch(features, lengths, targets, tokens, [f"{step}.{i}" for i in range(UTTERANCES)], 1)


def part_of(batch: Batch, rank: int, world: int) -> Batch:
    """Every `world`-th utterance, cut to the longest of them."""
    parts = {field.name: getattr(batch, field.name)[rank::world] for field in fields(batch)[:-1]}
    own = replace(batch, **parts)
    return replace(
        own,
        features=own.features[:, : int(own.feature_lengths.max())],
        targets=own.targets[:, : int(own.target_lengths.max())],
    )


class Fixed(LightningDataModule):
    """The batches, or this rank's part of each; two of them to validate on."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        batches = [batch_of(step) for step in range(STEPS)]
        self.parts = [part_of(batch, ranks.rank, ranks.world) for batch in batches]

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.parts, batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.parts[:2], batch_size=None)  # type: ignore[arg-type]


def trained(settings: Run, ranks: Ranks, folder: Path) -> dict[str, Any]:
    """What a training on the batches ends with."""
    torch.manual_seed(1)
    model = DeepSpeech(replace(settings.model, outputs=29))
    average = average_of(model, settings.training.average)
    module = SpeechTraining(
        model, CharacterTokenizer(), settings.optimiser, STEPS, average=average, ranks=ranks
    )
    rule = rule_of(settings.pruning, model, STEPS)
    assert rule is not None
    pruning = PruningCallback(rule, model)
    figures = Figures(folder / f"{ranks.world}.csv", lambda: None)

    def changed() -> bool:
        assert pruning.pruner is not None
        curve = pruning.pruner.curve
        return bool(curve) and curve[-1][0] == pruning.pruner.steps

    callbacks = [
        Watch(settings, STEPS, print), pruning, figures, WeightAveraging(average, model, changed),
        Checkpoint(),  # which writes nothing; without one Lightning adds its own
    ]  # fmt: skip
    with quiet():
        trainer = make_trainer(settings, callbacks, ranks)
        trainer.fit(module, datamodule=Fixed(ranks))
    assert pruning.pruner is not None
    (row,) = figures.rows
    return {
        "weights": {name: value.clone() for name, value in module.state_dict().items()},
        "masks": pruning.pruner.mask_hash(),
        "curve": pruning.pruner.curve,
        "thresholds": pruning.pruner.thresholds,
        "figures": [row[name] for name in ("train_loss", "dev_loss", "dev_wer")],
    }


def norms(ranks: Ranks) -> dict[str, float]:
    """How far batch norm over the ranks is from that of one rank: output, gradients, statistics."""
    draw = torch.Generator().manual_seed(0)
    x = 3 + 10 * torch.randn(UTTERANCES, 7, 5, generator=draw)
    scale = torch.randn(UTTERANCES, 7, 5, generator=draw)
    mask = torch.arange(7) < torch.tensor([7, 3, 5, 1, 6, 7])[:, None]
    found = []
    for world, rank in ((1, 0), (ranks.world, ranks.rank)):
        layer = MaskedBatchNorm(5).train()
        layer.over_ranks = world > 1
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(0.5, 2, 5))
        own = x[rank::world].clone().requires_grad_()
        y = layer(own, mask[rank::world])
        (y * scale[rank::world]).sum().backward()
        gradients = torch.stack([layer.weight.grad, layer.bias.grad])  # type: ignore[list-item]
        assert own.grad is not None
        mine = slice(None) if world > 1 else slice(ranks.rank, None, ranks.world)
        gradients = ranks.sum(gradients) if world > 1 else gradients
        statistics = torch.stack([layer.running_mean, layer.running_var])
        found.append([y.detach()[mine], own.grad[mine], gradients, statistics])
    names = ("output", "gradient", "weights", "statistics")
    return {
        name: float((one - other).abs().max() / one.abs().max())
        for name, one, other in zip(names, *found, strict=True)
    }


def equal(folder: Path) -> None:
    """Compare both trainings and write the differences."""
    settings = load(Run, None, WORDS)
    with joined(settings.training, place()) as ranks:
        whole = trained(settings, Ranks(), folder)
        parts = trained(settings, ranks, folder)
        result = {
            "norms": norms(ranks),
            "weights": max(
                float((value.double() - parts["weights"][name].double()).abs().max())
                for name, value in whole["weights"].items()
            ),
            "names": len(whole["weights"]),
            "whole": {k: v for k, v in whole.items() if k != "weights"},
            "parts": {k: v for k, v in parts.items() if k != "weights"},
            "bits": [v.double().flatten().tolist() for v in parts["weights"].values()],
        }
        (folder / f"{ranks.rank}.json").write_text(json.dumps(result))


def train(words: list[str]) -> None:
    """`asr train`, with a rank that is killed on the way."""
    from asr.cli import main
    from asr.train import callbacks

    before = callbacks.SeedEachStep.on_train_batch_start

    def dying(self: Any, trainer: Any, *rest: Any) -> None:
        mine = os.environ.get("DIE_RANK") == str(trainer.global_rank)
        if mine and trainer.global_step == int(os.environ["DIE_AT"]):
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
        before(self, trainer, *rest)

    callbacks.SeedEachStep.on_train_batch_start = dying  # type: ignore[method-assign]
    sys.argv = ["asr", "train", *words]
    main.main()


if __name__ == "__main__":
    if sys.argv[1] == "equal":
        equal(Path(sys.argv[2]))
    else:
        train(sys.argv[2:])
