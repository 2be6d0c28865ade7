"""`POST /v1/audio/transcriptions`: a recording in, its text out."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from asr.server.answers import answer
from asr.server.fields import TranscriptionRequest, read_fields
from asr.server.jobs import Ticket
from asr.server.service import Service
from asr.server.upload import Upload, read_upload
from asr.server.work import UploadedRecording
from asr.transcribe.transcript import Transcript


async def transcribe(request: Request) -> Response:
    """Transcribe a recording."""
    service: Service = request.app.state.service
    note: dict[str, Any] = request.state.note
    ticket = Ticket(service.options.request_seconds)
    with service.jobs.admit(ticket):
        upload = await read_upload(request, ticket, service.options.max_bytes)
        try:
            note["bytes"] = upload.bytes
            service.metrics.bytes.inc(upload.bytes)
            asked = read_fields(upload.fields, service.models)
            note |= {"model": asked.model.name, "format": asked.format}
            transcript = await _run(service, request, upload, asked, ticket)
        finally:
            await upload.close()
    note["audio_seconds"] = round(transcript.seconds, 3)
    service.metrics.audio.labels(asked.model.name).inc(transcript.seconds)
    service.metrics.transcribing.labels(asked.model.name).inc(ticket.ran)
    response = answer(transcript, asked)
    response.headers["Server-Timing"] = (
        f"transcribe;dur={1000 * ticket.ran:.1f}, queue;dur={1000 * ticket.waited:.1f}"
    )
    return response


async def _run(
    service: Service,
    request: Request,
    upload: Upload,
    asked: TranscriptionRequest,
    ticket: Ticket,
) -> Transcript:
    recording = UploadedRecording(
        upload.recording, upload.name, asked, ticket, service.options.max_seconds
    )
    try:
        return await service.jobs.run(recording.transcribe, ticket, _left(request))
    finally:
        request.state.note |= {
            "waited_seconds": round(ticket.waited, 4),
            "transcribe_seconds": round(ticket.ran, 4),
        }


def _left(request: Request) -> Callable[[], Awaitable[None]]:
    """What returns when the client has closed its connection; the body has been read."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return left
