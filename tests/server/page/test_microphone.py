"""The microphone: words while one speaks, the recording kept, and what happens without a socket.

Chromium plays a WAV file as its microphone.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np
import pytest
import soundfile
from browser import INSECURE, SENTENCES, finished, until
from paths import TRAINED
from served import Served, in_thread

import asr
from asr.server.options import ServerOptions

if TYPE_CHECKING:
    from playwright.sync_api import Page, WebSocketRoute

SOCKET = re.compile("/v1/listen")


def speak(page: "Page", seconds: float) -> None:
    """Record for so long."""
    page.locator("#record").click()
    page.wait_for_selector("#live:not([hidden])")
    page.wait_for_timeout(1000 * seconds)
    page.locator("#stop").click()
    page.wait_for_selector("#live", state="hidden")


def text_of(page: "Page") -> str:
    finished(page)
    return " ".join(page.locator(".words .word").all_text_contents())


@pytest.fixture(scope="session")
def spoken(recording: Path) -> tuple[str, float]:
    """What `asr transcribe` reads in the file that the microphone plays, and its seconds."""
    transcript = next(iter(asr.load(TRAINED).transcribe([recording])))
    return transcript.text, transcript.seconds


def test_words_appear_while_one_speaks_and_end_as_a_transcript(
    page: "Page", spoken: tuple[str, float]
) -> None:
    text, seconds = spoken
    page.locator("#record").click()
    page.wait_for_selector("#live:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "stop"
    until(page, "document.getElementById('stable').textContent.trim() !== ''")
    live = page.locator("#stable").text_content() or ""
    assert set(live.split()) & set(text.split())
    until(
        page,
        "seconds => document.getElementById('clock').textContent"
        ".split(':').reduce((m, s) => 60 * m + Number(s), 0) > seconds",
        math.ceil(seconds),
        seconds + 20,
    )
    page.locator("#stop").click()
    assert jiwer.cer(" ".join(SENTENCES), text_of(page)) <= 0.25
    assert "transcribed live" in page.locator(".state").text_content()
    assert page.evaluate("document.activeElement.id") == "record"
    page.locator(".words .word").last.click()
    until(page, "!document.querySelector('audio').paused")
    assert page.evaluate("document.querySelector('audio').currentTime") > 1


def test_words_that_may_change_look_different_and_are_not_announced(page: "Page") -> None:
    def word(text: str) -> dict[str, Any]:
        return {"word": text, "start": 0.1, "end": 0.4, "confidence": 0.9}

    events = iter(
        [
            {"stable": [], "provisional": [word("so")], "seconds": 0.1},
            {"stable": [word("saw")], "provisional": [word("the"), word("cat")], "seconds": 0.2},
            {"stable": [word("the")], "provisional": [word("hat")], "seconds": 0.3},
        ]
    )

    def listen(socket: "WebSocketRoute") -> None:
        def receive(message: str | bytes) -> None:
            if isinstance(message, bytes):
                event = next(events, None)
                if event:
                    socket.send(json.dumps({"type": "words", **event}))
            elif json.loads(message)["type"] == "finish":
                words = [word("saw"), word("the"), word("hat")]
                final = {"text": "saw the hat", "words": words, "duration": 0.5}
                socket.send(json.dumps({"type": "final", **final}))

        socket.on_message(receive)

    page.route_web_socket(SOCKET, listen)
    page.locator("#record").click()
    until(page, "document.getElementById('stable').children.length === 2")
    stable, provisional = page.locator("#stable"), page.locator("#provisional")
    assert (stable.text_content() or "").split() == ["saw", "the"]
    assert (provisional.text_content() or "").split() == ["hat"]
    assert stable.get_attribute("aria-live") == "polite"
    assert provisional.get_attribute("aria-live") is None
    style = "box => { const s = getComputedStyle(box); return [s.color, s.fontStyle]; }"
    assert all(
        a != b for a, b in zip(stable.evaluate(style), provisional.evaluate(style), strict=True)
    )
    page.locator("#stop").click()
    assert text_of(page) == "saw the hat"


@pytest.mark.parametrize("fault", ["closed", "error", "refused", "stopped"])
def test_without_live_words_the_recording_is_kept_and_transcribed_at_the_end(
    page: "Page", seen: SimpleNamespace, spoken: tuple[str, float], fault: str
) -> None:
    seen.expected = ["WebSocket connection"]

    def listen(socket: "WebSocketRoute") -> None:
        if fault == "closed":
            socket.on_message(lambda message: socket.close())
        elif fault == "stopped":  # the server stops: it ends all streams
            final = {"type": "final", "text": "", "words": [], "duration": 0.1}
            socket.on_message(lambda message: socket.send(json.dumps(final)))
        elif fault == "error":
            error = {"message": "too many streams are open", "type": "rate_limit_error"}
            socket.send(json.dumps({"type": "error", "error": error}))
        else:
            socket.close(code=1013, reason="try again later")

    page.route_web_socket(SOCKET, listen)
    page.locator("#record").click()
    note = page.locator("#live-note", has_text="The recording goes on")
    note.wait_for()
    if fault == "error":
        assert "too many streams are open" in (note.text_content() or "")
    page.wait_for_timeout(3000)
    page.locator("#stop").click()
    assert set(text_of(page).split()) & set(spoken[0].split())
    assert "transcribed live" not in page.locator(".state").text_content()


def test_a_recording_that_is_refused_can_be_saved_and_is_not_left_unasked(
    open_page: Callable[..., "Page"], seen: SimpleNamespace, recording: Path, tmp_path: Path
) -> None:
    seen.expected = ["WebSocket connection", "status of 413", "ERR_"]
    leaves = "dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    with in_thread(ServerOptions(models=(f"sparse={TRAINED}",), max_megabytes=0.01)) as server:
        page = open_page(server)
        page.route_web_socket(SOCKET, lambda socket: socket.close())
        page.wait_for_selector("#model:enabled")
        page.set_input_files("#files", recording)
        finished(page)
        assert page.locator(".save").is_hidden()  # a person has the file
        assert page.evaluate(leaves)
        speak(page, 4)
        finished(page, 2)
        assert not page.evaluate(leaves)
        with page.expect_download() as download:
            page.locator(".save:visible").click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.suffix == ".wav"
        assert soundfile.info(path).duration > 2


def test_live_words_with_a_token(
    open_page: Callable[..., "Page"], seen: SimpleNamespace, spoken: tuple[str, float]
) -> None:
    seen.expected = ["the server responded with a status of 401"]
    with in_thread(ServerOptions(models=(f"sparse={TRAINED}",)), ("a secret token",)) as closed:
        page = open_page(closed)
        page.locator("#token").fill("a secret token")
        page.keyboard.press("Enter")
        page.wait_for_selector("#model:enabled")
        speak(page, 4)
        text_of(page)
        assert "transcribed live" in page.locator(".state").text_content()


def test_a_page_without_https_says_why_it_cannot_record(
    open_page: Callable[..., "Page"], server: Served
) -> None:
    page = open_page(SimpleNamespace(url=f"http://{INSECURE}:{server.port}"))
    page.wait_for_selector("#model:enabled")
    assert page.locator("#record").is_disabled()
    assert "https://" in page.locator("#intake-note").text_content()


@pytest.mark.parametrize(
    ("name", "part"), [("NotAllowedError", "not allowed"), ("NotFoundError", "No microphone")]
)
def test_a_microphone_that_is_refused_or_missing_is_explained(
    page: "Page", name: str, part: str
) -> None:
    page.evaluate(
        "name => { navigator.mediaDevices.getUserMedia = "
        "() => Promise.reject(new DOMException('', name)); }",
        name,
    )
    page.locator("#record").click()
    page.locator("#intake-note", has_text=part).wait_for()
    assert page.locator("#record").is_enabled()


def resample(page: "Page", samples: np.ndarray, rate: int, chunk: int = 128) -> np.ndarray:
    """What the page makes of samples that come in chunks."""
    made = page.evaluate(
        """async ([samples, rate, chunk]) => {
            const {Resampler} = await import("/page/resample.js");
            const resampler = new Resampler(rate, 16000);
            const made = [];
            for (let i = 0; i < samples.length; i += chunk) {
                made.push(...resampler.push(Float32Array.from(samples.slice(i, i + chunk))));
            }
            return [...made, ...resampler.flush()];
        }""",
        [samples.tolist(), rate, chunk],
    )
    return np.array(made)


def test_samples_of_any_rate_become_those_of_16_khz(page: "Page") -> None:
    inner = slice(100, 1900)
    for rate in (8000, 16000, 22050, 44100, 48000, 96000):
        time = np.arange(rate // 8) / rate
        made = resample(page, np.sin(2 * np.pi * 1000 * time), rate)
        assert abs(len(made) - 2000) <= 1
        expected = np.sin(2 * np.pi * 1000 * np.arange(len(made)) / 16000)
        assert np.abs(made - expected)[inner].max() < 0.002
        if rate > 24000:  # what 16 kHz cannot hold is gone, not folded back
            above = resample(page, np.sin(2 * np.pi * 11000 * time), rate)
            assert np.abs(above[inner]).max() < 0.002
    samples = np.random.default_rng(0).standard_normal(5000)
    pieces = [resample(page, samples, 44100, chunk) for chunk in (1, 128, 5000)]
    assert all(np.array_equal(pieces[0], other) for other in pieces[1:])


def test_the_recording_is_a_wav_file_of_16_khz(page: "Page", tmp_path: Path) -> None:
    written = page.evaluate(
        """async () => {
            const {wav} = await import("/page/live.js");
            const file = wav([Int16Array.of(0, 1, -1), Int16Array.of(32767, -32768)], "x.wav");
            return [...new Uint8Array(await file.arrayBuffer())];
        }"""
    )
    path = tmp_path / "x.wav"
    path.write_bytes(bytes(written))
    samples, rate = soundfile.read(path, dtype="int16")
    assert (samples.tolist(), rate) == ([0, 1, -1, 32767, -32768], 16000)
