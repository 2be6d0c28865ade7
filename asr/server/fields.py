"""The fields of a transcription request, as OpenAI documents them -> what is asked for.

A field that cannot be honoured is an error that says so: no client should believe that it was.
"""

import difflib
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from asr.audio.chunk import ChunkOptions
from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.server.errors import ApiError
from asr.server.models import Models, ServedModel
from asr.transcribe.options import TranscribeOptions

ResponseFormat = Literal["json", "text", "srt", "vtt", "verbose_json"]
GRANULARITIES = ("word", "segment")

BATCH_SECONDS = 60.0
"""Audio that the network runs on at once: between two batches a request can be stopped."""
_PROMPT_CHARACTERS = 4000
_PHRASES = 200
_LISTS = ("timestamp_granularities", "include", "keywords", "languages")
_ONCE = (
    "model", "prompt", "language", "response_format", "temperature", "stream", "chunking_strategy",
)  # fmt: skip
_REFUSED = {
    "include": "there are no log-probabilities of tokens; verbose_json has confidences of words",
    "known_speaker_names": "speakers are not told apart",
    "known_speaker_references": "speakers are not told apart",
}


@dataclass(frozen=True)
class TranscriptionRequest:
    """What a client asks for, checked."""

    model: ServedModel
    format: ResponseFormat
    granularities: tuple[str, ...]
    options: TranscribeOptions


def read_fields(fields: dict[str, list[str]], models: Models) -> TranscriptionRequest:
    """The request that the fields of a form make. Raises ApiError naming the field."""
    values = _known(fields)
    format_ = _one_of("response_format", values, get_args(ResponseFormat), "json")
    model = models.find(_single(values, "model"))
    _check_language(values, model)
    _check_fixed(values)
    return TranscriptionRequest(
        model,
        format_,  # type: ignore[arg-type]
        _granularities(values, format_),
        TranscribeOptions(
            decoding=_decoding(values, model),
            chunks=ChunkOptions(split_on_silence=_chunking(values)),
            batch_seconds=BATCH_SECONDS,
        ),
    )


def _known(fields: dict[str, list[str]]) -> dict[str, list[str]]:
    """The fields by their names without brackets. Raises ApiError for one that there is not."""
    values: dict[str, list[str]] = {}
    for given, content in fields.items():
        try:
            "".join((given, *content)).encode()
        except UnicodeEncodeError:  # half of a UTF-16 character, which no answer can repeat
            message = f"{given[:64]!r}: has half a character; send the form in UTF-8"
            raise ApiError(400, message, code="invalid_form") from None
        name = given.removesuffix("[]")
        if name == "file":
            message = "file: must be sent as a file, with a file name (curl: -F file=@talk.flac)"
            raise ApiError(400, message, "file", "invalid_value")
        if name in _REFUSED:
            raise ApiError(400, f"{name}: {_REFUSED[name]}", name, "unsupported_parameter")
        if name not in (*_LISTS, *_ONCE):
            close = difflib.get_close_matches(name, (*_LISTS, *_ONCE), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            message = f"{name[:64]!r}: there is no field of this name{hint}"
            raise ApiError(400, message, name[:64], "unknown_parameter")
        values[name] = [*values.get(name, []), *content]
    return values


def _single(values: dict[str, list[str]], name: str) -> str:
    """The value of a field that may be given once; empty if it is not given."""
    found = values.get(name, [""])
    if len(found) > 1:
        raise ApiError(400, f"{name}: given {len(found)} times", name, "invalid_value")
    return found[0].strip()


def _one_of(
    name: str, values: dict[str, list[str]], known: tuple[str, ...], default: str = ""
) -> str:
    value = _single(values, name) or default
    if value not in known:
        message = f"{name}: {value[:64]!r} is not supported; there are {', '.join(known)}"
        raise ApiError(400, message, name, "unsupported_value")
    return value


def _check_language(values: dict[str, list[str]], model: ServedModel) -> None:
    asked = [("language", _single(values, "language"))]
    asked += [("languages", language.strip()) for language in values.get("languages", [])]
    if any(model.speaks(value) for name, value in asked if name == "languages"):
        asked = asked[:1]  # one of the possible languages is ours
    for name, value in asked:
        if not value or model.speaks(value):
            continue
        message = f"{name}: the model {model.name} transcribes {model.language} only"
        if not model.language:
            message = f"{name}: it is not known which language {model.name} transcribes; leave it "
            message += "out, or start the server with --language"
        raise ApiError(400, message, name, "unsupported_language")


def _check_fixed(values: dict[str, list[str]]) -> None:
    """Refuse what would change nothing: sampling, and events while a recording is transcribed."""
    temperature = _single(values, "temperature") or "0"
    try:
        zero = float(temperature) == 0
    except ValueError:
        zero = False
    if not zero:
        message = f"temperature: only 0 is supported, not {temperature[:32]}: nothing is sampled"
        raise ApiError(400, message, "temperature", "unsupported_value")
    if _one_of("stream", values, ("true", "false"), "false") == "true":
        message = "stream: not supported for recordings; /v1/listen sends words while one speaks"
        raise ApiError(400, message, "stream", "unsupported_value")


def _granularities(values: dict[str, list[str]], format_: str) -> tuple[str, ...]:
    name = "timestamp_granularities"
    asked = values.get(name, [])
    if not asked:
        return ("segment",)
    if format_ != "verbose_json":
        message = f"{name}: needs response_format=verbose_json; {format_} has no place for them"
        raise ApiError(400, message, name, "invalid_value")
    for value in asked:
        _one_of(name, {name: [value]}, GRANULARITIES)
    return tuple(asked)


def _chunking(values: dict[str, list[str]]) -> bool:
    """Whether long recordings are split where it is quiet."""
    value = _single(values, "chunking_strategy")
    if value not in ("", "auto"):
        message = "chunking_strategy: only auto is supported, which splits where it is quiet"
        raise ApiError(400, message, "chunking_strategy", "unsupported_value")
    return value == "auto"


def _decoding(values: dict[str, list[str]], model: ServedModel) -> DecoderOptions:
    """The model's own decoder, with the phrases of the prompt and the keywords boosted.

    A model that is decoded greedily is decoded by beam search then: greedy decoding has no phrases.
    """
    prompt = _single(values, "prompt")
    phrases = {"prompt": _phrases([prompt]), "keywords": _phrases(values.get("keywords", []))}
    own = model.recogniser.decoding
    for name, found in phrases.items():
        if not found:
            continue
        if len("".join(found)) > _PROMPT_CHARACTERS or len(found) > _PHRASES:
            message = f"{name}: at most {_PHRASES} phrases of {_PROMPT_CHARACTERS} characters"
            raise ApiError(400, message, name, "invalid_value")
        boosted = (*own.phrases, *found)
        try:
            if own.decoder == "greedy":
                own = DecoderOptions("beam", phrases=boosted)
            else:
                own = replace(own, phrases=boosted)
            model.recogniser.decoder(own)  # refuses what the model cannot write
        except AsrError as error:
            raise ApiError(400, f"{name}: {error}", name, "invalid_value") from None
    return own


def _phrases(texts: list[str]) -> tuple[str, ...]:
    """The words, or runs of words, between commas, other marks and line ends."""
    parts = (part.strip() for text in texts for part in re.split(r"[,;.:!?\n]+", text))
    return tuple(dict.fromkeys(part for part in parts if re.search(r"\w", part)))
