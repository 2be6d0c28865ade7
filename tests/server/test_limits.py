"""Limits: bytes, seconds, waiting, slowness; who leaves; what a stop does to those who wait."""

import http.client
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import soundfile
from served import ADDRESS, Served, in_thread, raw_request, recording, wait_until

from asr.server import protocol, upload
from asr.server.options import ServerOptions


@pytest.fixture(scope="module")
def small(tone: Path) -> Iterator[Served]:
    """A server that takes little: 0.2 MB, 30 s, one request at a time and one waiting."""
    options = ServerOptions(
        models=(str(tone),), max_megabytes=0.2, max_seconds=30, concurrency=1, queue=1
    )
    with in_thread(options) as server:
        yield server


def begin_upload(server: Served, promised: int = 100_000) -> socket.socket:
    """A request whose body does not come."""
    connection = server.connect()
    connection.sendall(
        f"POST {ADDRESS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {promised}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n".encode()
    )
    return connection


def admitted(server: Served) -> int:
    assert server.service is not None
    return server.service.jobs.admitted


def test_an_upload_that_promises_too_much_is_refused_before_it_is_sent(small: Served) -> None:
    with begin_upload(small, 2_000_000_000) as connection:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413
        assert json.loads(answer.read())["error"]["code"] == "file_too_large"
        assert answer.headers["connection"] == "close"


def test_an_upload_that_promises_nothing_is_cut_off_at_the_limit(small: Served) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        while sent < 50_000_000:
            sent += 65536
            yield bytes(65536)

    with small.http() as client:
        answer = client.post(
            ADDRESS, content=body(), headers={"content-type": "multipart/form-data; boundary=x"}
        )
    assert answer.status_code == 413
    assert sent < 20_000_000
    assert admitted(small) == 0


def test_the_official_client_understands_that_a_file_is_too_large(small: Served) -> None:
    with pytest.raises(openai.APIStatusError, match=r"larger than 0\.2 MB") as error:
        small.openai().audio.transcriptions.create(file=("a.wav", bytes(3_000_000)), model="tone")
    assert error.value.status_code == 413


