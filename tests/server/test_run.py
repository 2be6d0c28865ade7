"""`asr serve` as a process: its options, sockets, workers, stops and deaths."""

import os
import re
import signal
import socket
import time
import types
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import run_asr
from paths import ROOT
from served import ADDRESS, Served, in_process, is_up, raw_request, recording, start, wait_until

from asr.errors import AsrError
from asr.server.options import ServerOptions
from asr.server.run import serve


def ask(served: Served) -> str:
    return str(
        served.openai().audio.transcriptions.create(file=("a.wav", recording()), model="m").text
    )


def begun(served: Served, content: bytes, upto: int) -> tuple[socket.socket, bytes]:
    """A connection on which a part of a request was sent, and the rest."""
    head, body = raw_request(content)
    connection = served.connect()
    connection.sendall(head + body[:upto])
    return connection, body[upto:]


def received(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


def refuses(url: str) -> bool:
    """Whether nothing takes a connection any more; for a moment before, requests get a 503."""
    try:
        httpx.get(f"{url}/v1/models", timeout=5)
    except httpx.HTTPError:
        return True
    return False


def test_a_stop_lets_running_requests_end_and_refuses_new_ones(tone: Path, tmp_path: Path) -> None:
    with in_process("-m", f"m={tone}", environment={"TMPDIR": str(tmp_path)}) as served:
        assert served.process is not None
        assert ask(served) == "BAD CAFE"
        connection, rest = begun(served, recording(), 20_000)
        wait_until(lambda: served.metric("asr_requests_waiting") == 1)
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(served.url))
        connection.sendall(rest)
        answer = received(connection)
        connection.close()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"BAD CAFE" in answer
        assert served.process.wait(30) == 0
        assert not served.noise
        assert not os.listdir(tmp_path)


def test_a_stop_does_not_wait_for_ever(tone: Path) -> None:
    with in_process("-m", f"m={tone}", "--stop-seconds", 0.5) as served:
        assert served.process is not None
        connection, _ = begun(served, recording(), 20_000)
        wait_until(lambda: served.metric("asr_requests_waiting") == 1)
        served.process.send_signal(signal.SIGTERM)
        answer = received(connection)
        connection.close()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"stopping" in answer
        served.process.wait(30)
        assert not served.noise


def test_a_killed_server_leaves_no_file_and_starts_again_on_its_socket(
    tone: Path, tmp_path: Path
) -> None:
    path, spool = tmp_path / "asr.sock", tmp_path / "spool"
    spool.mkdir()
    words = ("-m", f"m={tone}", "--unix-socket", path)
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://asr", timeout=30) as client:

        def up() -> bool:
            with socket.socket(socket.AF_UNIX) as trial:
                return trial.connect_ex(str(path)) == 0

        first = start(*words, environment={"TMPDIR": str(spool)})
        assert first.process is not None
        wait_until(up)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(
                f"POST {ADDRESS} HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n"
                "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
                '--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
                + bytes(3_000_000)
            )
            descriptors = Path(f"/proc/{first.process.pid}/fd")
            wait_until(lambda: any("(deleted)" in os.readlink(d) for d in descriptors.iterdir()))
            assert not os.listdir(spool)  # what is stored of the upload has no name
            first.process.kill()
            first.process.wait()
        assert not os.listdir(spool)
        assert path.exists()
        second = start(*words)
        assert second.process is not None
        wait_until(up)
        answer = client.post(ADDRESS, files={"file": ("a.wav", recording())})
        assert answer.json()["text"] == "BAD CAFE"
        third = run_asr("serve", *words)
        assert (third.returncode, third.stderr.count("\n")) == (2, 1)
        assert "another server listens there" in third.stderr
        second.process.send_signal(signal.SIGTERM)
        second.process.wait(30)
        assert not path.exists()


def test_workers_share_an_address_and_one_that_dies_is_replaced(tone: Path) -> None:
    with in_process("-m", f"m={tone}", "--workers", 2) as served:
        assert served.process is not None
        for _ in range(6):
            assert ask(served) == "BAD CAFE"
        assert served.metric("asr_audio_seconds_total") == pytest.approx(6 * 1.34)
        children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()]
        workers = [p for p in pids if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: str(workers[0]) not in children.read_text().split())
        time.sleep(0.1)
        wait_until(lambda: is_up(served.url))
        assert ask(served) == "BAD CAFE"
        assert served.metric("asr_audio_seconds_total") == pytest.approx(7 * 1.34)
        assert served.metric("asr_requests_waiting") == 0
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(30)
        assert [line for line in served.requests() if line["status"] == 200]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ("missing.asr",)}, "missing.asr"),
        ({"models": ("whisper",)}, "neither a file nor the name of a model"),
        ({"models": ("english", "english")}, "there is a model english already"),
        ({"port": 70000}, "port=70000: from 0 to 65535"),
        ({"workers": 0}, "workers=0: at least 1"),
        ({"max_seconds": 0}, "max_seconds=0: above 0"),
        ({"token_file": "missing"}, "missing: the tokens cannot be read"),
        ({"host": "203.0.113.1"}, "203.0.113.1:8000: cannot listen there"),
        ({"host": "127.0.0..1"}, "127.0.0..1:8000: cannot listen there: not an address"),
        ({"unix_socket": "pyproject.toml"}, "is there and not a socket"),
        ({"unix_socket": "missing/a.sock"}, "cannot listen there: No such file"),
        ({"unix_socket": "a" * 200}, "cannot listen there"),
        ({"allow_origins": ("friend.example",)}, "such as https://example.org"),
        ({"decoding": {"decoder": "greedy", "beam": 8}}, "greedy decoding cannot use it"),
    ],
)
def test_a_mistake_is_said_before_anything_is_served(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("asr.server.run.signal", signal_that_is_not_set())
    monkeypatch.setattr("logging.config.dictConfig", lambda config: None)
    with pytest.raises(AsrError, match=re.escape(message)):
        serve(ServerOptions(**options))


def signal_that_is_not_set() -> Any:
    """The module `signal`, of which the handlers stay pytest's."""
    return types.SimpleNamespace(SIGTERM=signal.SIGTERM, signal=lambda *arguments: None)


def test_a_port_in_use_is_said(tone: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_asr("serve", "-m", tone, "--port", taken.getsockname()[1])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Address already in use; give another with --port" in done.stderr


def test_all_that_is_wrong_with_the_options_is_said_at_once() -> None:
    with pytest.raises(AsrError) as error:
        ServerOptions(port=-1, queue=-1, max_megabytes=float("nan"), allow_origins=("a",))
    assert str(error.value).count("\n") == 4
