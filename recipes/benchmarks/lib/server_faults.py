"""Clients that a server must survive: slow ones, ones that leave, floods, and broken files."""

import io
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import httpx
import numpy as np
import soundfile

from lib.server_process import ServerProcess

ADDRESS = "/v1/audio/transcriptions"
FRONT = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
"""How the body of a request begins, up to the recording."""
RATE = 16000
SOUNDFILE = {
    "wav": {"format": "WAV"},
    "flac": {"format": "FLAC"},
    "mp3": {"format": "MP3"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "aiff": {"format": "AIFF"},
    "au": {"format": "AU"},
    "caf": {"format": "CAF"},
    "w64": {"format": "W64"},
}
MEDIA = {"m4a": ("mp4", "aac"), "webm": ("webm", "libopus")}


def encode(kind: str, samples: np.ndarray) -> bytes:
    """Samples as a file of a kind."""
    file = io.BytesIO()
    if kind in SOUNDFILE:
        soundfile.write(file, samples, RATE, **SOUNDFILE[kind])
        return file.getvalue()
    name, codec = MEDIA[kind]
    with av.open(file, "w", format=name) as container:
        track: Any = container.add_stream(codec, rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        convert = av.AudioResampler(track.codec_context.format, "mono", RATE)
        fifo = av.AudioFifo()
        for part in convert.resample(frame):
            fifo.write(part)
        while part := fifo.read(track.codec_context.frame_size or 1024, partial=True):
            container.mux(track.encode(part))
        container.mux(track.encode())
    return file.getvalue()


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """A file with some bytes changed, cut, repeated or put in."""
    content = bytearray(whole)
    for _ in range(chance.choice((1, 3, 30, 300))):
        content[chance.randrange(len(content))] = chance.randrange(256)
    at = chance.randrange(len(content))
    match chance.randrange(5):
        case 0:
            content = content[:at]
        case 1:
            content[at:at] = content[: chance.randrange(2000)]
        case 2:
            content[at:at] = chance.randbytes(chance.randrange(2000))
        case 3:
            content[at : at + 8] = b"\xff" * 8
    return bytes(content)


def fuzz(server: ServerProcess, speech: np.ndarray, count: int) -> Iterator[dict[str, Any]]:
    """Send `count` damaged files of each kind: how often each status came."""
    with httpx.Client(base_url=server.url, timeout=300) as client:
        for kind in (*SOUNDFILE, *MEDIA):
            whole, chance, before = encode(kind, speech), random.Random(kind), server.memory()
            statuses = Counter[int]()
            for _ in range(count):
                file = (f"a.{kind}", damaged(whole, chance))
                statuses[client.post(ADDRESS, files={"file": file}).status_code] += 1
            yield {
                "kind": kind,
                "sent": count,
                "transcribed": statuses[200],
                "refused": sum(n for status, n in statuses.items() if 400 <= status < 500),
                "failed": sum(n for status, n in statuses.items() if status >= 500),
                "growth": server.memory() - before,
            }


def head(server: ServerProcess, length: int) -> bytes:
    """The beginning of a request that promises a body."""
    host = server.url.removeprefix("http://")
    return (
        f"POST {ADDRESS} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    ).encode()


def connect(server: ServerProcess) -> socket.socket:
    """A bare connection."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=120)


def send_slowly(server: ServerProcess) -> str:
    """A byte a second, until the server has enough of it."""
    started = time.perf_counter()
    with connect(server) as connection:
        connection.sendall(head(server, 100_000) + FRONT)
        connection.settimeout(1.0)
        while time.perf_counter() - started < 90:
            try:
                answer = connection.recv(100)
            except TimeoutError:
                connection.sendall(b"-")
                continue
            seconds = time.perf_counter() - started
            return f"{answer.split()[1].decode()} after {seconds:.0f} s"
    return "still open after 90 s"


def leave(server: ServerProcess, content: bytes, times: int) -> str:
    """Send recordings and close the connection without waiting for the answer."""
    body = FRONT + content + b"\r\n--x--\r\n"
    for number in range(times):
        with connect(server) as connection:
            # Half of them leave in the middle of the upload.
            connection.sendall(head(server, len(body)) + body[: len(body) // (1 + number % 2)])
    ends = time.perf_counter() + 120
    while time.perf_counter() < ends:
        text = httpx.get(f"{server.url}/metrics", timeout=60).text
        if "asr_requests_running 0.0" in text and "asr_requests_waiting 0.0" in text:
            left = sum(line["status"] == 499 for line in server.requests())
            return f"all places free again; {left} of {times} were noticed before the answer"
        time.sleep(0.05)
    return "places are still taken"


def flood(server: ServerProcess, promise: bool) -> str:
    """Upload 2 GB, with a Content-Length or without one."""
    sent, size, block = 0, 2_000_000_000, bytes(1 << 20)

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield FRONT
        while sent < size:
            sent += len(block)
            yield block

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    if promise:
        headers["Content-Length"] = str(size)
    with httpx.Client(base_url=server.url, timeout=120) as client:
        answer = client.post(ADDRESS, content=body(), headers=headers)
    return f"{answer.status_code} after {sent / 1e6:.0f} MB"


def wrong_tokens(server: ServerProcess, times: int) -> str:
    """Ask with tokens that are not the server's."""
    statuses = Counter[int]()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for number in range(times):
            headers = {"Authorization": f"Bearer guess-{number}"}
            statuses[client.get("/v1/models", headers=headers).status_code] += 1
    return ", ".join(f"{count} times {status}" for status, count in statuses.items())
