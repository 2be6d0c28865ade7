"""Views of a transcript: one entry of `WRITERS` per format."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.errors import AsrError

if TYPE_CHECKING:
    from asr.transcribe import Transcript


@dataclass(frozen=True)
class Writer:
    """How one format writes a transcript."""

    suffix: str
    """Of its files, with the dot."""
    document: Callable[["Transcript"], str]
    """The content of a file for one recording, its last line ended."""
    line: Callable[["Transcript"], str]
    """One of several recordings on standard output, without the end of the line."""


def _plain(transcript: "Transcript") -> dict[str, object]:
    return {
        "path": transcript.path,
        "text": transcript.text,
        "duration": round(transcript.seconds, 3),
        "model": transcript.model,
    }


WRITERS = {
    "txt": Writer(
        suffix=".txt",
        document=lambda transcript: transcript.text + "\n",
        line=lambda transcript: f"{transcript.path}\t{transcript.text}",
    ),
    "json": Writer(
        suffix=".json",
        document=lambda transcript: (
            json.dumps(_plain(transcript), indent=2, ensure_ascii=False) + "\n"
        ),
        line=lambda transcript: json.dumps(_plain(transcript), ensure_ascii=False),
    ),
}
"""Name of each format, as `--format` takes it, and its writer."""


def find_writer(name: str) -> Writer:
    """The writer of a format. Raises AsrError naming those that exist."""
    if name not in WRITERS:
        raise AsrError(f"format {name!r} is unknown; there are {', '.join(WRITERS)}")
    return WRITERS[name]
