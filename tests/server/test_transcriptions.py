"""OpenAI's transcription API, asked by the official client and by curl."""

import asyncio
import io
import json
import logging
import math
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from encoded import MEDIA, SOUNDFILE, encode
from openai import AsyncOpenAI, OpenAI
from served import Served, recording
from tone_network import RATE, speak

from asr.audio.chunk import ChunkOptions
from asr.decode import DecoderOptions
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import load


@pytest.fixture(scope="module")
def client(served: Served) -> OpenAI:
    return served.openai()


def create(client: OpenAI, content: bytes | None = None, **fields: Any) -> Any:
    """Ask the default model for the text of a recording."""
    file = ("talk.wav", content if content is not None else recording())
    return client.audio.transcriptions.create(file=file, **{"model": "tone", **fields})


def test_the_official_client_gets_the_text(client: OpenAI) -> None:
    answer = create(client)
    assert answer.text == "BAD CAFE"
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == 2  # begun seconds, as OpenAI bills them


@pytest.mark.parametrize("format", ["text", "srt", "vtt"])
def test_other_formats_are_those_of_asr_transcribe(client: OpenAI, tone: Path, format: str) -> None:
    [transcript] = load(tone).transcribe(speak("BAD CAFE"))
    expected = transcript.to("txt" if format == "text" else format)
    assert create(client, response_format=format) == expected
    assert "BAD CAFE" in expected


def test_verbose_json_has_words_with_times_and_confidence_and_segments(
    client: OpenAI, tone: Path
) -> None:
    both = ["word", "segment"]
    answer = create(client, response_format="verbose_json", timestamp_granularities=both)
    [expected] = load(tone).transcribe(speak("BAD CAFE"))
    assert [word.word for word in answer.words] == ["BAD", "CAFE"]
    for word, known in zip(answer.words, expected.words, strict=True):
        assert abs(word.start - known.start) < 0.001
        assert abs(word.end - known.end) < 0.001
        assert abs(word.confidence - known.confidence) < 0.001  # ours, beside OpenAI's fields
    [segment] = answer.segments
    assert segment.text == answer.text == "BAD CAFE"
    assert (segment.start, segment.end) == (answer.words[0].start, answer.words[-1].end)
    logs = [math.log(word.confidence) for word in expected.words]
    assert abs(segment.avg_logprob - sum(logs) / 2) < 0.001
    assert len(segment.tokens) == len("BAD CAFE")
    assert abs(segment.no_speech_prob - math.prod(1 - w.confidence for w in expected.words)) < 0.001
    assert segment.compression_ratio > 0
    assert abs(answer.duration - expected.seconds) < 0.001
    assert answer.language == "unknown"  # nobody said which language a model file transcribes


def test_granularities_choose_words_or_segments(client: OpenAI) -> None:
    plain = create(client, response_format="verbose_json")
    assert plain.words is None
    assert len(plain.segments) == 1
    words = create(client, response_format="verbose_json", timestamp_granularities=["word"])
    assert len(words.words) == 2
    assert words.segments is None


def test_silence_has_no_words_in_any_format(client: OpenAI) -> None:
    silence = recording("", seconds=2)
    assert create(client, silence).text == ""
    assert create(client, silence, response_format="text") == "\n"
    assert create(client, silence, response_format="srt") == ""
    assert create(client, silence, response_format="vtt").strip() == "WEBVTT"
    assert create(client, silence, response_format="verbose_json").segments == []


def test_segments_hold_all_words_in_order(client: OpenAI) -> None:
    text = " ".join(["FEED A CAGED BEE", "BAD CAFE", "GABBED"] * 6)
    answer = create(client, recording(text), response_format="verbose_json")
    assert " ".join(segment.text for segment in answer.segments) == answer.text == text
    assert [segment.id for segment in answer.segments] == list(range(len(answer.segments)))
    assert len(answer.segments) > 1
    for before, after in zip(answer.segments, answer.segments[1:], strict=False):
        assert before.start < before.end <= after.start


@pytest.mark.parametrize("kind", [*SOUNDFILE, *(kind for kind in MEDIA if kind != "wmv")])
def test_any_kind_of_file_is_transcribed_whatever_it_is_called(client: OpenAI, kind: str) -> None:
    file = ("a name without suffix", encode(kind, speak("BAD CAFE")))
    answer = client.audio.transcriptions.create(
        file=file, model="tone", response_format="verbose_json"
    )
    assert abs(answer.duration - len(speak("BAD CAFE")) / RATE) < 0.3
    if kind in ("wav", "flac", "aiff", "caf"):
        assert answer.text == "BAD CAFE"


