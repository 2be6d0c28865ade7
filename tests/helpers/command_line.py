"""The command `asr`, in a new process or in this one."""

import subprocess
import sys

import pytest

from asr.cli import main as cli


def run_asr(*words: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `asr WORDS...` in a new process."""
    command = [sys.executable, "-m", "asr", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def asr_here(*words: object, status: int = 0) -> None:
    """Run `asr WORDS...` in this process, which saves its start; it must end with `status`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["asr", *map(str, words)])
        with pytest.raises(SystemExit) as done:
            cli.main()
    assert (done.value.code or 0) == status, words
