"""A transcript in the formats that OpenAI's API answers with."""

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi.responses import JSONResponse, Response

from asr.decode.hypothesis import Word, text_of
from asr.server.fields import TranscriptionRequest
from asr.text.tokenizer import Tokenizer
from asr.transcribe.formats import word_to_plain
from asr.transcribe.subtitles import SubtitleOptions, cues, milliseconds
from asr.transcribe.transcript import Transcript

_TYPES = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}
_SURE = 1e-6
"""Confidences are clipped to this and 1 minus this before a logarithm is taken."""


def answer(transcript: Transcript, request: TranscriptionRequest) -> Response:
    """The answer to a request."""
    if request.format in _TYPES:
        text = transcript.to("txt" if request.format == "text" else request.format)
        return Response(text, media_type=f"{_TYPES[request.format]}; charset=utf-8")
    plain: dict[str, Any] = {"text": transcript.text}
    if request.format == "verbose_json":
        plain = {
            "task": "transcribe",
            "language": request.model.language or "unknown",
            "duration": milliseconds(transcript.seconds) / 1000,
            "text": transcript.text,
        }
        if "word" in request.granularities:
            plain["words"] = [word_to_plain(word) for word in transcript.words]
        if "segment" in request.granularities:
            tokenizer = request.model.recogniser.tokenizer
            plain["segments"] = list(segments(transcript.words, tokenizer))
    plain["usage"] = {"type": "duration", "seconds": math.ceil(transcript.seconds)}
    return JSONResponse(plain)


def segments(words: Sequence[Word], tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """Stretches of words as long as a subtitle, in the shape of whisper's segments.

    `avg_logprob` is the mean logarithm of the words' confidences, `no_speech_prob` the probability
    by these confidences that no word of the segment is right. Nothing is sampled: the temperature
    is 0.
    """
    longest = max((len(word.text) for word in words), default=0)
    options = SubtitleOptions(line_length=max(SubtitleOptions().line_length, longest))
    taken = 0
    for number, cue in enumerate(cues(words, options)):
        part = words[taken : taken + sum(len(line.split()) for line in cue.lines)]
        taken += len(part)
        text = text_of(list(part))
        sure = [min(max(word.confidence, _SURE), 1 - _SURE) for word in part]
        content = text.encode()
        yield {
            "id": number,
            "seek": 0,
            "start": milliseconds(part[0].start) / 1000,
            "end": milliseconds(part[-1].end) / 1000,
            "text": text,
            "tokens": list(map(int, tokenizer.encode(text))),
            "temperature": 0.0,
            "avg_logprob": round(sum(map(math.log, sure)) / len(sure), 4),
            "compression_ratio": round(len(content) / len(zlib.compress(content)), 4),
            "no_speech_prob": round(math.prod(1 - c for c in sure), 6),
        }
