"""Fixtures of the tests of files."""

from pathlib import Path

import pytest
from packed_file import METADATA, some_tensors

from asr.sparse import write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "model.asr", some_tensors(), METADATA)
    return tmp_path / "model.asr"
