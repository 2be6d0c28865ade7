"""The page in Debian's Chromium, driven by Playwright, against the real server.

`page` is a fresh page on a server with two models. When a test ends, the page must have reported no
error and must have asked no other host for anything.
"""

import os
import shutil
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pytest
from browser import INSECURE, SENTENCES
from paths import TRAINED
from served import Served, in_thread

from asr.model.file import read_model
from asr.server.options import ServerOptions
from asr.sparse import write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTH = {"width": 1000, "height": 900}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.web)


def _chromium() -> str:
    """The browser that is installed. Fails the tests with what to do."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("ASR_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(
            "the tests of the page need Chromium: `apt-get install chromium`, or its path in "
            "ASR_CHROMIUM",
            pytrace=False,
        )
    return found


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sentences with quiet around them, for the file and for the microphone."""
    import soundfile

    from asr.corpus.manifest import read_manifest
    from asr.corpus.spoken import build
    from asr.corpus.spoken.settings import Spoken

    folder = tmp_path_factory.mktemp("recordings")
    build.ensure("test", Spoken(test_hours=0.025, seed=1, folder=str(folder / "corpus")))
    manifest = read_manifest(folder / "corpus" / "test.jsonl")
    spoken = {utterance.text: utterance for utterance in manifest}
    quiet = np.random.default_rng(0).normal(0, 0.001, 4800).astype(np.float32)
    parts = [quiet]
    for text in SENTENCES:
        samples, rate = soundfile.read(spoken[text].audio_filepath, dtype="float32")
        assert rate == 16000
        parts += [samples, quiet]
    path = folder / "two sentences.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((32767 * np.concatenate(parts)).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed network with tiny weights in place of its zeros: dense, with the same texts."""
    file = read_model(TRAINED)
    signs = np.random.default_rng(0)
    tensors = {
        name: np.where(values == 0, signs.choice([-1e-5, 1e-5], values.shape), values).astype("f4")
        if values.dtype.kind == "f"
        else values
        for name, values in ((name, np.asarray(array)) for name, array in file.dense().items())
    }
    path = tmp_path_factory.mktemp("models") / "dense.asr"
    write(path, tensors, file.metadata.to_plain(), compress=False)
    return path


@pytest.fixture(scope="session")
def server(dense: Path) -> Iterator[Served]:
    """A server with the models `sparse` and `dense`."""
    with in_thread(ServerOptions(models=(f"sparse={TRAINED}", f"dense={dense}"))) as running:
        yield running


@pytest.fixture(scope="session")
def chromium(recording: Path) -> Iterator["Browser"]:
    """The browser; its microphone plays `recording` once."""
    from playwright.sync_api import sync_playwright

    arguments = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={recording}%noloop",
        f"--host-resolver-rules=MAP {INSECURE} 127.0.0.1",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def seen() -> SimpleNamespace:
    """What the pages of a test reported; `expected` are parts of errors that may come."""
    return SimpleNamespace(errors=[], hosts=set(), expected=[])


@pytest.fixture
def open_page(chromium: "Browser", seen: SimpleNamespace) -> Iterator[Callable[..., "Page"]]:
    """Opens the page of a server; further arguments are those of a Playwright context."""
    contexts, ours = [], {""}  # data: and blob: have no host

    def open_page(server: Served, **options: object) -> "Page":
        context = chromium.new_context(**{"viewport": WIDTH, "accept_downloads": True, **options})
        contexts.append(context)
        ours.add(urlsplit(server.url).netloc)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("console", lambda m: m.type == "error" and seen.errors.append(m.text))
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("request", lambda request: seen.hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: seen.hosts.add(urlsplit(socket.url).netloc))
        page.goto(server.url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert seen.hosts <= ours
    for text in seen.errors:
        assert any(part in text for part in seen.expected), f"the page reported: {text}"


@pytest.fixture
def page(open_page: Callable[..., "Page"], server: Served) -> "Page":
    """A fresh page, its models loaded."""
    page = open_page(server)
    page.wait_for_selector("#model:enabled")
    return page
