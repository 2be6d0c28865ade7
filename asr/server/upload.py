"""A multipart request read while it is counted: nothing of it is kept beyond the limits.

The first megabyte of a recording is held in memory. A longer one goes to a temporary file without
a name, which the system removes with the process, whatever ends it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from asr.server.errors import ApiError
from asr.server.jobs import ClientLeft, Ticket

FIRST_SECONDS = 20.0
"""Within this time of the beginning a client may be as slow as it likes."""
LEAST_BYTES_PER_SECOND = 1000
"""From then on, so much must have come on average."""
_FORM_BYTES = 100_000
"""What a request may have beside its recording: other fields, boundaries, headers of parts."""
_FIELD_BYTES = 64_000
_FIELDS = 64


@dataclass
class Upload:
    """A request's fields and its recording."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    """Values of every field, in the order in which they came."""
    files: dict[str, UploadFile] = field(default_factory=dict)
    bytes: int = 0
    """All bytes of the body."""

    @property
    def recording(self) -> BinaryIO:
        """The file, open for reading. Raises ApiError if there is none."""
        if "file" not in self.files:
            raise ApiError(400, "file: the recording is missing", "file", "missing_field")
        return cast(BinaryIO, self.files["file"].file)

    @property
    def name(self) -> str:
        """What the client calls the file."""
        return self.files["file"].filename or ""

    async def close(self) -> None:
        """Remove the file."""
        for file in self.files.values():
            await file.close()


async def read_upload(request: Request, ticket: Ticket, max_bytes: int) -> Upload:
    """Read the body of a request. Raises ApiError for one that is not a form, too long or slow."""
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        message = (
            "The request must be multipart/form-data with the fields file and model; "
            f"its content type is {kind[:80] or 'missing'}"
        )
        raise ApiError(415, message, code="invalid_content_type")
    promised = request.headers.get("content-length", "")
    if promised.isdigit() and int(promised) > max_bytes + _FORM_BYTES:
        raise _too_large(max_bytes)
    upload = Upload()
    body = _counted(request, ticket, upload, max_bytes)
    parser = MultiPartParser(
        request.headers, body, max_files=1, max_fields=_FIELDS, max_part_size=_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        message = f"The form cannot be read: {error.message}"
        raise ApiError(400, message, code="invalid_form") from None
    except UnicodeError:
        message = "The form cannot be read in the charset that it names; send it in UTF-8"
        raise ApiError(400, message, code="invalid_form") from None
    except ClientDisconnect:
        raise ClientLeft from None
    except OSError as error:
        message = f"The server cannot store the upload: {error.strerror}"
        raise ApiError(503, message, code="no_space", headers={"Retry-After": "30"}) from error
    for name, value in form.multi_items():
        if isinstance(value, str):
            upload.fields.setdefault(name, []).append(value)
        else:
            upload.files[name] = value
    return upload


async def _counted(
    request: Request, ticket: Ticket, upload: Upload, max_bytes: int
) -> AsyncGenerator[bytes, None]:
    """The blocks of the body, while they come fast enough and are not too many."""
    blocks = request.stream().__aiter__()
    told = asyncio.create_task(ticket.told.wait())
    started = time.monotonic()
    try:
        while True:
            allowed = FIRST_SECONDS + upload.bytes / LEAST_BYTES_PER_SECOND
            seconds = min(started + allowed - time.monotonic(), ticket.left)
            block = await _next(blocks, told, max(seconds, 0))
            ticket.check()
            if block is None:
                message = f"The upload is too slow: {upload.bytes} bytes within {allowed:.0f} s"
                raise ApiError(408, message, code="upload_too_slow")
            upload.bytes += len(block)
            if upload.bytes > max_bytes + _FORM_BYTES:
                raise _too_large(max_bytes)
            yield block
    except StopAsyncIteration:
        return
    finally:
        told.cancel()


async def _next(
    blocks: AsyncIterator[bytes], told: asyncio.Task[Any], seconds: float
) -> bytes | None:
    """The next block; None if there is none in time, or if the server gives up."""
    coming = asyncio.ensure_future(anext(blocks))
    try:
        await asyncio.wait({coming, told}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return coming.result() if coming.done() else None
    finally:
        coming.cancel()


def _too_large(max_bytes: int) -> ApiError:
    message = (
        f"The upload is larger than {max_bytes / 1e6:g} MB, the most that this server takes; "
        "a compressed format such as FLAC, Opus or MP3 is smaller"
    )
    return ApiError(413, message, "file", "file_too_large", {"Connection": "close"})
