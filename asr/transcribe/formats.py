"""A transcript as txt, json, srt, vtt or tsv: one entry of `WRITERS` per format.

Times are seconds rounded once to whole milliseconds, confidences have three decimals.
"""

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.decode.hypothesis import Word
from asr.errors import AsrError
from asr.transcribe.subtitles import Cue, cues, milliseconds

if TYPE_CHECKING:
    from asr.transcribe.stream import StreamUpdate
    from asr.transcribe.transcript import Transcript


_ODD = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, of bytes that are not UTF-8, and of ends of lines."""


@dataclass(frozen=True)
class Writer:
    """How one format writes a transcript."""

    suffix: str
    """Of its files, with the dot."""
    document: Callable[["Transcript"], str]
    """The content of a file for one recording, its last line ended."""
    line: Callable[["Transcript"], str] | None = None
    """One of several recordings on standard output, without the end of the last line; None: a
    document of this format holds one recording only."""
    subtitles: bool = False
    """Whether `options.subtitles` matter."""


def printable(path: str) -> str:
    """A path as text; bytes of its name that are not UTF-8 become question marks."""
    return (
        path.encode("utf-8", errors="surrogateescape")
        .decode("utf-8", errors="replace")
        .replace("\ufffd", "?")
    )


def quoted(path: str) -> str:
    """A path as the first field of a line.

    A path that would break the line (tab, line feed, other control characters), is not UTF-8, or
    begins with a quotation mark becomes a JSON string in ASCII: `json.loads` gives it back.

    >>> quoted("talk.wav"), quoted("a\\tb.wav")
    ('talk.wav', '"a\\\\tb.wav"')
    """
    odd = path.startswith('"') or any(unicodedata.category(c) in _ODD for c in path)
    return json.dumps(path) if odd else path


def word_to_plain(word: Word) -> dict[str, Any]:
    """A word as JSON-able values."""
    return {
        "word": word.text,
        "start": milliseconds(word.start) / 1000,
        "end": milliseconds(word.end) / 1000,
        "confidence": round(word.confidence, 3),
    }


def words_event(update: "StreamUpdate") -> dict[str, Any]:
    """New words of a stream, as `asr listen --format json` and `asr serve` send them."""
    return {
        "type": "words",
        "stable": [word_to_plain(word) for word in update.stable],
        "provisional": [word_to_plain(word) for word in update.provisional],
        "seconds": round(update.seconds, 3),
    }


def final_event(transcript: "Transcript") -> dict[str, Any]:
    """The end of a stream, as they send it."""
    return {
        "type": "final",
        "text": transcript.text,
        "words": [word_to_plain(word) for word in transcript.words],
        "duration": round(transcript.seconds, 3),
    }


def to_plain(transcript: "Transcript") -> dict[str, Any]:
    """A transcript as JSON-able values, as the format json writes it."""
    plain: dict[str, Any] = {
        "path": printable(transcript.path),
        "text": transcript.text,
        "duration": milliseconds(transcript.seconds) / 1000,
        "complete": transcript.complete,
        "model": transcript.model,
        "decoder": None if transcript.aligned else transcript.decoding.decoder,
        "lm": Path(transcript.decoding.lm).name or None,
        "words": [word_to_plain(word) for word in transcript.words],
    }
    if transcript.nbest:
        plain["nbest"] = [
            {
                "start": milliseconds(part.start) / 1000,
                "end": milliseconds(part.end) / 1000,
                "hypotheses": [
                    {
                        "text": h.text,
                        "score": round(h.score, 4),
                        "acoustic_score": round(h.acoustic_score, 4),
                        "lm_score": round(h.lm_score, 4),
                    }
                    for h in part.hypotheses
                ],
            }
            for part in transcript.nbest
        ]
    if transcript.notes:
        plain["notes"] = list(transcript.notes)
    return plain


def _rows(transcript: "Transcript") -> list[str]:
    return [
        f"{milliseconds(word.start)}\t{milliseconds(word.end)}\t{word.text}\t{word.confidence:.3f}"
        for word in transcript.words
    ]


def _tsv(transcript: "Transcript") -> str:
    return "\n".join(["start\tend\ttext\tconfidence", *_rows(transcript)]) + "\n"


def clock(time_ms: int, point: str) -> str:
    """`hours:minutes:seconds<point>milliseconds`."""
    seconds, thousandths = divmod(time_ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{thousandths:03}"


def _times(cue: Cue, point: str) -> str:
    return f"{clock(cue.start_ms, point)} --> {clock(cue.end_ms, point)}"


def _srt(transcript: "Transcript") -> str:
    return "\n".join(
        "\n".join([str(number), _times(cue, ","), *cue.lines, ""])
        for number, cue in enumerate(cues(transcript.words, transcript.options.subtitles), start=1)
    )


def _vtt(transcript: "Transcript") -> str:
    blocks = [
        "\n".join([_times(cue, "."), *map(_escaped, cue.lines), ""])
        for cue in cues(transcript.words, transcript.options.subtitles)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


WRITERS = {
    "txt": Writer(
        suffix=".txt",
        document=lambda transcript: transcript.text + "\n",
        line=lambda transcript: f"{quoted(transcript.path)}\t{transcript.text}",
    ),
    "json": Writer(
        suffix=".json",
        document=lambda transcript: (
            json.dumps(to_plain(transcript), indent=2, ensure_ascii=False) + "\n"
        ),
        line=lambda transcript: json.dumps(to_plain(transcript), ensure_ascii=False),
    ),
    "srt": Writer(suffix=".srt", document=_srt, subtitles=True),
    "vtt": Writer(suffix=".vtt", document=_vtt, subtitles=True),
    "tsv": Writer(
        suffix=".tsv",
        document=_tsv,
        line=lambda transcript: "\n".join(
            f"{quoted(transcript.path)}\t{row}" for row in _rows(transcript)
        ),
    ),
}
"""Name of each format, as `--format` takes it, and its writer."""


def find_writer(name: str) -> Writer:
    """The writer of a format. Raises AsrError naming those that exist."""
    if name not in WRITERS:
        raise AsrError(f"format {name!r} is unknown; there are {', '.join(WRITERS)}")
    return WRITERS[name]
