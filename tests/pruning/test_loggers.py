"""Sparsity reaches the loggers of Lightning at every update, with clear names."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from asr.pruning import Cubic, FewUpdates, FixedMask, PruningCallback, Rule

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated"),
]


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 5))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return self.net(torch.ones(1, 10)).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def logged(folder: Path, module: Module, rule: Rule) -> list[dict[str, float]]:
    """Rows that a CSVLogger has about sparsity after 12 steps."""
    trainer = Trainer(
        max_steps=12,
        accelerator="cpu",
        callbacks=[PruningCallback(rule, module.net)],
        logger=CSVLogger(folder, name="", version=""),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(range(12), batch_size=1))
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


def test_every_update_is_logged_with_its_step_and_all_figures(tmp_path: Path) -> None:
    with pytest.warns(FewUpdates):
        cubic = Cubic(start=2, end=10, frequency=2, target=0.8)
    rows = logged(tmp_path, Module(), Rule(cubic, ["0*"]))
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8, 10]
    assert [row["sparsity"] for row in rows] == pytest.approx([0, 0, 0.46, 0.7, 0.79, 0.8])
    assert [row["sparsity/0.weight"] for row in rows] == [row["sparsity"] for row in rows]
    parameters = 100 + 10 + 50 + 5
    assert rows[-1]["sparsity_of_model"] == pytest.approx(80 / parameters, abs=1e-5)
    assert set(rows[-1]) == {"step", "sparsity", "sparsity_of_model", "sparsity/0.weight"}


def test_zeros_of_the_start_are_logged(tmp_path: Path) -> None:
    module = Module()
    with torch.no_grad():
        module.net[0].weight[:5] = 0.0
    (row,) = logged(tmp_path, module, Rule(FixedMask(), ["0*"]))
    assert row["sparsity"] == 0.5
