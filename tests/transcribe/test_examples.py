"""The examples in the docstrings of public functions run, with a network whose text is known."""

import doctest
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
from tone_network import RATE, save_tone_model, speak

import asr
from asr.evaluate import compare, dataset
from asr.transcribe import align, formats, recogniser


@pytest.mark.parametrize("module", [asr, recogniser, align, dataset, compare, formats])
def test_the_examples_run_as_written(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tone_model(tmp_path / "model.asr")
    soundfile.write(tmp_path / "talk.flac", speak("BAD CAFE"), RATE)
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module)
    assert result.attempted >= 1
    assert result.failed == 0