def test_a_recording_that_is_too_long_is_refused_by_its_header_or_while_it_is_decoded(
    small: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = io.BytesIO()  # an hour of silence in 0.2 MB
    with soundfile.SoundFile(bomb, "w", 16000, 1, format="FLAC") as file:
        for _ in range(60):
            file.write(np.zeros(60 * 16000, np.int16))
    assert len(bomb.getvalue()) < 200_000
    decoded = []
    from asr.transcribe.pipeline import Pipeline

    whole = Pipeline._blocks

    def counted(self, *arguments):  # type: ignore[no-untyped-def]
        for block in whole(self, *arguments):
            decoded.append(len(block))
            yield block

    monkeypatch.setattr(Pipeline, "_blocks", counted)
    client = small.openai()
    with pytest.raises(openai.APIStatusError, match="longer than 30 seconds") as error:
        client.audio.transcriptions.create(file=("a.flac", bomb.getvalue()), model="tone")
    assert (error.value.status_code, error.value.code) == (413, "audio_too_long")
    assert not decoded
    from asr.audio.read import OpenRecording

    monkeypatch.setattr(OpenRecording, "seconds", 0.0)  # as of files whose header does not say
    with pytest.raises(openai.APIStatusError, match="longer than 30 seconds"):
        client.audio.transcriptions.create(file=("a.flac", bomb.getvalue()), model="tone")
    assert 30 * 16000 < sum(decoded) < 1200 * 16000


def test_who_finds_the_queue_full_is_told_when_to_come_back(small: Served) -> None:
    with begin_upload(small), begin_upload(small):
        wait_until(lambda: admitted(small) == 2)
        with pytest.raises(openai.RateLimitError, match="waiting") as error:
            small.openai().audio.transcriptions.create(file=("a.wav", recording()), model="tone")
        assert error.value.code == "queue_full"
        assert 1 <= int(error.value.response.headers["retry-after"]) <= 60
        assert httpx.get(f"{small.url}/health").status_code == 200
    wait_until(lambda: admitted(small) == 0)  # those who left free their places


def test_the_official_client_comes_back_by_itself(small: Served) -> None:
    held = [begin_upload(small), begin_upload(small)]
    wait_until(lambda: admitted(small) == 2)
    threading.Timer(0.5, lambda: [connection.close() for connection in held]).start()
    client = small.openai(retries=5)
    answer = client.audio.transcriptions.create(file=("a.wav", recording()), model="tone")
    assert answer.text == "BAD CAFE"


def test_more_clients_than_places_are_all_answered_if_they_come_back(small: Served) -> None:
    client = small.openai(retries=20)

    def ask(text: str) -> str:
        file = ("a.wav", recording(text))
        return client.audio.transcriptions.create(file=file, model="tone").text

    texts = ["A BED", "EGG", "DAD"] * 3
    with ThreadPoolExecutor(9) as pool:
        assert list(pool.map(ask, texts)) == texts


def test_who_sends_a_byte_a_second_is_cut_off(
    small: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "FIRST_SECONDS", 0.5)
    with begin_upload(small) as connection:
        started = time.monotonic()
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 408
        assert "too slow" in json.loads(answer.read())["error"]["message"]
        assert 0.4 < time.monotonic() - started < 10
    assert admitted(small) == 0


def test_a_connection_on_which_no_request_begins_is_closed(
    small: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    for begun in (b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /hea"):
        with small.connect() as connection:
            connection.sendall(begun)
            received = b""
            while part := connection.recv(10_000):
                received += part
            assert received.count(b"200 OK") == begun.count(b"\r\n\r\n")


def test_who_leaves_while_waiting_or_running_frees_the_place(
    small: Served, caplog: pytest.LogCaptureFixture
) -> None:
    assert small.service is not None
    caplog.set_level(logging.INFO, "asr.server.requests")
    release, entered = threading.Event(), threading.Event()
    recogniser = small.service.models.default.recogniser
    transcribe = recogniser.transcribe

    def slow(sources, options, advance):  # type: ignore[no-untyped-def]
        entered.set()
        while not release.wait(0.01):
            advance(0.0)  # as between two batches: here it is asked to stop
        return transcribe(sources, options, advance)

    recogniser.transcribe = slow  # type: ignore[method-assign]
    try:
        content = recording()
        head, body = raw_request(content)
        runs, waits = small.connect(), small.connect()
        runs.sendall(head + body)
        assert entered.wait(20)
        waits.sendall(head + body)
        wait_until(lambda: admitted(small) == 2)
        assert small.service.jobs.running == 1
        waits.close()
        wait_until(lambda: admitted(small) == 1)
        runs.close()
        wait_until(lambda: admitted(small) == 0)
        assert small.service.jobs.running == 0
    finally:
        release.set()
        del recogniser.transcribe
    statuses = [r.fields["status"] for r in caplog.records if hasattr(r, "fields")]
    assert statuses == [499, 499]


def test_a_request_that_takes_too_long_is_told_and_its_work_stops(
    tone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ServerOptions(models=(str(tone),), concurrency=1, request_seconds=0.5)
    with in_thread(options) as server:
        assert server.service is not None
        recogniser = server.service.models.default.recogniser

        def endless(sources, options, advance):  # type: ignore[no-untyped-def]
            while True:
                time.sleep(0.01)
                advance(0.0)

        monkeypatch.setattr(recogniser, "transcribe", endless)
        with pytest.raises(openai.InternalServerError, match=r"longer than 0\.5 s") as error:
            server.openai(retries=3).audio.transcriptions.create(
                file=("a.wav", recording()), model="tone"
            )
        assert (error.value.status_code, error.value.code) == (503, "timeout")
        assert server.metric("asr_requests_total") == 1  # the client is told not to try again
        wait_until(lambda: server.service.jobs.running == 0)


def test_waiting_requests_get_an_answer_when_the_server_gives_up(tone: Path) -> None:
    with in_thread(ServerOptions(models=(str(tone),), concurrency=1)) as server:
        assert server.service is not None
        jobs = server.service.jobs
        with begin_upload(server):
            wait_until(lambda: admitted(server) == 1)
            jobs.stop()
            assert httpx.get(f"{server.url}/health").status_code == 503
            with pytest.raises(openai.InternalServerError, match="stopping") as error:
                server.openai().audio.transcriptions.create(file=("a.wav", b"a"), model="tone")
            assert error.value.response.headers["retry-after"]
            jobs.abandon()
        wait_until(lambda: admitted(server) == 0)
