"""The machine as described in records, also without the POSIX modules."""

import subprocess
import sys

from asr import environment

# Windows has neither the module `resource` nor `os.sysconf`, `os.sched_getaffinity` and /proc.
WINDOWS = """
import os, pathlib, sys
sys.modules["resource"] = None
for name in ("sysconf", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
exists = pathlib.Path.exists
pathlib.Path.exists = lambda path: not str(path).startswith("/proc") and exists(path)
from asr import environment
machine = environment.machine()
assert machine["cpu"] and machine["cores"] >= 1 and machine["memory_gib"] is None, machine
assert environment.peak_memory_mib() is None
print(environment.threads_line(2))
"""


def test_the_environment_works_without_the_posix_modules():
    run = subprocess.run([sys.executable, "-c", WINDOWS], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith("cores, 2 threads")


def test_cores_and_memory_are_known_on_this_system():
    machine = environment.machine()
    assert machine["cores"] >= 1
    if sys.platform == "linux":
        assert machine["memory_gib"] > 0
        peak = environment.peak_memory_mib()
        assert peak is not None
        assert peak > 5
