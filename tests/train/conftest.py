"""A small trained and tested network, for tests that have no other of its name."""

from pathlib import Path

import pytest
from small_run import settings_of

from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train.run import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def dense(folder: Path, corpus: Path) -> Path:
    """Run folder of a small dense network, trained and tested."""
    words = settings_of(folder, corpus, "dense", "data.test=[test.jsonl]")
    return train(load(Run, None, words))
