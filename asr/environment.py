"""What a figure was measured with: revision, versions, machine, memory. For `record.json`."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from asr.errors import counted

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

PACKAGES = ("asr", "torch", "torchaudio", "lightning", "numpy", "soundfile", "jiwer")


def git_state() -> dict[str, Any]:
    """Revision of the source tree and whether it holds uncommitted changes; empty outside git."""
    root = Path(__file__).resolve().parent.parent

    def ask(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # Installed inside somebody else's checkout, git would answer for theirs.
        ask("ls-files", "--error-unmatch", "asr/environment.py")
        return {
            "revision": ask("rev-parse", "--short=12", "HEAD"),
            # Records of earlier runs are committed beside the code; they change no result.
            "dirty": bool(
                ask("status", "--porcelain", "--", "asr", "recipes/*.py", "recipes/*.yaml")
            ),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"revision": "", "dirty": False}


def versions(*more: str) -> dict[str, str]:
    """Python and the packages that a result depends on, and `more` of them, where installed."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *more):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Processor cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB (None where it is not known)."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    memory = None
    if hasattr(os, "sysconf"):
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return {"cpu": cpu, "cores": cores(), "memory_gib": memory}


def peak_memory_mib() -> float | None:
    """Largest resident memory of this process so far, in MiB; None where it is not known."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike rusage it does not count what the parent held at the fork
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def threads_line(threads: int) -> str:
    """One line that says on what a figure was measured."""
    here = machine()
    return f"{here['cpu']}, {here['cores']} cores, {counted(threads, 'thread')}"
