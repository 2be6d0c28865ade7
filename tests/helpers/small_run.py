"""The command that trains a small network, and a process of it that is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

# The process kills itself before batch `at`, like a power cut.
KILLED = """
import os, signal, sys
from asr.cli import main
from asr.train import callbacks
before = callbacks.SeedEachStep.on_train_batch_start
def dying(self, trainer, *rest):
    if trainer.global_step == int(os.environ["DIE_AT"]):
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))
    before(self, trainer, *rest)
callbacks.SeedEachStep.on_train_batch_start = dying
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
sys.argv = ["asr", *sys.argv[1:]]
main.main()
"""


def settings_of(folder: Path, corpus: Path, name: str, *more: str) -> list[str]:
    return [
        f"runs={folder}", f"name={name}", "recipe=t", f"data.root={corpus}",
        "data.train=[train.jsonl]", "data.dev=[dev.jsonl]", "data.batch_seconds=10",
        "data.max_seconds=9", "model.hidden=12", "model.layers=2", "model.conv_channels=[4,4]",
        "model.dropout=0.1", "training.epochs=3", "training.progress=false",
        "training.checkpoint_steps=4", "pruning.mask_updates=30", "pruning.end=0.9",
        *more,
    ]  # fmt: skip


def in_process(
    words: list[str], die_at: int | None = None, sent: signal.Signals = signal.SIGKILL
) -> subprocess.CompletedProcess[str]:
    empty = Path(words[0].removeprefix("runs=")) / "empty.yaml"
    empty.write_text("")
    environment = os.environ | {
        "DIE_AT": str(-1 if die_at is None else die_at),
        "SIGNAL": str(int(sent)),
    }
    command = [sys.executable, "-c", KILLED, "train", str(empty), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


def pruned(dense: Path) -> list[str]:
    return ["pruning.method=threshold_ramp", f"pruning.dense={dense / 'model.asr'}"]
