"""What several rooms' tests share: a small spoken corpus and the command line in a process."""

import subprocess
import sys
from pathlib import Path

import pytest

from asr.corpus import spoken
from asr.settings import Spoken

# A packed sparse network that `make demo` trained (tests/data/README.md has the command).
TRAINED = Path(__file__).parent / "data" / "spoken.asr"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train.jsonl, dev.jsonl and test.jsonl: a few minutes of the spoken corpus."""
    folder = tmp_path_factory.mktemp("spoken")
    settings = Spoken(
        train_hours=0.03, dev_hours=0.005, test_hours=0.025, seed=1, folder=str(folder / "corpus")
    )
    for part in ("train", "dev", "test"):
        spoken.ensure(part, settings)
    return folder / "corpus"


@pytest.fixture(scope="session")
def trained() -> Path:
    """The committed network; tests that compare transcripts use it, never an untrained one."""
    return TRAINED


def run_asr(*words: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """`asr WORDS...` in a process of its own."""
    command = [sys.executable, "-m", "asr", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)
