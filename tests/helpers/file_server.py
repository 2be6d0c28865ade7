"""A local HTTP server whose answers go wrong in the ways that servers do."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request; `server.files` by path, `server.answers` are used up before good answers."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        if self.server.answers:
            self.server.answers.pop(0)(self)
        else:
            good(self)

    def log_message(self, *words: Any) -> None:
        pass

    @property
    def content(self) -> bytes:
        return self.server.files.get(self.path, b"")

    @property
    def start(self) -> int:
        text = self.headers.get("Range", "bytes=0-")
        return int(text.removeprefix("bytes=").rstrip("-"))


class FileServer(ThreadingHTTPServer):
    """`files` are served; `answers` come first, one for each request; `asked` is what was."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.files: dict[str, bytes] = {}
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str | None]] = []
        self.etag = '"1"'

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *words: Any) -> None:
        pass  # clients of these tests go away in the middle


@contextmanager
def serve() -> Iterator[FileServer]:
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def head(request: Request, start: int, total: int, length: int | None = None) -> None:
    """Status and headers of the bytes from `start` on."""
    request.send_response(206 if start else 200)
    request.send_header("Content-Length", str(total - start if length is None else length))
    request.send_header("ETag", request.server.etag)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    request.end_headers()


def good(request: Request) -> None:
    if request.path not in request.server.files:
        return status(404)(request)
    start, content = request.start, request.content
    if start and start >= len(content):
        return status(416)(request)
    head(request, start, len(content))
    request.wfile.write(content[start:])
    return None


def cut_after(count: int) -> Answer:
    """The connection ends after so many bytes of the body."""

    def answer(request: Request) -> None:
        head(request, request.start, len(request.content))
        request.wfile.write(request.content[request.start : request.start + count])
        request.wfile.flush()
        request.close_connection = True

    return answer


def stall_after(count: int, seconds: float) -> Answer:
    """Nothing more comes for some seconds."""

    def answer(request: Request) -> None:
        head(request, request.start, len(request.content))
        request.wfile.write(request.content[request.start : request.start + count])
        request.wfile.flush()
        time.sleep(seconds)
        request.close_connection = True

    return answer


def slowly(pause: float, block: int = 1 << 16) -> Answer:
    """All of it, with a pause after each block."""

    def answer(request: Request) -> None:
        head(request, request.start, len(request.content))
        for at in range(request.start, len(request.content), block):
            request.wfile.write(request.content[at : at + block])
            request.wfile.flush()
            time.sleep(pause)

    return answer


def without_ranges(request: Request) -> None:
    """Always from the beginning, whatever is asked."""
    head(request, 0, len(request.content))
    request.wfile.write(request.content)


def wrong_byte(request: Request) -> None:
    content = bytearray(request.content)
    content[len(content) // 2] ^= 1
    head(request, request.start, len(content))
    request.wfile.write(content[request.start :])


def wrong_range(request: Request) -> None:
    """Another range than the one that was asked for."""
    request.send_response(206)
    request.send_header("Content-Length", "5")
    request.send_header("Content-Range", f"bytes 7-11/{len(request.content)}")
    request.end_headers()
    request.wfile.write(b"other")


def without_length(request: Request) -> None:
    """The body ends with the connection."""
    request.send_response(200)
    request.send_header("Connection", "close")
    request.end_headers()
    request.wfile.write(request.content)
    request.close_connection = True


def status(number: int, **headers: str) -> Answer:
    def answer(request: Request) -> None:
        request.send_response(number)
        request.send_header("Content-Length", "0")
        for key, value in headers.items():
            request.send_header(key.replace("_", "-"), value)
        request.end_headers()

    return answer


def redirect(to: str) -> Answer:
    return status(302, Location=to)
