"""Words while one speaks: samples go in on a websocket, events come out."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from served import Served, in_thread, wait_until
from tone_network import RATE, speak
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from asr.server import listen
from asr.server.app import create_app
from asr.server.listen import Pcm
from asr.server.options import ServerOptions
from asr.server.protocol import PatientWebSocket
from asr.transcribe.recogniser import load
from asr.transcribe.stream import Stream
from asr.transcribe.transcript import Transcript

SPEECH = np.concatenate([speak("BAD CAFE "), np.zeros(RATE), speak("FEED A BEE"), np.zeros(RATE)])


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32767).round().astype("<i2").tobytes()


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 60))


@asynccontextmanager
async def stream(
    served: Served, query: str = "", **options: Any
) -> AsyncIterator[ClientConnection]:
    url = f"ws{served.url.removeprefix('http')}/v1/listen{query}"
    async with connect(url, **options) as connection:
        yield connection


async def events(connection: ClientConnection) -> list[dict[str, Any]]:
    """All events up to the end of the connection."""
    found = []
    with suppress(ConnectionClosed):  # with a code that says that it was an error
        while True:
            found.append(json.loads(await connection.recv()))
    return found


def say(served: Served, content: bytes, size: int, query: str = "") -> list[dict[str, Any]]:
    """The events of some bytes, sent in frames of a size."""

    async def work() -> list[dict[str, Any]]:
        async with stream(served, query) as connection:
            for first in range(0, len(content), size):
                await connection.send(content[first : first + size])
            await connection.send('{"type": "finish"}')
            return await events(connection)

    return run(work)


def expected(tone: Path, samples: np.ndarray) -> Any:
    """What the same stream gives in Python."""
    made = load(tone).stream()
    made.push(np.frombuffer(pcm(samples), "<i2").astype(np.float32) / 32768)
    return made.finish()


@pytest.mark.parametrize("size", [641, 3200, 100_000])
def test_the_final_text_is_that_of_a_stream_in_python_however_it_is_cut(
    served: Served, tone: Path, size: int
) -> None:
    found = say(served, pcm(SPEECH), size)
    transcript = expected(tone, SPEECH)
    assert transcript.text == "BAD CAFE FEED A BEE"
    *words, final = found
    assert final["type"] == "final"
    assert final["text"] == transcript.text
    assert abs(final["duration"] - len(SPEECH) / RATE) < 0.001
    assert [word["word"] for word in final["words"]] == transcript.text.split()
    for word, known in zip(final["words"], transcript.words, strict=True):
        assert abs(word["start"] - known.start) < 0.001
        assert 0 <= word["confidence"] <= 1
    assert {event["type"] for event in words} == {"words"}
    seconds = [event["seconds"] for event in words]
    assert seconds == sorted(seconds)
    stable = [word["word"] for event in words for word in event["stable"]]
    assert stable == transcript.text.split()[: len(stable)]  # stable words never change
    if size == 3200:
        assert len(stable) >= 2
        assert any(event["provisional"] for event in words)


def test_another_sample_rate_is_resampled(served: Served) -> None:
    resampled = soxr.resample(SPEECH, RATE, 48000)
    final = say(served, pcm(resampled), 9600, "?model=tone&sample_rate=48000")[-1]
    assert final["text"] == "BAD CAFE FEED A BEE"
    assert abs(final["duration"] - len(SPEECH) / RATE) < 0.01


def test_samples_may_be_split_in_the_middle(served: Served) -> None:
    whole = Pcm(16000, 16000).floats(pcm(SPEECH))
    odd = Pcm(16000, 16000)
    content = pcm(SPEECH)
    parts = [odd.floats(content[i : i + 777]) for i in range(0, len(content), 777)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_stream_without_samples_ends_with_an_empty_text(served: Served) -> None:
    [final] = say(served, b"", 1)
    assert (final["type"], final["text"], final["words"]) == ("final", "", [])


def error_of(served: Served, query: str = "", *messages: Any, **options: Any) -> dict[str, Any]:
    """The error that ends a connection."""

    async def work() -> dict[str, Any]:
        async with stream(served, query, **options) as connection:
            for message in messages:
                await connection.send(message)
            found = await events(connection)
            assert connection.close_code in (1008, 1013)
        assert found[-1]["type"] == "error"
        error: dict[str, Any] = found[-1]["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    return run(work)


@pytest.mark.parametrize(
    ("query", "message", "fragment"),
    [
        ("?model=none", None, "this server has tone, spoken"),
        ("?sample_rate=7", None, "from 8000 to 192000"),
        ("?sample_rate=16000.5", None, "a whole number"),
        ("?sample_rate=000016000000", None, "a whole number"),
        (f"?sample_rate=000016000{5000 * '0'}", None, "a whole number"),
        ("?rate=16000", None, "no such parameter"),
        ("", "no json", "JSON object"),
        ("", "[1]", "JSON object"),
        ("", '{"type": "begin"}', "send samples, or finish"),
        ("", "[" * 100_000, "JSON object"),
    ],
)
def test_a_mistake_is_an_event_and_the_end(
    served: Served, query: str, message: str | None, fragment: str
) -> None:
    assert fragment in error_of(served, query, *([message] if message else []))["message"]


@pytest.mark.parametrize("origin", ["https://evil.example", "http://["])
def test_other_web_sites_pages_are_refused(served: Served, origin: str) -> None:
    assert error_of(served, origin=origin)["code"] == "foreign_origin"


def test_a_handshake_elsewhere_is_refused_and_counted_so(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asr.server.requests")

    async def work() -> None:
        with pytest.raises(InvalidStatus) as error:
            await connect(f"ws{served.url.removeprefix('http')}/none")
        assert error.value.response.status_code == 403

    run(work)
    wait_until(lambda: logged(caplog))
    assert [fields["status"] for fields in logged(caplog)] == [403]


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the log says of requests."""
    return [record.fields for record in caplog.records if hasattr(record, "fields")]


