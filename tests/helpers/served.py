"""A server to talk to: in a thread of the test, or `asr serve` in a process of its own."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
import uvicorn
from openai import OpenAI
from paths import ROOT
from tone_network import RATE, speak

from asr.server.app import create_app
from asr.server.options import ServerOptions
from asr.server.run import server_config
from asr.server.service import Service

ADDRESS = "/v1/audio/transcriptions"


@dataclass
class Served:
    """A server that listens."""

    url: str
    service: Service | None = None
    server: uvicorn.Server | None = None
    """What runs `service`, if it is in this process."""
    process: subprocess.Popen[str] | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    """What its process has logged."""
    noise: list[str] = field(default_factory=list)
    """Lines of its process that are not JSON."""
    clients: list[OpenAI] = field(default_factory=list)

    def close(self) -> None:
        """Close all clients."""
        for client in self.clients:
            client.close()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        """Stop a server in this process as SIGTERM does."""
        assert self.server is not None
        assert self.service is not None
        assert self.service.loop is not None
        self.service.loop.call_soon_threadsafe(self.service.stop)
        self.server.should_exit = True

    def openai(self, token: str = "none", retries: int = 0) -> OpenAI:
        """The official client."""
        made = OpenAI(base_url=f"{self.url}/v1", api_key=token, max_retries=retries, timeout=60)
        self.clients.append(made)
        return made

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def metric(self, name: str) -> float:
        """The sum of all values of a metric."""
        text = httpx.get(f"{self.url}/metrics", timeout=60).text
        found = [line.rpartition(" ") for line in text.splitlines() if line.startswith(name)]
        return sum(float(value) for key, _, value in found if key.partition("{")[0] == name)

    def requests(self) -> list[dict[str, Any]]:
        """The logged lines of requests."""
        return [line for line in self.lines if "route" in line]


@contextmanager
def in_thread(options: ServerOptions, tokens: tuple[str, ...] = ()) -> Iterator[Served]:
    """A server in this process."""
    service = Service(options, tokens)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(options, create_app(service)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}", service, server)
        yield served
        served.close()
    finally:
        server.should_exit = True
        thread.join(60)
        listener.close()
        assert not thread.is_alive()


def start(*words: object, environment: dict[str, str] | None = None) -> Served:
    """`asr serve WORDS...` in a new process, as soon as it listens."""
    command = [sys.executable, "-m", "asr", "serve", *map(str, words)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | (environment or {}),
    )
    served, ready = Served("", process=process), threading.Event()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                try:
                    served.lines.append(json.loads(line))
                except ValueError:
                    served.noise.append(line)
                    continue
                message = served.lines[-1].get("message", "")
                if message.startswith("listening on "):
                    served.url = message.split()[2].rstrip(",")
                    ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    assert ready.wait(60)
    assert served.url, served.noise
    if served.url.startswith("http"):
        wait_until(lambda: is_up(served.url))
    return served


@contextmanager
def in_process(*words: object, environment: dict[str, str] | None = None) -> Iterator[Served]:
    """`asr serve WORDS...` on any free port, stopped at the end."""
    served = start("--port", 0, *words, environment=environment)
    assert served.process is not None
    try:
        yield served
    finally:
        with suppress(ProcessLookupError):
            served.process.send_signal(signal.SIGTERM)
        served.process.wait(60)
        served.close()


def is_up(url: str) -> bool:
    """Whether a server answers there."""
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    """Wait for a condition. Raises AssertionError if it does not come true in time."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come true in time"
        time.sleep(0.02)


def temporary_files(process: subprocess.Popen[str]) -> list[str]:
    """Files below /tmp, or without a name, that a process has open."""
    folder = Path(f"/proc/{process.pid}/fd")
    names = []
    for entry in folder.iterdir():
        with suppress(OSError):
            names.append(os.readlink(entry))
    return [name for name in names if "(deleted)" in name or name.startswith("/tmp")]


def recording(text: str = "BAD CAFE", kind: str = "wav", seconds: float = 0.0) -> bytes:
    """A file in which the tone network finds `text`, repeated up to some seconds."""
    samples = speak(text)
    if seconds:
        silence = np.zeros(RATE // 2, np.float32)
        part = np.concatenate([samples, silence])
        samples = np.tile(part, int(seconds * RATE / len(part)) + 1)[: round(seconds * RATE)]
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=kind.upper())
    return file.getvalue()


def raw_request(content: bytes) -> tuple[bytes, bytes]:
    """Head and body of a request to transcribe `content`, for tests that write to the socket."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + content
        + b"\r\n--x--\r\n"
    )
    head = (
        f"POST {ADDRESS} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    ).encode()
    return head, body