def test_a_prompt_boosts_its_phrases_as_the_decoder_does(client: OpenAI, trained: Path) -> None:
    prompt = "a, cho; was"
    options = TranscribeOptions(DecoderOptions("beam", phrases=("a", "cho", "was")))
    content = recording("BAD CAFE ABED", "flac")
    [expected] = load(trained).transcribe(content, options)
    assert create(client, content, model="spoken", prompt=prompt).text == expected.text
    keywords = create(client, content, model="spoken", keywords=["a", "cho", "was"])
    assert keywords.text == expected.text
    [without] = load(trained).transcribe(content, TranscribeOptions(DecoderOptions("beam")))
    assert without.text != expected.text


def test_a_long_recording_is_split_where_it_is_quiet(client: OpenAI, tone: Path) -> None:
    content = recording("BAD CAFE", seconds=50)
    options = TranscribeOptions(chunks=ChunkOptions(split_on_silence=True))
    [expected] = load(tone).transcribe(content, options)
    assert create(client, content, chunking_strategy="auto").text == expected.text
    assert expected.text.count("CAFE") > 25


REFUSED = [
    ({"response_format": "diarized_json"}, "response_format", "json, text, srt, vtt"),
    ({"temperature": 0.5}, "temperature", "nothing is sampled"),
    ({"language": "de"}, "language", "not known which language"),
    ({"stream": True}, "stream", "/v1/listen"),
    ({"include": ["logprobs"]}, "include", "no log-probabilities"),
    ({"timestamp_granularities": ["word"]}, "timestamp_granularities", "verbose_json"),
    (
        {"timestamp_granularities": ["letter"], "response_format": "verbose_json"},
        "timestamp_granularities",
        "word, segment",
    ),
    ({"chunking_strategy": {"type": "server_vad"}}, None, "chunking_strategy"),
    ({"known_speaker_names": ["Ann"]}, "known_speaker_names", "not told apart"),
    ({"prompt": "99 bottles"}, "prompt", "9"),
    ({"keywords": ["ABC"] * 3, "prompt": "x" * 5000}, "prompt", "at most"),
    ({"extra_body": {"promt": "x"}}, "promt", "did you mean prompt?"),
]


@pytest.mark.parametrize(("fields", "param", "message"), REFUSED)
def test_what_cannot_be_honoured_is_an_error_that_says_so(
    client: OpenAI, fields: dict[str, Any], param: str | None, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as error:
        create(client, **fields)
    if param:
        assert error.value.param == param
    assert error.value.type == "invalid_request_error"


def test_values_that_change_nothing_are_taken(client: OpenAI) -> None:
    answer = create(client, temperature=0, stream=False, response_format="json", prompt="")
    assert answer.text == "BAD CAFE"


def test_the_language_of_the_packaged_model_may_be_named(tone: Path) -> None:
    from asr.server.fields import read_fields
    from asr.server.models import Models
    from asr.server.options import ServerOptions

    models = Models(ServerOptions(models=("english", f"deutsch={tone}"), language="de"))
    for language in ("en", "EN", "en-GB", "english", ""):
        assert read_fields({"language": [language]}, models).model.language == "english"
    assert read_fields({"language": ["de"], "model": ["deutsch"]}, models).model.name == "deutsch"
    assert read_fields({"languages[]": ["fr", "en"]}, models).model.name == "english"
    for started in ("en-US", "English", "EN"):
        own = Models(ServerOptions(models=(str(tone),), language=started))
        for language in ("en", "en-GB", "english", "en_us"):
            assert read_fields({"language": [language]}, own).model.language == started.lower()
    with pytest.raises(Exception, match="english transcribes english only"):
        read_fields({"language": ["fr"]}, models)


def test_models_are_listed_and_described(client: OpenAI, tone: Path) -> None:
    listed = client.models.list().data
    assert [model.id for model in listed] == ["tone", "spoken"]
    assert [model.default for model in listed] == [True, False]  # type: ignore[attr-defined]
    spoken = client.models.retrieve("spoken")
    assert spoken.object == "model"
    assert spoken.sparse  # type: ignore[attr-defined]
    assert spoken.nonzeros < spoken.parameters / 5  # type: ignore[attr-defined]
    assert client.models.retrieve("tone").bytes == tone.stat().st_size  # type: ignore[attr-defined]


def test_a_model_is_a_name_and_never_a_path(client: OpenAI, trained: Path) -> None:
    for name in (str(trained), "../tests/data/spoken.asr", "english", "whisper-1"):
        with pytest.raises(openai.NotFoundError, match="tone, spoken") as error:
            create(client, model=name)
        assert error.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)


