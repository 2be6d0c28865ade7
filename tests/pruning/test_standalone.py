"""Imports of `asr.pruning`, what it needs when copied into another project, and its examples."""

import doctest
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import ROOT
from torch import nn

import asr.pruning
from asr.pruning import Pruner, Rule, ThresholdRamp, calibrate, find

LOADED = """
import sys
import asr.pruning
assert "Pruner" in dir(asr.pruning)
print(*sys.modules)
from asr.pruning import PruningCallback
print(*sys.modules)
"""


def test_import_loads_only_torch_and_the_callback_lightning():
    done = subprocess.run(
        [sys.executable, "-c", LOADED], check=True, capture_output=True, text=True
    )
    first, second = (set(line.split()) for line in done.stdout.splitlines())
    assert "torch" in first
    assert not {m for m in first if m.split(".")[0] in ("lightning", "pytorch_lightning")}
    assert "torchaudio" not in first
    assert "lightning.pytorch" in second
    others = {m for m in second if m.startswith("asr.") and not m.startswith("asr.pruning")}
    assert others == {"asr.errors"}


CARRIED = """
import sys
import torch
from asr.pruning import Pruner, Rule, ThresholdRamp, statistics

model = torch.nn.GRU(3, 16)
optimiser = torch.optim.SGD(model.parameters(), 0.1)
ramp = ThresholdRamp.from_fractions(60, start=0.0, ramp=0.3, end=0.9, target=0.9)
pruner = Pruner(model, Rule(ramp, ["weight_hh*"]))
for _ in range(60):
    model(torch.randn(5, 2, 3))[0].square().mean().backward()
    pruner.mask_gradients()
    optimiser.step()
    pruner.step(optimiser)
    optimiser.zero_grad()
pruner.finalize()
print(statistics(model, ["weight_hh*"]).table())
print(*sorted(module for module in sys.modules if module.split(".")[0] == "asr"))
"""


def test_copied_with_two_files_the_package_prunes_in_a_plain_loop(tmp_path: Path):
    """The folder contains only asr/pruning, errors.py and files.py."""
    for name in ("errors.py", "files.py"):
        (tmp_path / "asr").mkdir(exist_ok=True)
        shutil.copy(ROOT / "asr" / name, tmp_path / "asr")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "asr" / "pruning", tmp_path / "asr" / "pruning", ignore=ignore)
    # -P and PYTHONPATH with only this folder: the project itself must not be imported.
    done = subprocess.run(
        [sys.executable, "-P", "-c", CARRIED],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *table, modules = done.stdout.splitlines()
    assert table[1].split()[:5] == ["weight_hh_l0", "recurrent", "768", "77", "89.97%"]
    assert {m for m in modules.split() if not m.startswith("asr.pruning")} == {"asr", "asr.errors"}


@pytest.mark.parametrize("name", ["rule", "pruner", "callback", "statistics"])
def test_the_examples_in_docstrings_run(name: str):
    result = doctest.testmod(importlib.import_module(f"asr.pruning.{name}"))
    assert result.attempted >= 3
    assert result.failed == 0


def test_the_package_exports_exactly_its_public_names():
    for name in asr.pruning.__all__:
        assert getattr(asr.pruning, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Magnitude'"):
        asr.pruning.Magnitude  # noqa: B018


def train(model, steps, pruner=None):
    """Next-value prediction of noisy sines; returns the last loss."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    torch.manual_seed(0)
    times = torch.arange(30).view(-1, 1, 1)
    for _ in range(steps):
        waves = torch.sin(times / 3 + 6 * torch.rand(1, 16, 1)) + 0.05 * torch.randn(30, 16, 1)
        loss = (model["out"](model["rnn"](waves[:-1])[0]) - waves[1:]).pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        if pruner:
            pruner.mask_gradients()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if pruner:
            pruner.step(optimiser)
    return loss.item()


def test_a_gru_is_pruned_in_a_plain_loop_and_still_predicts():
    """The paper's whole method: a dense run gives q, a second run prunes with it."""

    def network():
        torch.manual_seed(1)
        return nn.ModuleDict({"rnn": nn.GRU(1, 32), "out": nn.Linear(32, 1)})

    dense, sparse = network(), network()
    dense_loss = train(dense, 150)
    thresholds = calibrate(dense, find(sparse, ["rnn.weight_hh*"]), percentile=0.90)
    pruner = Pruner(
        sparse, Rule(ThresholdRamp.from_fractions(150, mask_updates=40), thresholds=thresholds)
    )
    sparse_loss = train(sparse, 150, pruner)
    stats = pruner.finalize()
    assert len(pruner.curve) >= 40
    assert 0.80 < stats.prunable_sparsity < 0.97
    assert dense_loss < 0.03
    assert sparse_loss < 2 * dense_loss
