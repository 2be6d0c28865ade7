"""What all requests of a process share: options, models, threads, metrics."""

import asyncio
import contextlib
import hashlib
import hmac
import signal
import threading
from collections.abc import Iterator
from typing import Any

from asr.server.jobs import Jobs
from asr.server.metrics import Metrics
from asr.server.models import Models
from asr.server.options import ServerOptions
from asr.server.streams import Streams


class Service:
    """Made once in each process, before it listens. Raises AsrError as `Models` does."""

    def __init__(self, options: ServerOptions, tokens: tuple[str, ...] = ()) -> None:
        self.options, self.tokens = options, tokens
        self.loop: asyncio.AbstractEventLoop | None = None
        """That of the server, as soon as it runs."""
        self._digests = [hashlib.sha256(known.encode()).digest() for known in tokens]
        self.models = Models(options)
        self.metrics = Metrics(self.models.by_name)
        self.jobs = Jobs(options.at_once, options.queue, self.metrics.show)
        self.streams = Streams(options.at_once, options.streams, self.metrics.streams.set)

    def admits(self, token: bytes) -> bool:
        """Whether a token is valid; any is if the server has none. Takes equally long for all."""
        if not self.tokens:
            return True
        digest = hashlib.sha256(token).digest()
        equal = [hmac.compare_digest(digest, known) for known in self._digests]
        return True in equal

    def close(self) -> None:
        """End all threads."""
        self.jobs.close()
        self.streams.close()

    @contextlib.contextmanager
    def stopping_on_signals(self) -> Iterator[None]:
        """Refuse new requests from SIGTERM or Ctrl-C on, and end all others after a while.

        uvicorn's own handlers, which close the socket and wait for running requests, are called
        behind ours.
        """
        self.loop = loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}

        def stop(number: int, frame: Any) -> None:
            loop.call_soon_threadsafe(self.stop)
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)

        for name in before:
            signal.signal(name, stop)
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def stop(self) -> None:
        """Refuse new requests from now on, and give running ones `stop_seconds`."""
        if not self.jobs.stopping:
            self.jobs.stop()
            self.streams.stop()
            loop = asyncio.get_running_loop()
            loop.call_later(self.options.stop_seconds, self.jobs.abandon)
