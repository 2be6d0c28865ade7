"""HTTP and websockets as uvicorn speaks them, but no connection lasts for ever.

One on which no request begins is closed, and a websocket whose client does not read. A stop of the
server leaves open websockets to the application, which ends them.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

HEADER_SECONDS = 20.0
"""From the beginning of a connection, or the first byte of its next request, to the end of the
request's headers."""


class PunctualProtocol(H11Protocol):
    """Closes connections whose headers do not come within `HEADER_SECONDS`."""

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._headers_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        super().data_received(data)
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            self._headers_came()
        elif self._header_timer is None:
            self._expect_headers()

    def _expect_headers(self) -> None:
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _headers_came(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _too_slow(self) -> None:
        self._header_timer = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()


class PatientWebSocket(WebSocketsSansIOProtocol):
    """Lets the application end a connection that it has accepted."""

    def shutdown(self) -> None:
        """The server stops. uvicorn would close the connection before the last words are sent."""
        if not self.handshake_complete or self.close_sent:
            super().shutdown()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done with the connection."""
        super().on_task_complete(task)
        if not self.writable.is_set():  # closing would wait until the client reads
            self.transport.abort()
