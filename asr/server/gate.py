"""What every request passes: its number, who may ask, errors as answers, the log, the figures."""

import asyncio
import logging
import re
import secrets
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asr.server.errors import ApiError
from asr.server.jobs import ClientLeft
from asr.server.log import request_line
from asr.server.service import Service

OPEN = ("/health", "/")
"""Paths that need no token, beside the files of the page."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_REST_SECONDS = 3.0
"""How long the rest of a refused upload is received."""
_REST_BYTES = 8_000_000
"""So much of the rest is received at least, whatever the largest upload."""
_LOG = logging.getLogger("asr.server")


class Gate:
    """The outermost layer: gives a request its number, answers errors, writes log and figures."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        rest_bytes = max(self.service.options.max_bytes, _REST_BYTES)
        passage = _Passage(scope, receive, send, rest_bytes)
        started = time.monotonic()
        try:
            await self.app(scope, passage.receive, passage.send)
        except ClientLeft:
            passage.status = 499
        except Exception as error:
            await passage.fail(error)
        finally:
            self._note(scope, passage, time.monotonic() - started)

    def _note(self, scope: Scope, passage: "_Passage", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self.service.metrics.requests.labels(route, str(passage.status)).inc()
        self.service.metrics.seconds.labels(route).observe(seconds)
        request_line(
            {
                "id": passage.id,
                "method": scope.get("method", "WEBSOCKET"),
                "route": route,
                "status": passage.status,
                "seconds": round(seconds, 4),
                **scope["state"]["note"],
            }
        )


class _Passage:
    """One request on its way in, and its answer on the way out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, rest_bytes: int) -> None:
        self._receive, self._send, self._type = receive, send, scope["type"]
        self._rest_bytes = rest_bytes
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        self.status = 500
        self.answered = False
        self._unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._waits = headers.get("expect", "").lower() == "100-continue"
        scope.setdefault("state", {})["note"] = dict[str, Any]()

    async def receive(self) -> Message:
        """The next part of the request."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """The next part of the answer."""
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.answered, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.id
            if self._type == "http":
                await self._receive_rest()
                if self._unread:
                    headers["Connection"] = "close"
        elif message["type"] == "websocket.accept":
            self.answered, self.status = True, 101
        elif message["type"] == "websocket.close" and not self.answered:
            self.answered, self.status = True, 403  # what uvicorn makes of it
        await self._send(message)

    async def _receive_rest(self) -> None:
        """Receive what is left of a body that nobody wants, if it is not much.

        A connection that is closed while its client sends is reset, and the client may never see
        the answer. One that waits for `100 Continue` sends nothing.
        """
        if not self._unread or self._waits:
            return
        received = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST_SECONDS):
                while self._unread and received < self._rest_bytes:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        return
                    received += len(message.get("body", b""))

    async def fail(self, error: Exception) -> None:
        """Answer what nobody caught: a mistake of ours."""
        _LOG.error("request %s: %s", self.id, type(error).__name__, exc_info=error)
        self.status = 500
        if not self.answered and self._type == "http":
            message = f"The server made a mistake; its log has the details under {self.id}"
            response = ApiError(500, message, code="internal_error").response()
            await response({"type": "http"}, self.receive, self.send)
        elif self._type == "websocket":
            await self._send({"type": "websocket.close", "code": 1011})


class Doors:
    """Refuses requests without a valid token, and those that another web site makes."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it."""
        if scope["type"] == "http":
            refused = self._refused(scope)
            if refused is not None:
                await refused.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refused(self, scope: Scope) -> ApiError | None:
        headers = Headers(scope=scope)
        path = scope["path"]
        is_open = path in OPEN or path.startswith("/page/")
        if not is_open and not self.service.admits(bearer(headers)):
            return wrong_token()
        if scope["method"] not in ("GET", "HEAD"):
            return foreign_origin(headers, self.service.options.allow_origins)
        return None


def bearer(headers: Headers) -> bytes:
    """The token of the header Authorization; empty if there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def wrong_token() -> ApiError:
    """The answer to a request without a valid token."""
    return ApiError(
        401,
        "Incorrect API key provided: send a token of this server as Authorization: Bearer TOKEN",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def foreign_origin(headers: Headers, allowed: tuple[str, ...]) -> ApiError | None:
    """Why a browser may not do what the page of another web site asks it to; None if it may."""
    origin = headers.get("origin")
    if origin is None or origin in allowed:
        return None
    with suppress(ValueError):  # of an origin that is not an address
        if urlsplit(origin).netloc == headers.get("host"):
            return None
    message = (
        f"Pages of {origin[:100]} may not use this server ({headers.get('host', '')[:100]}): start "
        "it with --allow-origin, or let the proxy pass on the header Host"
    )
    return ApiError(403, message, code="foreign_origin")


def as_api_error(error: HTTPException, method: str, path: str) -> ApiError:
    """What the framework refuses, in the shape of OpenAI's errors."""
    message = f"Invalid URL ({method} {path[:100]})" if error.status_code == 404 else error.detail
    return ApiError(error.status_code, str(message), headers=error.headers)
