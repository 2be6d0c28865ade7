"""What Python hands over as a recording is taken, or the message says what to give."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tone_network import RATE, save_tone_model, speak

from asr.errors import AsrError
from asr.transcribe.align import align
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load
from asr.transcribe.source import read_waveform


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return load(save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr"))


def flac(text: str = "BAD CAFE", rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, speak(text, rate), rate, format="FLAC")
    return file.getvalue()


def at_second_part() -> io.BytesIO:
    file = io.BytesIO(b"before" + flac())
    file.seek(6)
    return file


def integers(kind: Any) -> np.ndarray:
    most = np.iinfo(kind).max
    return np.round(speak("BAD CAFE").astype(np.float64) * most).astype(kind)


SOUND = speak("BAD CAFE")
FAST = speak("BAD CAFE", 44100)
TWO = np.stack([FAST, FAST])
TAKEN: dict[str, Callable[[], Any]] = {
    "BytesIO": lambda: io.BytesIO(flac()),
    "BytesIO that was read from": at_second_part,
    "bytes": flac,
    "bytearray": lambda: bytearray(flac()),
    "memoryview": lambda: memoryview(flac()),
    "int8": lambda: integers(np.int8),
    "int16": lambda: integers(np.int16),
    "int32": lambda: integers(np.int32),
    "uint8": lambda: (integers(np.int8).astype(np.int16) + 128).astype(np.uint8),
    "float64": lambda: SOUND.astype(np.float64),
    "float16": lambda: SOUND.astype(np.float16),
    "tensor": lambda: torch.from_numpy(SOUND),
    "tensor of int16": lambda: torch.from_numpy(integers(np.int16)),
    "tensor of bfloat16": lambda: torch.from_numpy(SOUND).bfloat16(),
    "tensor with a gradient": lambda: torch.from_numpy(SOUND).requires_grad_(),
    "soundfile": lambda: (FAST, 44100),
    "soundfile, two channels": lambda: (TWO.T, 44100),
    "torchaudio": lambda: (torch.from_numpy(TWO), 44100),
    "torchaudio, one channel": lambda: (torch.from_numpy(FAST)[None], 44100),
    "gradio": lambda: (44100, np.round(FAST * 32767).astype(np.int16)),
    "list": lambda: (SOUND.tolist(), RATE),
    "numpy rate": lambda: (FAST, np.int64(44100)),
    "rate as a float": lambda: (FAST, 44100.0),
    "datasets": lambda: {"array": FAST, "sampling_rate": 44100, "path": None},
}


@pytest.mark.parametrize("kind", TAKEN)
def test_what_python_has_is_transcribed_alone_in_a_list_and_aligned(
    recogniser: Recogniser, kind: str
) -> None:
    make = TAKEN[kind]
    [alone] = recogniser.transcribe(make())
    assert (alone.text, alone.path) == ("BAD CAFE", "")
    assert alone.seconds == pytest.approx(len(SOUND) / RATE, abs=0.01)
    listed = recogniser.transcribe(iter([SOUND, make(), speak("EGG")]))
    assert [transcript.text for transcript in listed] == ["BAD CAFE", "BAD CAFE", "EGG"]
    assert align(recogniser, make(), "bad cafe").text == "bad cafe"


def test_a_file_object_is_read_from_where_it_is_and_named(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(flac())
    with path.open("rb") as file:
        [transcript] = recogniser.transcribe(file)
        assert (transcript.text, transcript.path) == ("BAD CAFE", str(path))
        assert not file.closed
    path.write_bytes(b"no audio")
    with path.open("rb") as file, pytest.raises(AsrError, match=f"^{path}: not audio"):
        next(recogniser.transcribe(file))


def test_channels_and_rates_are_noted(recogniser: Recogniser) -> None:
    [transcript] = recogniser.transcribe((TWO, 44100))
    assert transcript.notes == ("2 channels mixed", "44100 Hz resampled to 16000 Hz")
    [transcript] = recogniser.transcribe((SOUND, RATE))
    assert transcript.notes == ()


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_a_channel_of_a_waveform_is_chosen_as_that_of_a_file(
    recogniser: Recogniser, tmp_path: Path, rate: int
) -> None:
    left, right = speak("BAD CAFE", rate), speak("EGG DADA", rate)
    stereo = np.stack([left, right], 1)
    soundfile.write(tmp_path / "a.wav", stereo, rate)
    sources = [str(tmp_path / "a.wav"), (stereo, rate), (torch.from_numpy(stereo.T), rate)]
    for channel, text in ((1, "BAD CAFE"), (2, "EGG DADA")):
        options = TranscribeOptions(channel=channel)
        found = list(recogniser.transcribe(sources, options))
        assert [each.text for each in found] == [text] * 3
        assert {each.notes[0] for each in found} == {f"channel {channel} of 2 taken"}
    with pytest.raises(AsrError, match="a waveform: has 2 channels, no channel 3"):
        next(recogniser.transcribe((stereo, rate), TranscribeOptions(channel=3)))
    for mono in (SOUND, (SOUND, RATE), (SOUND[None], RATE)):
        [first] = recogniser.transcribe(mono, TranscribeOptions(channel=1))
        assert first.text == "BAD CAFE"
        with pytest.raises(AsrError, match="a waveform: has 1 channel, no channel 2"):
            next(recogniser.transcribe(mono, TranscribeOptions(channel=2)))


@pytest.mark.parametrize("turned", [False, True])
def test_channels_of_a_waveform_that_cancel_each_other_are_not_mixed(
    recogniser: Recogniser, turned: bool
) -> None:
    opposite = np.stack([FAST, -FAST], int(turned))
    [transcript] = recogniser.transcribe((opposite, 44100))
    assert transcript.text == "BAD CAFE"
    assert transcript.notes[0] == "2 channels cancel each other: the loudest taken"


@pytest.mark.parametrize(
    ("source", "fragment"),
    [
        (None, "type NoneType cannot be transcribed: give the name of a file"),
        (5, "type int cannot"),
        (object(), "type object cannot"),
        ([0.1, 0.2], "type float cannot"),
        ([None], "type NoneType cannot"),
        ({"a": 1}, "type dict"),
        (io.StringIO("text"), "is open as text; open it with mode 'rb'"),
        (io.BytesIO(), "open file: "),
        (b"no audio", "open file: not audio"),
        (np.zeros((2, 8000), np.float32), "with its sample rate, as"),
        (np.zeros(8000, np.int64), "type int64"),
        (np.zeros(8000, complex), "type complex128"),
        (np.array(["a"]), "type"),
        (np.zeros(()), "shape"),
        ((SOUND, 0), "sample rate 0"),
        ((SOUND, -8000), "sample rate -8000"),
        ((SOUND, float("nan")), "sample rate nan"),
        ((np.zeros((100, 200), np.float32), 8000), "100 channels"),
        ((np.zeros((2, 2, 2)), 8000), r"shape \(2, 2, 2\)"),
        ((["a", "b"], 8000), "must be"),
        ((np.full(8000, np.inf), 8000), "not a number"),
    ],
)
def test_what_cannot_be_transcribed_says_what_to_give(
    recogniser: Recogniser, source: Any, fragment: str
) -> None:
    with pytest.raises(AsrError, match=fragment):
        next(recogniser.transcribe(source))
    if isinstance(source, list | dict) or source is None:
        return
    [bad, good] = recogniser.transcribe([source, SOUND], TranscribeOptions(on_error="report"))
    assert bad.error
    assert good.text == "BAD CAFE"


@settings(deadline=None, max_examples=50)
@given(
    kind=st.sampled_from([np.int8, np.int16, np.int32, np.uint8]),
    value=st.floats(-1, 1, allow_nan=False),
)
def test_integers_are_the_floats_that_audio_files_mean_by_them(kind: Any, value: float) -> None:
    step = 2.0 ** (1 - 8 * np.dtype(kind).itemsize)
    middle = 128 if kind == np.uint8 else 0
    limits = np.iinfo(kind)
    number = int(np.clip(round(value / step) + middle, limits.min, limits.max))
    read = read_waveform(np.array([number], kind), RATE)
    assert read is not None
    assert abs(read[0][0] - value) <= step + 1e-6
    assert abs(read[0][0]) <= 1
