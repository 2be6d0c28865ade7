"""`GET /v1/listen`: a websocket on which samples go in and words come out while somebody speaks.

    client                                      server
    ?model=NAME&sample_rate=16000               (an error is an event, and the end)
    {"type": "token", "token": ...}             if the server has tokens and no header had one
    frames of 16-bit little-endian mono PCM     {"type": "words", "stable": [...], ...}
    {"type": "finish"}                          {"type": "final", "text": ..., ...}, and the end

Browsers cannot send the header Authorization with a websocket, hence the message.
"""

import asyncio
import json
from collections.abc import Coroutine
from functools import partial
from typing import Any

import numpy as np
import soxr
from fastapi import WebSocket, WebSocketDisconnect

from asr.errors import AsrError
from asr.server.errors import ApiError
from asr.server.gate import bearer, foreign_origin, wrong_token
from asr.server.jobs import ClientLeft, stopping
from asr.server.service import Service
from asr.transcribe.formats import final_event, words_event
from asr.transcribe.stream import Stream
from asr.transcribe.transcript import Transcript

TOKEN_SECONDS = 10.0
"""How long a client may take to send its token."""
IDLE_SECONDS = 30.0
"""A stream without samples for so long is ended, and one whose client does not read."""
_RATES = (8000, 192_000)
_PUSHED_SAMPLES = 1 << 15
"""What a thread takes at once, two seconds at 16 kHz, so that streams take turns."""
_SLACK_SECONDS = 60.0
"""A stream may last so much longer than the longest recording."""
_NORMAL, _REFUSED, _TRY_LATER = 1000, 1008, 1013
"""Codes of RFC 6455 that a connection is closed with."""


class Pcm:
    """Bytes of 16-bit samples at one rate, split anywhere -> floats at another."""

    def __init__(self, rate: int, wanted: int) -> None:
        self._half = b""
        self._resampler = None
        if rate != wanted:
            self._resampler = soxr.ResampleStream(rate, wanted, 1, dtype="float32")

    def floats(self, content: bytes, last: bool = False) -> np.ndarray:
        """The samples `(n,)` of the next bytes; with `last` those that the resampler still held."""
        content = self._half + content
        whole = len(content) // 2 * 2
        self._half = content[whole:]
        samples = np.frombuffer(content[:whole], "<i2").astype(np.float32) / 32768
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        return samples


