"""Who may run when: a bounded number of requests, of which a few are transcribed at a time.

    admitted at once    at most `at_once + queue`, uploads included; the next one is told to wait
    transcribed         `at_once` of them, in the order in which they came

Memory and disk are bounded by the first number. A `Ticket` goes along with a request: the thread
that transcribes asks it, after every stretch of audio, whether it should go on.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from asr.server.errors import ApiError

T = TypeVar("T")

_LONGEST_WAIT = 60
"""Seconds: no client is told to come back later than that."""
_MEMORY = 0.2
"""How much the latest request counts in the mean time of requests."""


class ClientLeft(Exception):
    """The client closed its connection: nobody waits for the answer."""


@dataclass(eq=False)
class Ticket:
    """One request: how long it may take, and whether its work should stop."""

    seconds: float
    """From now on."""
    started: float = field(default_factory=time.monotonic)
    stopped: ApiError | None = None
    """Why its work should stop."""
    waited: float = 0.0
    """Seconds that it waited for its turn."""
    ran: float = 0.0
    """Seconds that it ran."""
    told: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when whoever waits for it in the event loop should look at `stopped`."""

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.started + self.seconds - time.monotonic()

    def stop(self, why: ApiError) -> None:
        """Let the work stop at its next check; the first reason counts."""
        self.stopped = self.stopped or why

    def give_up(self, why: ApiError) -> None:
        """Let the work stop, and whoever waits for its turn, or for its upload."""
        self.stop(why)
        self.told.set()

    def check(self) -> None:
        """Raise ApiError if the work should stop."""
        if self.stopped is None and self.left <= 0:
            self.stop(took_too_long(self.seconds))
        if self.stopped is not None:
            raise self.stopped


class Jobs:
    """The threads that transcribe, and who waits for them."""

    def __init__(
        self, at_once: int, queue: int, on_change: Callable[["Jobs"], object] = lambda jobs: None
    ) -> None:
        self.at_once, self.queue, self._on_change = at_once, queue, on_change
        self.admitted = 0
        self.running = 0
        self.stopping = False
        self._mean_seconds = 1.0
        self._turn = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="asr-transcribe")
        self._tickets: set[Ticket] = set()

    @property
    def waiting(self) -> int:
        """Requests that are admitted and not transcribed yet."""
        return self.admitted - self.running

    @contextmanager
    def admit(self, ticket: Ticket) -> Iterator[None]:
        """Let one request in. Raises ApiError if there are too many, or if the server stops."""
        if self.stopping:
            raise stopping()
        if self.admitted >= self.at_once + self.queue:
            wait = math.ceil(self._mean_seconds * self.admitted / self.at_once)
            raise ApiError(
                429,
                f"{self.admitted} requests are waiting already; try again later",
                code="queue_full",
                headers={"Retry-After": str(min(max(wait, 1), _LONGEST_WAIT))},
            )
        self._count(admitted=1)
        self._tickets.add(ticket)
        try:
            yield
        finally:
            self._tickets.discard(ticket)
            self._count(admitted=-1)

    def _count(self, admitted: int = 0, running: int = 0) -> None:
        self.admitted += admitted
        self.running += running
        self._on_change(self)

    async def run(
        self, work: Callable[[], T], ticket: Ticket, left: Callable[[], Awaitable[None]]
    ) -> T:
        """The result of `work`, run in a thread when its turn comes.

        `left` returns when the client has left. Raises ClientLeft then, ApiError when the time is
        over, and what `work` raises. Returns only when no thread works on it any more.
        """
        job = asyncio.create_task(self._in_turn(work, ticket))
        gone = asyncio.create_task(_forever(left))
        told = asyncio.create_task(ticket.told.wait())
        try:
            await asyncio.wait(
                {job, gone, told},
                timeout=max(ticket.left, 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if job.done():
                return job.result()
            if gone.done():
                ticket.stop(ApiError(499, "The client left"))
                raise ClientLeft
            ticket.stop(ticket.stopped or took_too_long(ticket.seconds))
            assert ticket.stopped is not None
            raise ticket.stopped
        finally:
            gone.cancel()
            told.cancel()
            if not job.done():
                ticket.stop(ApiError(499, "The client left"))
                job.cancel()
            with suppress(BaseException):
                await job

    async def _in_turn(self, work: Callable[[], T], ticket: Ticket) -> T:
        waits = time.monotonic()
        async with self._turn:
            begins = time.monotonic()
            ticket.waited = begins - waits
            self._count(running=1)
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
            try:
                return await asyncio.shield(future)
            finally:
                while not future.done():  # cancelled: its thread and its file are still in use
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([future])
                future.exception()  # seen, if nobody asks for the result
                self._count(running=-1)
                ticket.ran = time.monotonic() - begins
                self._mean_seconds += _MEMORY * (ticket.ran - self._mean_seconds)

    def stop(self) -> None:
        """Refuse new requests from now on."""
        self.stopping = True

    def abandon(self) -> None:
        """Let all work stop at its next check, and all waiting."""
        for ticket in list(self._tickets):
            ticket.give_up(stopping())

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _forever(left: Callable[[], Awaitable[None]]) -> None:
    await left()


def stopping() -> ApiError:
    """What clients are told while the server stops."""
    message = "The server is stopping; try again"
    return ApiError(503, message, code="stopping", headers={"Retry-After": "5"})


def took_too_long(seconds: float) -> ApiError:
    """What a client is told whose time is over; its next try would take as long."""
    message = f"The request took longer than {seconds:g} seconds, the most that this server allows"
    return ApiError(503, message, code="timeout", headers={"x-should-retry": "false"})
