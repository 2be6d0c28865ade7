"""The command `asr` in a new process."""

import subprocess
import sys


def run_asr(*words: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `asr WORDS...` in a new process."""
    command = [sys.executable, "-m", "asr", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)
