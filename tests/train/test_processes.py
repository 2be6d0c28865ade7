"""Training in two processes on a CPU: the same as in one, resumed bit for bit, ended together."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT

SBATCH = ROOT / "recipes" / "slurm" / "train.sbatch"
WORKER = ROOT / "tests" / "helpers" / "distributed_training.py"


def torchrun(
    *words: str, ranks: int = 2, timeout: int = 280, **more: str
) -> subprocess.CompletedProcess[str]:
    """Ranks of the worker, as `torchrun` starts them."""
    command = [
        sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={ranks}", str(WORKER), *words,
    ]  # fmt: skip
    # SIGTERM comes to ranks that wait for a dead one; torchrun then kills them after this time.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "10"}
    return subprocess.run(
        command, env=environment | more, capture_output=True, text=True, timeout=timeout
    )


def test_two_processes_with_half_of_each_batch_train_what_one_trains_with_the_whole(
    tmp_path: Path,
) -> None:
    run = torchrun("equal", str(tmp_path))
    assert run.returncode == 0, run.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["bits"] == second["bits"], "weights, statistics and average of both ranks"
    assert first["parts"] == second["parts"]
    for found in (first, second):
        assert all(difference < 2e-6 for difference in found["norms"].values()), found["norms"]
    assert first["names"] > 80, "the average's tensors too"
    assert first["weights"] < 2e-5
    whole, parts = first["whole"], first["parts"]
    assert parts["masks"] == whole["masks"]
    assert parts["curve"] == whole["curve"]
    assert whole["curve"][-1][1] == pytest.approx(0.8, abs=0.02)
    assert parts["thresholds"] == pytest.approx(whole["thresholds"], rel=1e-5)
    assert parts["figures"] == pytest.approx(whole["figures"], rel=1e-5)


def words_of(folder: Path, corpus: Path, name: str, *more: str) -> list[str]:
    (folder / "empty.yaml").write_text("")
    return [
        str(folder / "empty.yaml"), f"runs={folder}", f"name={name}", f"data.root={corpus}",
        "data.train=[train.jsonl]", "data.dev=[dev.jsonl]", "data.batch_seconds=5",
        "data.max_seconds=5", "data.unusable=exclude", "model.hidden=12", "model.layers=2",
        "model.conv_channels=[4,4]", "model.dropout=0.1", "training.epochs=2",
        "training.progress=false", "training.checkpoint_steps=1", "training.average=0.9",
        "pruning.method=threshold_ramp", "pruning.target=0.8", "pruning.mask_updates=6",
        "pruning.start=0.1", "pruning.ramp=0.3", "pruning.end=0.7", *more,
    ]  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the last resume point: network, average, running statistics."""
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.distributed
def test_a_training_whose_processes_are_killed_ends_them_all_and_resumes_to_the_same_bits(
    corpus: Path, tmp_path: Path
) -> None:
    whole = words_of(tmp_path, corpus, "whole", "data.test=[test.jsonl]")
    stopped = words_of(tmp_path, corpus, "stopped")
    run = torchrun("train", *whole)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.split() == [str(tmp_path / "whole")], "printed once"
    record = json.loads((tmp_path / "whole" / "record.json").read_text())
    assert record["training"]["processes"] == 2
    assert record["pruning"]["sparsity"] == pytest.approx(0.8, abs=0.02)
    assert list(record["evaluation"]) == ["test"]
    total = record["training"]["steps"]

    # Rank 1 dies in the middle of an epoch.
    killed = {"DIE_RANK": "1", "DIE_AT": str(total // 2 + 2), "SIGNAL": str(int(signal.SIGKILL))}
    run = torchrun("train", *stopped, **killed)
    assert run.returncode != 0
    assert not (tmp_path / "stopped" / "record.json").exists()

    other = torchrun("train", *stopped, ranks=1)
    assert "this run started with 2 processes, and 1 would go on" in other.stderr

    # `asr train` starts the processes itself.
    command = [sys.executable, "-W", "ignore", "-m", "asr", "train", *stopped, "training.devices=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert again.returncode == 0, again.stderr[-3000:]
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert list(a) == list(b)
    assert all(torch.equal(a[name], b[name]) for name in a)
    resumed: dict[str, Any] = json.loads((tmp_path / "stopped" / "record.json").read_text())
    assert resumed["pruning"] == record["pruning"]
    assert resumed["training"]["final_loss"] == record["training"]["final_loss"]
    assert len(resumed["resumed"]) == 1


# `srun` as far as a program sees it: TASKS tasks of one machine, each with its place; when one ends
# with an error, the others are killed.
SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=1 ] && shift
export SLURM_NTASKS=$TASKS SLURM_NTASKS_PER_NODE=$TASKS SLURM_NNODES=1 SLURM_NODEID=0
export SLURM_JOB_ID=$$ SLURM_JOB_NAME=asr-train SLURM_NODELIST=localhost
for task in $(seq 0 $((TASKS - 1))); do
    SLURM_PROCID=$task SLURM_LOCALID=$task "$@" 2> "$LOGS/$task.err" &
    tasks[task]=$!
done
status=0
for task in "${tasks[@]}"; do
    wait -n || { status=$?; kill -KILL "${tasks[@]}"; break; }
done
exit $status
"""
PYTHON = """#!/bin/bash
shift 2  # -m asr
exec "$REAL_PYTHON" -W ignore $PROGRAM "$@"
"""


def sbatch(folder: Path, words: list[str], **dying: str) -> tuple[int, list[str]]:
    """The batch script under that `srun`, with the worker instead of `asr` where a task is to stop;
    its status, and what each task said."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, text in (("srun", SRUN), ("python", PYTHON)):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TASKS": "2", "LOGS": str(folder),
        "REAL_PYTHON": sys.executable, "PROGRAM": str(WORKER) if dying else "-m asr",
    }  # fmt: skip
    command = ["bash", str(SBATCH), *words]
    run = subprocess.run(command, env=environment | dying, capture_output=True, timeout=280)
    return run.returncode, [(folder / f"{task}.err").read_text() for task in range(2)]


@pytest.mark.distributed
def test_the_slurm_script_trains_and_a_process_that_hangs_ends_the_others_in_time(
    corpus: Path, tmp_path: Path
) -> None:
    words = words_of(tmp_path, corpus, "slurm", "training.timeout_minutes=0.5", "data.test=[]")
    hanging = {"DIE_RANK": "1", "DIE_AT": "6", "SIGNAL": str(int(signal.SIGSTOP))}
    status, said = sbatch(tmp_path, words, **hanging)
    assert status == 2
    assert "process 0: another of the 2 processes of this training was killed" in said[0]
    assert "Run the same command to continue" in said[0]
    assert "Traceback" not in said[0]
    status, said = sbatch(tmp_path, words)
    assert status == 0, said
    record = json.loads((tmp_path / "slurm" / "record.json").read_text())
    assert (record["training"]["processes"], len(record["resumed"])) == (2, 1)
    assert not any("Warning" in text for text in said), said
