"""The command line in a process of its own."""

import subprocess
import sys


def run_asr(*words: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """`asr WORDS...` in a process of its own."""
    command = [sys.executable, "-m", "asr", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)
