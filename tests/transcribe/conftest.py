"""The network that hears tones as letters, for all tests here that have no other of these names."""

from pathlib import Path

import pytest
from tone_network import save_tone_model

from asr.transcribe.recogniser import Recogniser, load


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr")


@pytest.fixture(scope="module")
def recogniser(model: Path) -> Recogniser:
    return load(model)
