"""Worker processes need no shared memory of the system, and one that ends is named."""

import errno
import os
import signal
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from paths import ROOT
from rich.console import Console
from small_run import in_process
from torch.utils.data import get_worker_info

from asr.errors import AsrError
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train import run
from asr.train.batches import Batch
from asr.train.callbacks import ResumePoint
from asr.train.data import SpeechDataset

LIMITED = ["unshare", "--mount", "sh", "-c"]
FULL = "mount -t tmpfs -o size=256k tmpfs /dev/shm && exec "


def namespaces() -> bool:
    """Whether this user may put a small file system over /dev/shm, seen by one process only."""
    try:
        return not subprocess.run([*LIMITED, FULL + "true"], capture_output=True).returncode
    except OSError:
        return False


def words(corpus: Path, folder: Path, *more: str) -> list[str]:
    return [
        f"runs={folder}", "name=x", f"data.root={corpus}",
        "data.train=[train.jsonl]", "data.dev=[dev.jsonl]", "data.batch_seconds=60",
        "data.max_seconds=9", "model.hidden=8", "model.layers=1", "model.conv_channels=[4,4]",
        "training.epochs=1", "training.progress=false", "data.workers=2", *more,
    ]  # fmt: skip


def batch(frames: int) -> Batch:
    features = torch.randn(2, frames, 5)
    lengths, targets = torch.tensor([frames, 3]), torch.tensor([[1, 2], [3, 0]])
    return Batch(features, lengths, targets, torch.tensor([2, 1]), ["a", "b"], 1.5)


@pytest.mark.parametrize("frames", [0, 4, 100_000])
def test_a_batch_is_sent_between_processes_without_shared_memory(frames, monkeypatch):
    def refuse(_: object) -> None:
        raise AssertionError("a tensor would go through /dev/shm")

    monkeypatch.setitem(ForkingPickler._extra_reducers, torch.Tensor, refuse)  # type: ignore[attr-defined]
    sent = batch(frames)
    with pytest.raises(AssertionError):
        ForkingPickler.dumps(sent.features)
    found = ForkingPickler.loads(ForkingPickler.dumps(sent))
    for name, value in vars(sent).items():
        same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
        assert same(getattr(found, name), value)
    found.features += 1  # as writable as any tensor


@pytest.mark.skipif(not namespaces(), reason="needs the right to mount a file system")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_with_workers_runs_where_dev_shm_is_tiny(workers, corpus, tmp_path):
    given = " ".join(f"'{word}'" for word in words(corpus, tmp_path, f"data.workers={workers}"))
    (tmp_path / "none.yaml").write_text("")
    command = f"{FULL} {sys.executable} -m asr train {tmp_path}/none.yaml {given}"
    process = subprocess.run(
        [*LIMITED, command], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "x" / "record.json").exists()


@pytest.mark.skipif(not namespaces(), reason="needs the right to mount a file system")
def test_no_room_for_the_locks_of_the_workers_is_a_message(corpus, tmp_path):
    given = " ".join(f"'{word}'" for word in words(corpus, tmp_path))
    (tmp_path / "none.yaml").write_text("")
    command = f"{FULL} {sys.executable} -m asr train {tmp_path}/none.yaml {given}"
    process = subprocess.run(
        [*LIMITED, command.replace("256k", "4k")], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.returncode == 2, process.stderr
    assert "data.workers=2: /dev/shm has" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("number", [signal.SIGBUS, signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_the_system_ends_is_a_message(number, corpus, tmp_path, monkeypatch):
    begun = SpeechDataset.__getitem__

    def dying(self: SpeechDataset, key: tuple[int, int]) -> object:
        if get_worker_info() is not None:
            os.kill(os.getpid(), number)
        return begun(self, key)

    monkeypatch.setattr(SpeechDataset, "__getitem__", dying)
    settings = load(Run, None, words(corpus, tmp_path))
    with pytest.raises(AsrError, match=r"(?s)process that loads data has ended: .*data\.workers"):
        run.train(settings, Console(quiet=True))


def test_workers_end_with_a_training_that_is_killed(corpus, tmp_path):
    # Batches of some 100 kB, more than a pipe holds: the workers wait to send when it dies.
    killed = in_process(words(corpus, tmp_path, "training.epochs=9", "data.batch_seconds=30"), 2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr  # its output ended, so they did too


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_full_disk_is_found_under_the_errors_that_follow_it(depth, corpus, tmp_path, monkeypatch):
    def failing(*_: object, **__: object) -> None:
        error: Exception = OSError(errno.ENOSPC, "No space left on device")
        for _ in range(depth):
            try:
                raise error
            except Exception:
                try:
                    raise RuntimeError("while ending")
                except RuntimeError as later:
                    error = later
        raise error

    monkeypatch.setattr(ResumePoint, "save", failing)
    settings = load(Run, None, words(corpus, tmp_path, "data.workers=0"))
    with pytest.raises(AsrError, match=r"(?s)no space is left on the disk of .*to continue"):
        run.train(settings, Console(quiet=True))
