"""Two small models, and a server of both in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, in_thread
from tone_network import save_tone_model

from asr.model.pack import pack
from asr.server.options import ServerOptions


@pytest.fixture(scope="session")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tone network, packed: the server needs no torch for it."""
    folder = tmp_path_factory.mktemp("served")
    save_tone_model(folder / "dense.asr")
    pack(folder / "dense.asr", folder / "tone.asr", values="fp32")
    return folder / "tone.asr"


@pytest.fixture(scope="module")
def served(tone: Path, trained: Path) -> Iterator[Served]:
    """A server of `tone`, the default, and of `spoken`."""
    with in_thread(ServerOptions(models=(str(tone), f"spoken={trained}"))) as server:
        yield server
