"""`asr listen`: a pipe or a file becomes words and events while it goes on."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tone_network import RATE, save_tone_model, speak

from asr.errors import AsrError
from asr.transcribe import listen
from asr.transcribe.listen import listen_to, microphone, pcm
from asr.transcribe.recogniser import Recogniser, load

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
        return super().read(min(size or 1, 333))


def raw(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def wav(samples: np.ndarray, rate: int, **how: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", **how)
    return file.getvalue()


def heard(blocks: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(blocks))


def test_samples_alone_and_wav_files_are_read(recogniser: Recogniser) -> None:
    samples = speak("BAD")
    np.testing.assert_allclose(heard(pcm(Slow(raw(samples)), RATE, RATE)), samples, atol=1e-4)
    stereo = np.stack([samples, samples], axis=1)
    for file in (wav(samples, RATE), wav(stereo, RATE), wav(samples, RATE, subtype="PCM_16")):
        np.testing.assert_allclose(heard(pcm(Slow(file), 8000, RATE)), samples, atol=1e-4)
    # A pipe's header says nothing of the length.
    unknown = bytearray(wav(samples, RATE))
    unknown[40:44] = b"\xff\xff\xff\xff"
    assert len(heard(pcm(io.BytesIO(bytes(unknown)), 8000, RATE))) == len(samples)


def test_another_rate_is_resampled(recogniser: Recogniser) -> None:
    samples = heard(pcm(Slow(wav(speak(TEXT, 48000), 48000)), RATE, RATE))
    assert abs(len(samples) - len(speak(TEXT))) < 10
    [transcript] = recogniser.transcribe(samples)
    assert transcript.text == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wav(speak("A"), RATE, subtype="FLOAT"), "asr listen reads 16-bit PCM"),
        (wav(speak("A"), RATE, subtype="PCM_24"), "1 channels of 24 bits"),
        (wav(speak("A"), RATE)[:30], "damaged"),
        (b"fLaC" + bytes(100), "use asr transcribe -"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(AsrError, match=message):
        heard(pcm(io.BytesIO(content), RATE, RATE))


def test_the_words_are_printed_once(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, speak(TEXT), RATE)
    listen_to(recogniser, recogniser.stream(), str(path), RATE)
    assert capsys.readouterr().out.split() == TEXT.split()


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
    listen_to(recogniser, recogniser.stream(), str(path), RATE)
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
    with pytest.raises(AsrError, match=r"pip install 'asr\[microphone\]'; or pipe"):
        next(microphone(RATE))


def test_an_unknown_format_is_refused(recogniser: Recogniser) -> None:
    with pytest.raises(AsrError, match="format='srt': txt or json"):
        listen_to(recogniser, recogniser.stream(), None, RATE, "srt")
    assert listen.BLOCK_SECONDS <= 0.1
