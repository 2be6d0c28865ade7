"""The threads that open streams are transcribed by, and how many streams may be open."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from asr.server.errors import ApiError
from asr.server.jobs import stopping

T = TypeVar("T")


class Streams:
    """Streams take turns on a few threads of their own: a recording never holds them up."""

    def __init__(self, at_once: int, most: int, on_change: Callable[[int], object]) -> None:
        self.most, self.open, self._on_change = most, 0, on_change
        self.stopped = asyncio.Event()
        """Set when the server stops: open streams end with what they have."""
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="asr-stream")

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Count one stream while it is open. Raises ApiError if there are too many."""
        if self.stopped.is_set():
            raise stopping()
        if self.open >= self.most:
            message = f"{self.open} streams are open already; try again later"
            raise ApiError(429, message, code="too_many_streams", headers={"Retry-After": "10"})
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self.open += change
        self._on_change(self.open)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, run in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def stop(self) -> None:
        """Let open streams end."""
        self.stopped.set()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
