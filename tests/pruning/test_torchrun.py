"""Pruning on two ranks: equal masks, resumed bit for bit, and a difference is an error."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

WORKER = ROOT / "tests" / "helpers" / "distributed_pruning.py"


def torchrun(folder: Path, mode: str) -> subprocess.CompletedProcess[str]:
    """Two ranks of the worker, as `torchrun` starts them."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(WORKER), str(folder), mode,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def results(folder: Path, mode: str) -> list[Any]:
    """The results of each rank."""
    run = torchrun(folder, mode)
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads((folder / f"{mode}.{rank}.json").read_text()) for rank in (0, 1)]


def test_two_ranks_prune_alike_and_resume_to_the_same_bits_from_each_kind_of_step(
    tmp_path: Path,
) -> None:
    first, second = results(tmp_path, "resume")
    trainings = list(zip(first["trainings"], second["trainings"], strict=True))
    stops = (("3", "15", "27"), ("10", "24", "29"))
    for (one, other), each in zip(trainings, stops, strict=True):
        assert one["whole"] == other["whole"], "weights, masks and curve of both ranks are equal"
        assert one["whole"]["sparsity"] == pytest.approx(0.8, abs=0.005)
        assert len(one["whole"]["curve"]) == 10
        assert one["resumed"] == other["resumed"]
        assert one["resumed"] == dict.fromkeys(each, True)
    hashes = {one["whole"]["masks"] for one, _ in trainings}
    assert len(hashes) == len(trainings) == 2, "another optimiser gives other masks"
    for found in (first, second):
        assert "rank" in found["drifted"], "the mask of a rank whose weights drifted"


@pytest.mark.slow
def test_two_killed_ranks_continue_to_the_same_bits(tmp_path: Path) -> None:
    whole = results(tmp_path, "whole")
    assert torchrun(tmp_path, "kill").returncode != 0
    assert not list(tmp_path.glob("kill.*.json"))
    assert results(tmp_path, "again") == whole