class Listener:
    """One connection: what it sends in, and the events that go out."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self.socket, self.service = socket, service
        self.note: dict[str, Any] = socket.state.note
        self._seconds = 0.0

    async def run(self) -> None:
        """Serve the connection to its end."""
        try:
            await _taken(self.socket.accept())
            await self._serve_or_say_why_not()
        except (WebSocketDisconnect, ClientLeft):
            self.note["code"] = "client_left"
        finally:
            self.note["audio_seconds"] = round(self._seconds, 3)

    async def _serve_or_say_why_not(self) -> None:
        try:
            try:
                await self._serve()
            except AsrError as error:
                raise ApiError(400, str(error), code="invalid_audio") from None
        except ApiError as error:
            self.note["code"] = error.code
            await self._send({"type": "error", **error.to_plain()})
            again = error.status in (429, 503)
            await self._close(_TRY_LATER if again else _REFUSED)

    async def _serve(self) -> None:
        await self._check_client()
        query = self.socket.query_params
        for name in query:
            if name not in ("model", "sample_rate"):
                message = f"{name[:64]!r}: there is no such parameter"
                raise ApiError(400, message, name[:64], "unknown_parameter")
        model = self.service.models.find(query.get("model"))
        pcm = Pcm(_rate(query.get("sample_rate", "16000")), model.recogniser.frontend.sample_rate)
        self.note["model"] = model.name
        with self.service.streams.opened():
            stream = await self.service.streams.run(model.recogniser.stream)
            transcript = await self._listen(stream, pcm)
        self.service.metrics.audio.labels(model.name).inc(transcript.seconds)
        await self._send(final_event(transcript))
        if self.service.streams.stopped.is_set():
            raise stopping()
        await self._close(_NORMAL)

    async def _check_client(self) -> None:
        """Refuse other web sites' pages, and clients without a valid token."""
        headers = self.socket.headers
        refused = foreign_origin(headers, self.service.options.allow_origins)
        if refused is not None:
            raise refused
        if self.service.admits(bearer(headers)):
            return
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise wrong_token() from None
        if not isinstance(message, dict) or message.get("type") != "token":
            raise wrong_token()
        if not self.service.admits(str(message.get("token", "")).encode(errors="replace")):
            raise wrong_token()

    async def _listen(self, stream: Stream, pcm: Pcm) -> Transcript:
        """Push what comes until the client has finished, or the server stops."""
        limit = self.service.options.max_seconds
        loop = asyncio.get_running_loop()
        ends = loop.time() + limit + _SLACK_SECONDS
        while not self.service.streams.stopped.is_set():
            message = await self._next(min(IDLE_SECONDS, ends - loop.time()))
            if message is None or (isinstance(message, dict) and message.get("type") == "finish"):
                break
            if isinstance(message, dict):
                if message.get("type") == "token":
                    continue  # sent by a client that does not know whether it is needed
                kind = str(message.get("type"))[:32]
                text = f"a message of type {kind!r}: send samples, or finish"
                raise ApiError(400, text, "type", "invalid_message")
            await self._push(stream, pcm.floats(message))
            if self._seconds > limit:
                text = f"The stream is longer than {limit:g} seconds, the most that is allowed"
                raise ApiError(413, text, code="audio_too_long")
        await self._push(stream, pcm.floats(b"", last=True))
        return await self.service.streams.run(stream.finish)

    async def _push(self, stream: Stream, samples: np.ndarray) -> None:
        """Let a thread take samples, and send the words that came of them."""
        for first in range(0, len(samples), _PUSHED_SAMPLES):
            part = samples[first : first + _PUSHED_SAMPLES]
            update = await self.service.streams.run(partial(stream.push, part))
            self._seconds = update.seconds
            await self._send(words_event(update))

    async def _next(self, seconds: float) -> bytes | dict[str, Any] | None:
        """The next message; None if the server stops before one comes."""
        receiving = asyncio.create_task(self._receive())
        stop = asyncio.create_task(self.service.streams.stopped.wait())
        try:
            done, _ = await asyncio.wait(
                {receiving, stop}, timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED
            )
            if receiving in done:
                return receiving.result()
            if stop in done:
                return None
        finally:
            receiving.cancel()
            stop.cancel()
        message = f"Nothing came for {IDLE_SECONDS:g} seconds"
        raise ApiError(408, message, code="idle")

    async def _receive(self) -> bytes | dict[str, Any]:
        """The next message: samples, or a JSON object."""
        message = await self.socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientLeft
        if message.get("bytes") is not None:
            return bytes(message["bytes"])
        try:
            plain = json.loads(message["text"])
        except (ValueError, RecursionError):
            plain = None
        if not isinstance(plain, dict):
            raise ApiError(400, "A text message must be a JSON object", code="invalid_message")
        return plain

    async def _send(self, event: dict[str, Any]) -> None:
        await _taken(self.socket.send_text(json.dumps(event, ensure_ascii=False)))

    async def _close(self, code: int) -> None:
        await _taken(self.socket.close(code))


async def _taken(sending: Coroutine[Any, Any, None]) -> None:
    """Wait until the client takes what is sent. Raises ClientLeft if it does not, or is gone."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            await sending
    except OSError:  # a TimeoutError is one, and what uvicorn raises
        raise ClientLeft from None


async def listen(socket: WebSocket) -> None:
    """Serve one connection."""
    await Listener(socket, socket.app.state.service).run()


def _rate(given: str) -> int:
    low, high = _RATES
    number = given.isascii() and given.isdigit() and len(given) <= len(str(high))
    if not number or not low <= int(given) <= high:
        message = f"sample_rate={given[:32]!r}: a whole number of Hz from {low} to {high}"
        raise ApiError(400, message, "sample_rate", "invalid_value")
    return int(given)
