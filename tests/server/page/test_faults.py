"""The page tells a person what is wrong, keeps the recordings, and goes on when it can."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from browser import finished, shown, until
from paths import TRAINED
from served import Served, in_thread, is_up, start, wait_until

from asr.server.options import ServerOptions

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

TRANSCRIPTIONS = "**/v1/audio/transcriptions"
STATUS = "the server responded with a status of {}"
"""Chromium writes each failed request into its console."""


def refuse(status: int, message: str, **headers: str) -> Callable[["Route"], None]:
    body = json.dumps({"error": {"message": message, "type": "server_error", "code": None}})
    return lambda route: route.fulfill(
        status=status, body=body, headers=headers, content_type="application/json"
    )


def kill(server: Served) -> None:
    """End a process as a power cut does."""
    assert server.process is not None
    assert server.process.stdout is not None
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not is_up(server.url))
    server.process.stdout.close()


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty minutes, which take seconds to transcribe on any machine."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000 * 2400)
    soundfile.write(path, noise, 8000, "PCM_U8")
    return path


@pytest.mark.parametrize(
    "content",
    [b"this is a text, not a recording", b"", b"RIFF\xff\xff\xff\xffWAVEfmt \x00"],
    ids=["text", "empty", "header"],
)
def test_a_broken_file_gives_a_message_that_a_person_understands(
    page: "Page", seen: SimpleNamespace, recording: Path, content: bytes
) -> None:
    seen.expected = [STATUS.format(4)]
    broken = {"name": "talk.mp3", "mimeType": "audio/mpeg", "buffer": content}
    page.set_input_files("#files", [broken])
    text = shown(page, ".problem p", "talk.mp3")
    assert "Traceback" not in text
    assert page.locator(".state").text_content() == "Not transcribed"
    assert page.locator(".problem").get_attribute("role") == "alert"
    page.set_input_files("#files", recording)  # the next one is not harmed
    finished(page)
    assert shown(page, "#progress-note", "1 of 2 transcribed, 1 not")


def test_a_recording_that_is_cut_off_is_refused_with_what_is_missing(
    page: "Page", seen: SimpleNamespace, recording: Path, tmp_path: Path
) -> None:
    seen.expected = [STATUS.format(4)]
    cut = tmp_path / "cut.wav"
    cut.write_bytes(recording.read_bytes()[:50_000])
    page.set_input_files("#files", cut)
    assert "cut.wav" in shown(page, ".problem p", "truncated")


def test_the_token_is_asked_for_only_when_the_server_wants_one(
    page: "Page",
    open_page: Callable[..., "Page"],
    seen: SimpleNamespace,
    recording: Path,
) -> None:
    assert page.locator("#token-form").is_hidden()
    seen.expected = [STATUS.format(401)]
    token = "ein geheimes Wört ✓"
    with in_thread(ServerOptions(models=(f"sparse={TRAINED}",)), (token,)) as closed:
        page = open_page(closed)
        page.wait_for_selector("#token-form:not([hidden])")
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type("a wrong one”")
        page.keyboard.press("Enter")
        shown(page, "#token-problem", "did not accept")
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        page.wait_for_selector("#model:enabled")
        assert page.locator("#token-form").is_hidden()
        page.set_input_files("#files", recording)
        finished(page)
        page.reload()  # the browser keeps it until the tab is closed
        page.wait_for_selector("#model:enabled")
        assert page.locator("#token-form").is_hidden()


def test_a_busy_server_is_waited_for_as_long_as_it_says(
    page: "Page", seen: SimpleNamespace, recording: Path
) -> None:
    seen.expected = [STATUS.format(429)]
    answers = iter([refuse(429, "wait", **{"Retry-After": "2"})])
    page.route(TRANSCRIPTIONS, lambda route: next(answers, lambda it: it.continue_())(route))
    began = time.monotonic()
    page.set_input_files("#files", recording)
    shown(page, ".state", "The server is busy. Trying again in 2 s.")
    shown(page, ".state", "Trying again in 1 s.")
    finished(page)
    assert time.monotonic() - began >= 2


def test_a_full_queue_of_the_server_is_waited_for(
    open_page: Callable[..., "Page"], seen: SimpleNamespace, recording: Path, long: Path
) -> None:
    seen.expected = [STATUS.format(429)]
    with in_thread(ServerOptions(models=(f"sparse={TRAINED}",), concurrency=1, queue=0)) as server:
        page = open_page(server)
        page.wait_for_selector("#model:enabled")

        def occupy() -> None:
            with long.open("rb") as file, server.http() as client:
                client.post("/v1/audio/transcriptions", files={"file": file}).raise_for_status()

        thread = threading.Thread(target=occupy)
        thread.start()
        wait_until(lambda: server.metric("asr_requests_running") == 1)
        page.set_input_files("#files", recording)
        shown(page, ".state", "The server is busy.")
        thread.join()
        finished(page)


def test_a_slow_server_shows_upload_and_seconds_and_can_be_left(
    page: "Page", recording: Path, long: Path
) -> None:
    network = page.context.new_cdp_session(page)
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1}
    slow = {**conditions, "uploadThroughput": recording.stat().st_size / 2}
    network.send("Network.emulateNetworkConditions", slow)
    page.set_input_files("#files", recording)
    shown(page, ".state", "Uploading, ")
    assert page.locator("progress").get_attribute("aria-label") == f"Progress of {recording.name}"
    until(page, "document.querySelector('progress').value > 0.2")
    network.send("Network.emulateNetworkConditions", {**conditions, "uploadThroughput": -1})
    finished(page)
    page.set_input_files("#files", long)
    shown(page, ".state", "Transcribing, 2 s")
    assert page.locator("progress").first.get_attribute("value") is None
    page.locator(".remove", has_text="Cancel").click()
    assert page.locator(".item").count() == 1


@pytest.mark.parametrize("status", [502, 503])
def test_a_server_that_stops_pauses_the_queue_until_it_is_back(
    page: "Page", seen: SimpleNamespace, recording: Path, status: int
) -> None:
    seen.expected = [STATUS.format(status)]
    page.route(TRANSCRIPTIONS, refuse(status, "The server is stopping; try again"))
    page.set_input_files("#files", [recording, recording])
    text = shown(page, "#outage", "The server is stopping")
    assert "Your recordings are still here." in text
    page.unroute(TRANSCRIPTIONS)
    page.locator("#outage button").click()
    finished(page, 2)
    assert page.locator("#outage").is_hidden()


def test_a_recording_that_takes_too_long_does_not_stop_the_others(
    page: "Page", seen: SimpleNamespace, recording: Path
) -> None:
    seen.expected = [STATUS.format(503)]
    message = "The request took longer than 300 seconds"
    answers = iter([refuse(503, message, **{"x-should-retry": "false"})])
    page.route(TRANSCRIPTIONS, lambda route: next(answers, lambda it: it.continue_())(route))
    page.set_input_files("#files", [recording, recording])
    finished(page)
    assert shown(page, ".problem p", message)
    assert page.locator("#outage").is_hidden()


def test_an_upload_that_is_too_large_is_refused_with_the_limit(
    open_page: Callable[..., "Page"], seen: SimpleNamespace, recording: Path
) -> None:
    seen.expected = [STATUS.format(413), "ERR_"]
    with in_thread(ServerOptions(models=(f"sparse={TRAINED}",), max_megabytes=0.05)) as server:
        page = open_page(server)
        page.wait_for_selector("#model:enabled")
        page.set_input_files("#files", recording)
        text = shown(page, ".problem p", "large")
        assert page.locator("#outage").is_hidden(), text


def test_a_server_that_is_gone_and_comes_back(
    open_page: Callable[..., "Page"], seen: SimpleNamespace, recording: Path
) -> None:
    seen.expected = ["ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET"]
    first = start("--port", 0, "--model", TRAINED)
    page = open_page(first)
    page.wait_for_selector("#model:enabled")
    kill(first)
    page.set_input_files("#files", recording)
    shown(page, "#outage", "The server does not answer.")
    assert page.locator(".state").text_content() == "Waiting for the server"
    page.locator("#outage button").click()  # too early
    shown(page, "#outage", "The server does not answer.")
    second = start("--port", first.port, "--model", TRAINED)
    page.locator("#outage button").click()
    finished(page)
    kill(second)


def test_a_page_that_was_opened_before_the_server_could_answer(
    page: "Page", open_page: Callable[..., "Page"], server: Served, seen: SimpleNamespace
) -> None:
    seen.expected = [STATUS.format(502), "not JSON"]
    page.context.route("**/v1/models", lambda r: r.fulfill(status=502, body="<html>Bad Gateway"))
    page.reload()
    shown(page, "#outage", "The server answered 502.")
    assert page.locator("#record").is_disabled()
    page.context.unroute("**/v1/models")
    page.locator("#outage button").click()
    page.wait_for_selector("#model:enabled")
    assert page.locator("#record").is_enabled()
