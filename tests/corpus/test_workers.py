"""Worker processes end with the process that started them, however it ended."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from torch.utils.data import DataLoader

from asr.corpus.workers import end_with_parent

METHODS = multiprocessing.get_all_start_methods()
PARENT = """
import multiprocessing, os, sys, time
from asr.corpus import workers

def work(pipe):
    workers.end_with_parent()
    pipe.send(os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=work, args=(theirs,)) for _ in range(2)]
    for child in children:
        child.start()
    print(*[ours.recv() for _ in children], flush=True)
    time.sleep(60)
"""


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().split()[2] != "Z"  # one that ended and whom nobody waited for


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("method", METHODS)
def test_they_end_when_their_parent_is_killed(method: str, tmp_path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    words = [sys.executable, str(script), method]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert len(workers) == 2
        time.sleep(1.2)
        assert all(map(is_there, workers)), "as long as it lives, they stay"
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(map(is_there, workers)):
        assert time.monotonic() < deadline, "the workers are still there"
        time.sleep(0.1)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "fork"])
def test_a_loader_may_start_its_workers_in_any_way(method: str) -> None:
    # `forkserver` is what Python 3.14 does on Linux: the parent of a worker is not who started it.
    loader = DataLoader(
        list(range(6)),  # type: ignore[arg-type]
        batch_size=2,
        num_workers=1,
        multiprocessing_context=method,
        worker_init_fn=end_with_parent,
    )
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]
