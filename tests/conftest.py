"""Fixtures for all tests: a small spoken corpus and the committed network."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Teams of threads in several processes wait for each other in every step: many times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from paths import TRAINED

from asr.corpus.spoken import build as spoken
from asr.corpus.spoken.settings import Spoken


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
