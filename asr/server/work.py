"""What a thread does for a request: reads the uploaded file, and transcribes it within limits."""

import io
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from asr import audio
from asr.errors import AsrError
from asr.server.errors import ApiError
from asr.server.fields import TranscriptionRequest
from asr.server.jobs import Ticket
from asr.transcribe.transcript import Transcript

_LONGEST_NAME = 80


class CheckedFile(io.RawIOBase):
    """An uploaded file that is at its end as soon as the request should stop.

    A decoder that is led round in circles by a hostile file comes to an end by that. Raising from
    within a decoder in C would only print a traceback.
    """

    def __init__(self, file: BinaryIO, ticket: Ticket) -> None:
        self._file, self._ticket = file, ticket

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        if self._ticket.stopped is not None or self._ticket.left <= 0:
            return b""
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as files do."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._file.tell()


@dataclass
class UploadedRecording:
    """A file that somebody sent, what they ask for, and how far they may go."""

    file: BinaryIO
    name: str
    """As the client calls it: for messages, never opened."""
    asked: TranscriptionRequest
    ticket: Ticket
    max_seconds: float

    def transcribe(self) -> Transcript:
        """Its transcript. Raises ApiError for a file that cannot be read, or is too long."""
        self.ticket.check()
        try:
            transcript = self._transcribe()
        except ApiError:
            raise
        except AsrError as error:
            self.ticket.check()  # its file ended because its time was over
            raise ApiError(400, str(error), "file", "invalid_audio") from None
        except Exception:
            self.ticket.check()
            raise
        self.ticket.check()
        return transcript

    def _transcribe(self) -> Transcript:
        file = cast(BinaryIO, CheckedFile(self.file, self.ticket))
        with audio.open_file(file, displayed(self.name)) as recording:
            recording.refuse_damage()
            self._check_length(recording.seconds)
            done = 0.0

            def advance(seconds: float) -> None:
                nonlocal done
                done += seconds
                self.ticket.check()
                self._check_length(done)

            recogniser, options = self.asked.model.recogniser, self.asked.options
            [transcript] = recogniser.transcribe([recording], options, advance)
            recording.refuse_damage()
        self._check_length(transcript.seconds)
        return transcript

    def _check_length(self, seconds: float) -> None:
        if seconds > self.max_seconds:
            message = (
                f"The recording is longer than {self.max_seconds:g} seconds, the most that this "
                "server transcribes at once; split it"
            )
            raise ApiError(413, message, "file", "audio_too_long")


def displayed(name: str) -> str:
    """A client's name of a file as a message may have it: its last part, printable, not long."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return re.sub(r"[^\w .()+-]", "_", last)[-_LONGEST_NAME:].strip() or "the recording"