@pytest.fixture(scope="module")
def small(tone: Path) -> Iterator[Served]:
    """A server with a token, of one stream and 3 seconds."""
    options = ServerOptions(models=(str(tone),), streams=1, max_seconds=3)
    with in_thread(options, ("secret",)) as server:
        yield server


def test_a_token_comes_in_a_header_or_in_the_first_message(
    small: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def finish(first: list[str], **options: Any) -> str:
        async with stream(small, **options) as connection:
            for message in (*first, '{"type": "finish"}'):
                await connection.send(message)
            return str((await events(connection))[-1]["type"])

    header = {"authorization": "Bearer secret"}
    token = '{"type": "token", "token": "secret"}'
    assert run(lambda: finish([], additional_headers=header)) == "final"
    assert run(lambda: finish([token])) == "final"
    assert run(lambda: finish([token], additional_headers=header)) == "final"
    for wrong in ('{"type": "token", "token": "Secret"}', '{"type": "finish"}', bytes(100)):
        assert error_of(small, "", wrong)["code"] == "invalid_api_key"
    monkeypatch.setattr(listen, "TOKEN_SECONDS", 0.2)
    assert error_of(small)["code"] == "invalid_api_key"


def test_streams_are_limited_in_number_seconds_and_silence(
    small: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = '{"type": "token", "token": "secret"}'

    async def second() -> str:
        async with stream(small) as first:
            await first.send(token)
            await first.send(pcm(SPEECH[:RATE]))
            await first.recv()
            async with stream(small) as other:
                await other.send(token)
                return str((await events(other))[-1]["error"]["code"])

    assert run(second) == "too_many_streams"
    assert error_of(small, "", token, pcm(np.zeros(RATE * 4)))["code"] == "audio_too_long"
    monkeypatch.setattr(listen, "IDLE_SECONDS", 0.2)
    assert error_of(small, "", token)["code"] == "idle"
    assert small.service is not None
    assert small.service.streams.open == 0


def test_who_leaves_frees_the_place(small: Served) -> None:
    assert small.service is not None

    async def leave() -> None:
        async with stream(small) as connection:
            await connection.send('{"type": "token", "token": "secret"}')
            await connection.send(pcm(SPEECH[:RATE]))
            await connection.recv()
            assert small.service is not None
            assert small.service.streams.open == 1
            connection.transport.abort()
        while small.service.streams.open:
            await asyncio.sleep(0.02)

    run(leave)


@pytest.mark.parametrize("kind", ["accept", "send", "close"])
def test_a_client_that_vanishes_before_it_is_told_of_its_mistake_is_not_ours(
    served: Served, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.INFO)
    assert served.service is not None
    app = create_app(served.service)
    scope = {"type": "websocket", "path": "/v1/listen", "headers": [], "query_string": b"model=x"}

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        if message["type"] == f"websocket.{kind}":
            raise ConnectionError

    run(lambda: app(scope, receive, send))
    assert [fields["code"] for fields in logged(caplog)] == ["client_left"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_client_that_does_not_read_frees_its_place_and_its_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.server is not None
    monkeypatch.setattr(listen, "IDLE_SECONDS", 0.3)
    more_than_systems_hold = "x" * (1 << 25)
    monkeypatch.setattr(listen, "words_event", lambda update: {"words": more_than_systems_hold})
    open_ = served.server.server_state.connections
    with served.connect() as connection:
        connection.sendall(
            b"GET /v1/listen HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 101 " in connection.recv(1000)
        assert [type(one) for one in open_].count(PatientWebSocket) == 1
        connection.sendall(b"\x82\x84" + bytes(8))  # two samples, not masked
        connection.sendall(b"\x82\x84" + bytes(8))
        wait_until(lambda: PatientWebSocket not in map(type, list(open_)))
    assert served.service is not None
    assert served.service.streams.open == 0


def test_a_frame_that_is_too_large_ends_the_connection(served: Served) -> None:
    async def work() -> None:
        async with stream(served) as connection:
            await connection.send(bytes(3 << 20))
            assert await events(connection) == []
            assert connection.close_code == 1009

    run(work)


def test_open_streams_end_with_their_text_when_the_server_stops(
    tone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Stream.finish
    with in_thread(ServerOptions(models=(str(tone),))) as server:

        def finish_late(made: Stream) -> Transcript:
            """Finish once uvicorn has asked all connections to end."""
            assert server.server is not None
            assert server.service is not None
            assert server.service.loop is not None
            listening = server.server.servers[0]
            wait_until(lambda: not listening.is_serving())
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), server.service.loop).result(60)
            return finish(made)

        monkeypatch.setattr(Stream, "finish", finish_late)

        async def work() -> list[dict[str, Any]]:
            async with stream(server) as connection:
                await connection.send(pcm(SPEECH))
                while json.loads(await connection.recv())["seconds"] < len(SPEECH) / RATE - 0.01:
                    pass
                server.stop()
                return await events(connection)

        *_, final, error = run(work)
    assert final["text"] == "BAD CAFE FEED A BEE"
    assert error["error"]["code"] == "stopping"
