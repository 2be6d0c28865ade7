"""Run by torchrun, one process per rank: pruned trainings that are resumed at each kind of step.

    torchrun --nproc-per-node 2 tests/helpers/distributed_pruning.py FOLDER MODE

Every rank writes what it found to FOLDER/MODE.RANK.json. MODE `resume` compares a training with
those that resume from its checkpoints, and then lets one rank's weights drift; `whole`, `kill` and
`again` are one training, the same one killed, and the killed one resumed.
"""

import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader

from asr.errors import AsrError
from asr.pruning import PruningCallback, Rule, ThresholdRamp

warnings.simplefilter(
    "ignore"
)  # tests/pruning/test_callback.py says which, and that they are known
RAMP = ThresholdRamp(start=4, ramp=10, end=26, frequency=2)  # updates: 6, 8, ..., 24
STEPS = 29
RANK = int(os.environ["RANK"])
SETTINGS: list[dict[str, Any]] = [
    {"optimiser": "adamw", "accumulate": 1, "precision": "32-true"},
    {"optimiser": "nesterov", "accumulate": 2, "precision": "bf16-mixed"},
]
# Before pruning, between two updates, after the last; on an update, on the last, at the last step.
STOPS = ((3, 15, 27), (10, 24, 29))


class Module(LightningModule):
    """A GRU; batches are drawn from rank, step and part of the step, so none can be lost."""

    def __init__(self, seed: int, optimiser: str) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.ModuleDict({"rnn": nn.GRU(6, 12), "output": nn.Linear(12, 5)})
        self.optimiser = optimiser

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        part = index % self.trainer.accumulate_grad_batches
        place = (self.global_step * 2 + self.global_rank) * 8 + part
        x = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(place))
        return self.net["output"](self.net["rnn"](x)[0]).pow(2).add(0.1).log().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.optimiser == "adamw":
            return torch.optim.AdamW(self.parameters(), 5e-3)
        return torch.optim.SGD(self.parameters(), 5e-2, momentum=0.9, nesterov=True)


class Die(Callback):
    """Kill every rank before the batch after this step, like a power cut."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class Drift(Callback):
    """Change one weight of one rank, as broken memory or an unsynchronised buffer would."""

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        if trainer.global_step == 9 and trainer.global_rank == 1:
            with torch.no_grad():
                module.net["rnn"].weight_hh_l0[0, :6] = 9.0


class Save(Callback):
    """Leave a checkpoint of each of these steps; listed behind the pruning, it saves what that
    made of the weights."""

    def __init__(self, folder: Path, steps: Iterable[int]) -> None:
        self.folder = folder
        self.steps = list(steps)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step in self.steps:
            self.steps.remove(trainer.global_step)
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


def fit(
    settings: dict[str, Any], *more: Callback, seed: int = 0, start: str | None = None
) -> tuple[Module, PruningCallback]:
    """One training of all ranks."""
    module = Module(seed, settings["optimiser"])
    pruning = PruningCallback(Rule(replace(RAMP, target=0.8), ["rnn*"]), model=module.net)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo"),
        use_distributed_sampler=False,
        max_steps=STEPS,
        gradient_clip_val=0.1,
        accumulate_grad_batches=settings["accumulate"],
        precision=settings["precision"],
        callbacks=[pruning, *more],
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(range(24 * settings["accumulate"]), batch_size=1)
    trainer.fit(module, loader, ckpt_path=start, weights_only=True if start else None)
    return module, pruning


def found(module: Module, pruning: PruningCallback) -> dict[str, Any]:
    """Values to compare: all bits of the weights, the hash of the masks, curve, sparsity."""
    assert pruning.pruner is not None
    return {
        "weights": [p.detach().flatten().view(torch.int32).tolist() for p in module.parameters()],
        "masks": pruning.pruner.mask_hash(),
        "curve": pruning.pruner.curve,
        "steps": pruning.pruner.steps,
        "sparsity": pruning.pruner.sparsity(),
    }


def resume(folder: Path) -> list[dict[str, Any]]:
    """For each setting: the uninterrupted training, and those resumed from its checkpoints."""
    results = []
    for number, settings in enumerate(SETTINGS):
        whole = found(*fit(settings, Save(folder / str(number), STOPS[number])))
        resumed = {}
        for stop in STOPS[number]:
            start = str(folder / str(number) / f"{stop}.ckpt")
            resumed[stop] = found(*fit(settings, seed=5, start=start)) == whole
        results.append({"whole": whole, "resumed": resumed})
    return results


def drift() -> str:
    """The error message when ranks have different masks."""
    try:
        fit(SETTINGS[0], Drift())
    except AsrError as error:
        return str(error)
    return "nothing was noticed"


def main(folder: Path, mode: str) -> None:
    """Do what `mode` says and write the results."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    done: Any = None
    if mode == "resume":
        done = {"trainings": resume(folder), "drifted": drift()}
    elif mode == "whole":
        done = found(*fit(SETTINGS[0]))
    elif mode == "kill":
        fit(SETTINGS[0], Save(folder / "killed", range(STEPS)), Die(15))
    elif mode == "again":
        start = max((folder / "killed").glob("*.ckpt"), key=lambda path: int(path.stem))
        done = found(*fit(SETTINGS[0], seed=5, start=str(start)))
    (folder / f"{mode}.{RANK}.json").write_text(json.dumps(done))
    # Lightning leaves gloo's threads running; a process that ends beside them may abort.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
