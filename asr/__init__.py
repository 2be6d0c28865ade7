"""Speech recognition with CTC networks that are pruned while they train.

>>> import asr
>>> recogniser = asr.load("model.asr")
>>> for transcript in recogniser.transcribe(["talk.flac"]):
...     for word in transcript.words:
...         print(f"{word.start:.2f} s: {word.text}")
0.05 s: BAD
0.69 s: CAFE

`load`, `Recogniser`, `Transcript`, `TranscribeOptions`, `DecoderOptions`, `ChunkOptions`,
`SubtitleOptions`, `Stream`, `StreamUpdate`, `WindowOptions`, `Word` and `AsrError` are here; each
is imported when it is first used, so that importing one subpackage loads no other.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from asr.audio.chunk import ChunkOptions
    from asr.decode import DecoderOptions
    from asr.decode.hypothesis import Word
    from asr.errors import AsrError
    from asr.transcribe.options import TranscribeOptions
    from asr.transcribe.recogniser import Recogniser, load
    from asr.transcribe.stream import Stream, StreamUpdate
    from asr.transcribe.subtitles import SubtitleOptions
    from asr.transcribe.transcript import Transcript
    from asr.transcribe.windows import WindowOptions

__all__ = [
    "AsrError",
    "ChunkOptions",
    "DecoderOptions",
    "Recogniser",
    "Stream",
    "StreamUpdate",
    "SubtitleOptions",
    "TranscribeOptions",
    "Transcript",
    "WindowOptions",
    "Word",
    "load",
]

_HOMES = {
    "AsrError": "asr.errors",
    "ChunkOptions": "asr.audio.chunk",
    "DecoderOptions": "asr.decode",
    "Recogniser": "asr.transcribe.recogniser",
    "Stream": "asr.transcribe.stream",
    "StreamUpdate": "asr.transcribe.stream",
    "SubtitleOptions": "asr.transcribe.subtitles",
    "TranscribeOptions": "asr.transcribe.options",
    "Transcript": "asr.transcribe.transcript",
    "WindowOptions": "asr.transcribe.windows",
    "Word": "asr.decode.hypothesis",
    "load": "asr.transcribe.recogniser",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
