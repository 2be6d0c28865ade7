"""`asr listen`: a pipe or a file becomes words and events while it goes on."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from tone_network import RATE, save_tone_model, speak

from asr.errors import AsrError
from asr.transcribe import listen
from asr.transcribe.listen import listen_to, microphone, pcm
from asr.transcribe.recogniser import Recogniser, load, say_once

TEXT = "FEED A CAGED BEE"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr")


@pytest.fixture(scope="module")
def recogniser(model: Path) -> Recogniser:
    return load(model, 1, "native")


class Slow(io.BytesIO):
    """A pipe that gives an odd number of bytes at a time."""

    def read1(self, size: int | None = -1) -> bytes:
        return super().read(333 if size is None else min(size, 333))


def raw(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def wav(samples: np.ndarray, rate: int, format: str = "WAV", **how: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, **how)
    return file.getvalue()


class Unplugged(Exception):
    """The error of a microphone that is not there."""


def plug_in(monkeypatch: pytest.MonkeyPatch, samples: np.ndarray, refused: bool = False) -> None:
    """A microphone that is unplugged behind `samples`, and loses some sound before."""

    class Microphone:
        def __init__(self, **_: Any) -> None:
            self.samples = samples

        def __enter__(self) -> "Microphone":
            if refused:
                raise Unplugged("Invalid sample rate")
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, count: int) -> tuple[np.ndarray, bool]:
            if not len(self.samples):
                raise Unplugged("Device unavailable")
            block, self.samples = self.samples[:count], self.samples[count:]
            return block[:, np.newaxis], True

    fake = SimpleNamespace(InputStream=Microphone, PortAudioError=Unplugged)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    say_once.cache_clear()


def heard(blocks: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(blocks))


def test_samples_alone_and_wav_files_are_read(recogniser: Recogniser) -> None:
    samples = speak("BAD")
    np.testing.assert_allclose(heard(pcm(Slow(raw(samples)), RATE, RATE)), samples, atol=1e-4)
    stereo = np.stack([samples, samples], axis=1)
    for file in (wav(samples, RATE), wav(stereo, RATE), wav(samples, RATE, subtype="PCM_16")):
        np.testing.assert_allclose(heard(pcm(Slow(file), None, RATE)), samples, atol=1e-4)
    # A pipe's header says nothing of the length.
    unknown = bytearray(wav(samples, RATE))
    for size in (0xFFFFFFFF, 0x7FFF0000, 0):
        unknown[40:44] = size.to_bytes(4, "little")
        assert len(heard(pcm(io.BytesIO(bytes(unknown)), None, RATE))) == len(samples)


def test_what_follows_the_samples_of_a_wav_file_is_not_sound() -> None:
    samples = speak("BAD")
    file = wav(samples, RATE) + b"LIST" + (5000).to_bytes(4, "little") + bytes(range(250)) * 20
    for pipe in (io.BytesIO(file), Slow(file)):
        assert len(heard(pcm(pipe, None, RATE))) == len(samples)


def test_another_rate_is_resampled(recogniser: Recogniser) -> None:
    samples = heard(pcm(Slow(wav(speak(TEXT, 48000), 48000)), None, RATE))
    assert abs(len(samples) - len(speak(TEXT))) < 10
    [transcript] = recogniser.transcribe(samples)
    assert transcript.text == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wav(speak("A"), RATE, subtype="FLOAT"), "asr listen reads 16-bit PCM"),
        (wav(speak("A"), RATE, subtype="PCM_24"), "1 channels of 24 bits"),
        (wav(speak("A"), RATE)[:30], "damaged"),
        *(
            (wav(speak("A"), RATE, format), "of another kind: .*; use asr transcribe -")
            for format in ("FLAC", "OGG", "MP3", "AIFF", "CAF", "RF64", "W64", "AU")
        ),
        (wav(speak("A"), RATE, endian="BIG"), "use asr transcribe -"),
        (b"ID3\4" + bytes(3000), "use asr transcribe -"),
        (b"\0\0\0\x20ftypM4A \0\0\2\0" + bytes(100), "use asr transcribe -"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm" + bytes(100), "use asr transcribe -"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(AsrError, match=message):
        heard(pcm(io.BytesIO(content), None, RATE))


def test_a_sample_rate_is_for_samples_without_a_header(recogniser: Recogniser) -> None:
    samples = speak("BAD", 48000)
    assert abs(len(heard(pcm(Slow(raw(samples)), 48000, RATE))) - len(samples) / 3) < 2
    with pytest.raises(AsrError, match=r"sample_rate=8000: .* header of standard input says 16000"):
        pcm(io.BytesIO(wav(speak("A"), RATE)), 8000, RATE)
    for source in (None, "talk.wav"):
        with pytest.raises(AsrError, match="sample_rate=8000: only for standard input without"):
            listen_to(recogniser, recogniser.stream(), source, 8000)


def test_the_words_are_printed_once(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, speak(TEXT), RATE)
    listen_to(recogniser, recogniser.stream(), str(path))
    assert capsys.readouterr().out.split() == TEXT.split()


@pytest.mark.parametrize("format", ["txt", "json"])
def test_the_words_before_an_error_are_printed(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav(speak(TEXT + " BAD"), RATE)[: -2 * len(speak(" BAD"))])
    with pytest.raises(AsrError, match="truncated"):
        listen_to(recogniser, recogniser.stream(), str(path), None, format)
    out = capsys.readouterr().out
    assert (json.loads(out.splitlines()[-1])["text"] if format == "json" else out.strip()) == TEXT
    with pytest.raises(AsrError, match="no such file"):
        listen_to(recogniser, recogniser.stream(), str(tmp_path / "none.wav"), None, format)
    assert not capsys.readouterr().out


def test_a_terminal_shows_words_that_may_change_dimly(
    recogniser: Recogniser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    path = tmp_path / "talk.wav"
    soundfile.write(path, speak(TEXT), RATE)
    listen_to(recogniser, recogniser.stream(), str(path))
    assert "\x1b7\x1b[2mFEED\x1b[0m\x1b8" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[JBEE \n")


def test_events_of_a_pipe_from_the_command_line(model: Path) -> None:
    words = [sys.executable, "-m", "asr", "listen", "-", "-m", str(model), "-f", "json"]
    words += ["--backend", "native"]
    done = subprocess.run(words, input=raw(speak(TEXT)), capture_output=True, check=True)
    *events, final = [json.loads(line) for line in done.stdout.decode().splitlines()]
    stable = [word["word"] for event in events for word in event["stable"]]
    assert stable == TEXT.split()[:-1]
    assert any(event["provisional"] for event in events)
    assert (final["type"], final["text"]) == ("final", TEXT)
    assert final["words"][0].keys() == {"word", "start", "end", "confidence"}
    assert [event["seconds"] for event in events] == sorted(event["seconds"] for event in events)


def test_a_missing_microphone_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(
        AsrError, match=r"pip install '\.\[microphone\]' in the checkout of asr; or pipe"
    ):
        next(microphone(RATE))


def test_a_microphone_that_is_unplugged_or_too_fast_says_so(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plug_in(monkeypatch, speak(TEXT))
    with pytest.raises(AsrError, match="cannot be read any more: Device unavailable"):
        listen_to(recogniser, recogniser.stream(), None)
    printed = capsys.readouterr()
    assert printed.out.split() == TEXT.split()
    assert printed.err.count("sound of the microphone was lost") == 1
    plug_in(monkeypatch, speak(TEXT), refused=True)
    with pytest.raises(AsrError, match="cannot be opened: Invalid sample rate"):
        next(microphone(RATE))


def test_an_unknown_format_is_refused(recogniser: Recogniser) -> None:
    with pytest.raises(AsrError, match="format='srt': txt or json"):
        listen_to(recogniser, recogniser.stream(), None, None, "srt")
    assert listen.BLOCK_SECONDS <= 0.1