def test_an_unknown_address_is_an_error_of_the_same_shape(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.embeddings.create(input="text", model="tone")


def test_many_clients_at_once_get_their_own_texts(served: Served) -> None:
    texts = ["BAD CAFE", "A BED", "FEED A CAGED BEE", "GABBED", "EGG", "DAD"] * 5
    with ThreadPoolExecutor(10) as pool:
        client = served.openai()
        answers = pool.map(lambda text: create(client, recording(text)).text, texts)
        assert list(answers) == texts


def test_the_asynchronous_client_works_too(served: Served) -> None:
    async def ask() -> list[str]:
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
            calls = (
                client.audio.transcriptions.create(file=("a.wav", recording(text)), model="tone")
                for text in ("A BED", "EGG")
            )
            return [answer.text for answer in await asyncio.gather(*calls)]

    assert asyncio.run(ask()) == ["A BED", "EGG"]


def test_the_time_that_it_took_is_in_a_header(served: Served) -> None:
    raw = served.openai().audio.transcriptions.with_raw_response.create(
        file=("a.wav", recording()), model="tone"
    )
    [duration] = [p for p in raw.headers["server-timing"].split(", ") if p.startswith("transcribe")]
    assert 0 < float(duration.removeprefix("transcribe;dur=")) < 60_000
    assert raw.headers["x-request-id"]


def test_a_form_without_a_file_or_that_is_none_says_what_is_missing(served: Served) -> None:
    address = "/v1/audio/transcriptions"
    with served.http() as client:
        none = client.post(address, files={"model": (None, "tone")})
        text = client.post(address, files={"file": (None, "/etc/passwd")})
        plain = client.post(address, json={"file": "a.wav"})
        broken = client.post(
            address,
            content=b"nonsense",
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        twice = client.post(address, files=[("file", ("a.wav", b"a")), ("file", ("b.wav", b"b"))])
        got = client.get(address)
    assert (none.status_code, none.json()["error"]["param"]) == (400, "file")
    assert "must be sent as a file" in text.json()["error"]["message"]
    assert (plain.status_code, plain.json()["error"]["code"]) == (415, "invalid_content_type")
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_form")
    assert (twice.status_code, got.status_code) == (400, 405)
    assert got.json()["error"]["message"] == "Method Not Allowed"


@pytest.mark.parametrize(
    ("charset", "name", "value"),
    [
        ("undefined", "temperature", "0"),
        ("punycode", "temperature", "\\ud800"),
        ("utf-7", "temperature", "+2AA-"),
        ("unicode_escape", "temperature", "\\ud800"),
        ("unicode_escape", "\\ud800", "0"),
    ],
)
def test_a_form_in_a_charset_that_makes_no_text_is_refused(
    served: Served, caplog: pytest.LogCaptureFixture, charset: str, name: str, value: str
) -> None:
    parts = (f'name="{name}"\r\n\r\n{value}', 'name="file"; filename="a.wav"\r\n\r\na')
    form = "".join(f"--x\r\nContent-Disposition: form-data; {part}\r\n" for part in parts)
    with served.http() as client:
        answer = client.post(
            "/v1/audio/transcriptions",
            content=f"{form}--x--\r\n",
            headers={"content-type": f"multipart/form-data; charset={charset}; boundary=x"},
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_form")
    assert "UTF-8" in answer.json()["error"]["message"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def run_curl(*words: str) -> str:
    return subprocess.run(
        ["curl", "-sS", *words], capture_output=True, text=True, check=True
    ).stdout


@curl
def test_curl_gets_the_text(served: Served, tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(recording())
    address = f"{served.url}/v1/audio/transcriptions"
    file = ["-F", f"file=@{tmp_path / 'talk.wav'}"]
    assert json.loads(run_curl(address, *file))["text"] == "BAD CAFE"
    assert (
        run_curl(address, *file, "-F", "model=tone", "-F", "response_format=text") == "BAD CAFE\n"
    )
    words = run_curl(
        address, *file, "-F", "response_format=verbose_json", "-F", "timestamp_granularities[]=word"
    )
    assert [word["word"] for word in json.loads(words)["words"]] == ["BAD", "CAFE"]


@curl
def test_curl_learns_of_a_broken_file(served: Served) -> None:
    command = ["curl", "-sS", "-w", "%{http_code}", "-F", "file=@-;filename=a.mp3"]
    command.append(f"{served.url}/v1/audio/transcriptions")
    done = subprocess.run(command, input=b"nothing", capture_output=True, check=True)
    answer, status = done.stdout[:-3], done.stdout[-3:]
    assert status == b"400"
    assert json.loads(answer)["error"]["code"] == "invalid_audio"


def test_an_open_file_is_named_in_messages_by_its_last_part_only(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"passwd: not audio") as error:
        client.audio.transcriptions.create(
            file=("../../etc/passwd", io.BytesIO(b"not a recording")), model="tone"
        )
    assert "etc" not in error.value.message
