"""Hostile, broken and truncated files: a 4xx that a person understands, and nothing else."""

import io
import logging
import random
import struct
from pathlib import Path
from typing import Any

import openai
import pytest
import soundfile
from encoded import encode, sound
from openai import OpenAI
from served import Served, recording
from tone_network import speak


@pytest.fixture(scope="module")
def client(served: Served) -> OpenAI:
    return served.openai()


def refused(client: OpenAI, content: bytes, name: str = "talk.wav") -> str:
    """The message that the server refuses a file with."""
    with pytest.raises(openai.APIStatusError) as error:
        client.audio.transcriptions.create(file=(name, content), model="tone")
    assert 400 <= error.value.status_code < 500, error.value
    body: Any = error.value.body
    assert body["param"] == "file"
    assert "Traceback" not in body["message"]
    return str(body["message"])


def wav(rate: int, channels: int, data: bytes, promised: int | None = None) -> bytes:
    size = len(data) if promised is None else promised
    format_ = struct.pack("<HHIIHH", 1, channels, rate, rate * channels, channels, 8)
    return (
        b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<I", 16) + format_
    ) + (b"data" + struct.pack("<I", size) + data)


BROKEN = {
    "nothing": (b"", "the file is empty"),
    "text": (b"This is a letter, not a recording.", "not audio that can be read"),
    "a truncated wav": (recording()[:20_000], "truncated, 0.62 s of 1.34 s are there"),
    "a truncated flac": (recording(kind="flac")[:-3000], "truncated"),
    "a truncated m4a": (encode("m4a", speak("BAD CAFE"))[:-4000], "m4a|moov|truncated|not audio"),
    "no samples": (wav(16000, 1, b""), "no audio"),
    "no channels": (wav(16000, 0, bytes(100)), "no audio|not audio"),
    "an hour in a second": (wav(1, 1, bytes(4000)), "longer than 3600 seconds"),
    "a day at 7 Hz": (wav(7, 1, bytes(700_000)), "longer than 3600 seconds"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(1000), "not audio that can be read"),
    "an archive": (b"PK\x03\x04" + bytes(1000), "not audio that can be read"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_in_words(client: OpenAI, kind: str) -> None:
    content, expected = BROKEN[kind]
    message = refused(client, content)
    assert any(part in message for part in expected.split("|")), message


def test_samples_that_are_not_numbers_are_refused(client: OpenAI) -> None:
    samples = speak("BAD CAFE")
    samples[100] = float("nan")
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV", subtype="FLOAT")
    assert "infinite or not a number" in refused(client, file.getvalue())


def test_no_file_of_this_machine_is_opened_for_a_play_list(
    client: OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("ts", "mp3"):
        (tmp_path / f"secret.{kind}").write_bytes(encode(kind, speak("BAD CAFE")))
    for name in ("secret.ts", "secret.mp3", str(tmp_path / "secret.ts")):
        for content in (
            f"ffconcat version 1.0\nfile '{name}'\n",
            f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n",
            f'<?xml version="1.0"?><MPD><Period><BaseURL>{name}</BaseURL></Period></MPD>',
            "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        ):
            assert "not audio that can be read" in refused(client, content.encode())


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus", "m4a", "webm", "aiff"])
def test_damaged_files_never_become_a_500(
    client: OpenAI, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    whole, chance = encode(kind, sound(0.5)), random.Random(kind)
    statuses = set()
    for _ in range(6):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 10, 100])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        cut = content[: chance.choice([len(content), chance.randrange(len(content))])]
        try:
            client.audio.transcriptions.create(file=("a." + kind, bytes(cut)), model="tone")
        except openai.APIStatusError as error:
            statuses.add(error.status_code)
    assert statuses <= {400, 413}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
