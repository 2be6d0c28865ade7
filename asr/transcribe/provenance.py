"""Whose text an output is: a small file in the output folder says it, and a later run reads it.

Two recordings of one name, such as `d1/audio.wav` and `d2/audio.flac`, may be transcribed into one
folder one after the other. Without a memory the text of the first would pass for that of the
second.
"""

import hashlib
import json
import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.files import CannotWrite

RECORD = ".asr-sources.jsonl"
"""Name of the file: one JSON object a line, the last one of an output counts."""


@dataclass(frozen=True)
class Origin:
    """A recording as it was when it was transcribed."""

    source: str
    """Its absolute path."""
    size: int
    sha256: str
    complete: bool = True
    """Whether all of it could be read."""

    @staticmethod
    def of(path: Path, complete: bool = True) -> "Origin | None":
        """The origin of a text of `path`; None for a pipe, which cannot be read twice."""
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                return None
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        return Origin(os.path.abspath(path), status.st_size, digest, complete)


class Provenance:
    """What is known of the texts in an output folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / RECORD
        self._origins: dict[str, Origin] = {}
        content = b"\n"
        with suppress(OSError):
            content = self._file.read_bytes()
        for line in content.splitlines():
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                plain = json.loads(line)
                output = str(plain.pop("output"))
                self._origins[output] = Origin(**plain)
        self._torn = not content.endswith(b"\n")  # somebody was stopped while writing a line

    def owner(self, output: str) -> str | None:
        """Path of the recording that an output was made from, where it is known."""
        origin = self._origins.get(output)
        return origin.source if origin else None

    def may_be_of(self, output: str, recording: Path) -> bool:
        """Whether an output is the text of a recording, or nobody knows better.

        A recording is the same at the same path, and anywhere else with the same content.
        """
        origin = self._origins.get(output)
        if origin is None:
            return True
        # A descriptor is another file each time.
        if origin.source == os.path.abspath(recording) and not origin.source.startswith("/dev/"):
            return True
        with suppress(OSError):
            if recording.stat().st_size == origin.size:
                now = Origin.of(recording)
                return now is not None and now.sha256 == origin.sha256
        return False

    def is_complete(self, output: str) -> bool:
        """Whether an output is the text of a whole recording, or nobody knows better."""
        origin = self._origins.get(output)
        return origin is None or origin.complete

    def add(self, output: str, recording: Path, complete: bool = True) -> None:
        """Record that an output is the text of a recording, or a part. Raises CannotWrite."""
        origin = Origin.of(recording, complete)
        if origin is None or self._origins.get(output) == origin:
            return
        line = json.dumps({"output": output} | asdict(origin)) + "\n"
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                # One write: lines of several processes do not mix.
                file.write((b"\n" if self._torn else b"") + line.encode())
        except OSError as error:
            reason = f"{self._file}: cannot be written: {error.strerror}"
            raise CannotWrite(reason, error.errno or 0) from None
        self._torn = False
        self._origins[output] = origin
