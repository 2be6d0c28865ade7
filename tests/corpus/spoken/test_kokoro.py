"""Kokoro's voices and text, and the real library on a small stand-in for its model."""

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.corpus.manifest import read_manifest
from asr.corpus.spoken import build as spoken
from asr.corpus.spoken import espeak, kokoro
from asr.corpus.spoken.kokoro import KokoroVoice
from asr.corpus.spoken.settings import PARTS, Spoken
from asr.errors import AsrError

NAMES = [name for part in PARTS for name in (*kokoro.ENGLISH[part], *kokoro.FOREIGN[part])]


def write_stand_in(folder: Path) -> None:
    """A model of Kokoro's inputs and output: a tone, its pitch from the style, its length from the
    number of phonemes and the speed."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    def constant(name: str, value: float, kind: int, shape: list[int]) -> object:
        return helper.make_tensor(name, kind, shape, [value])

    nodes = [
        helper.make_node("Size", ["tokens"], ["count"]),
        helper.make_node("Cast", ["count"], ["letters"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["letters", "speed"], ["slowed"]),
        helper.make_node("Mul", ["slowed", "each"], ["length"]),
        helper.make_node("Squeeze", ["length"], ["end"]),
        helper.make_node("Range", ["zero", "end", "one"], ["time"]),
        helper.make_node("ReduceMean", ["style"], ["pitch"], keepdims=0),
        helper.make_node("Mul", ["time", "pitch"], ["phase"]),
        helper.make_node("Sin", ["phase"], ["audio"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, None]),
            helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
            helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, [None])],
        [
            constant("each", 1600.0, TensorProto.FLOAT, [1]),
            constant("zero", 0.0, TensorProto.FLOAT, []),
            constant("one", 1.0, TensorProto.FLOAT, []),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, folder / "kokoro-v1.0.onnx")
    styles = {
        name: np.full((510, 1, 256), 0.1 + 0.01 * i, np.float32) for i, name in enumerate(NAMES)
    }
    with (folder / "voices-v1.0.bin").open("wb") as file:
        np.savez(file, **styles)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("kokoro_onnx")
    folder = tmp_path / "kokoro"
    folder.mkdir()
    write_stand_in(folder)
    monkeypatch.setenv(kokoro.FOLDER, str(folder))
    kokoro._model.cache_clear()
    yield folder
    kokoro._model.cache_clear()


def test_parts_share_no_voice_and_none_that_a_voice_is_made_of():
    for voices in (kokoro.ENGLISH, kokoro.FOREIGN):
        assert sum(map(len, voices.values())) == len({n for part in PARTS for n in voices[part]})
    made_of = {
        part: {name for voice in kokoro.voices(part, 1) for name, _ in voice.mixture}
        for part in PARTS
    }
    for part in PARTS:
        assert {*kokoro.ENGLISH[part]} <= made_of[part]
        assert made_of[part] <= {*kokoro.ENGLISH[part], *kokoro.FOREIGN[part]}


def test_voices_are_drawn_from_the_seed_and_have_different_names():
    for part in PARTS:
        voices = kokoro.voices(part, 1)
        assert voices == kokoro.voices(part, 1) != kokoro.voices(part, 2)
        assert len({voice.name for voice in voices}) == len(voices) == kokoro.COUNTS[part]


def test_training_voices_are_single_mixed_extrapolated_and_accented():
    voices = kokoro.voices("train", 1)
    kinds = {
        "single": [v for v in voices if len(v.mixture) == 1],
        "beyond": [v for v in voices if any(w < 0 for _, w in v.mixture)],
        "accent": [v for v in voices if v.mixture[0][0] in kokoro.FOREIGN["train"]],
        "three": [v for v in voices if len(v.mixture) == 3],
    }
    assert all(len(found) > 40 for found in kinds.values())
    assert all(sum(w for _, w in v.mixture) == pytest.approx(1, abs=0.021) for v in voices)
    speeds = [v.speed for v in voices]
    assert min(speeds) < 0.85
    assert max(speeds) > 1.2
    assert {v.accent for v in voices} == set(kokoro.ACCENTS)


def test_a_line_is_punctuated_and_its_words_stay():
    text = "WHAT DO I KNOW OF THE MAN WHO CAME AND WENT BUT NEVER SPOKE"
    said = {kokoro.punctuate(text, random.Random(i)) for i in range(60)}
    for line in said:
        assert line[0] == "W"
        assert line[-1] in ".?!"
        assert line.translate(str.maketrans("", "", ",.?!")).upper() == text
        assert " I " in line
    assert any("," in line for line in said)
    assert {line[-1] for line in said} == {".", "?", "!"}


def test_a_voice_speaks_the_same_twice_and_slower_when_asked(model):
    voice = KokoroVoice((("af_sky", 0.6), ("am_echo", 0.4)))
    one, two = (kokoro.speak("seven boats", voice) for _ in range(2))
    assert one.dtype == np.float32
    assert np.abs(one).max() <= 1
    assert np.array_equal(one, two)
    slow = kokoro.speak("seven boats", voice.slower(0.7))
    assert 1.2 < len(slow) / len(one) < 1.7


def test_espeak_speaks_the_same_before_and_after_kokoro(model):
    voice = espeak.EspeakVoice("en-us", "m3")
    before = espeak.speak("seven small boats", voice)
    kokoro.speak("seven boats", KokoroVoice((("bf_emma", 1.0),), "en-gb"))
    assert np.array_equal(espeak.speak("seven small boats", voice), before)


def test_a_corpus_of_kokoro_is_made_and_names_its_voices(model, tmp_path):
    settings = Spoken(synthesisers=["kokoro"], test_hours=0.003, audio="opus", processes=1)
    utterances = read_manifest(spoken.ensure("test", settings, tmp_path))
    names = {voice.name for voice in kokoro.voices("test", settings.seed)}
    assert {u.speaker for u in utterances} <= names
    assert sum(u.duration for u in utterances) >= 0.003 * 3600


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("variable", "name it in the environment variable ASR_KOKORO"),
        ("model", r"0 files kokoro\*.onnx and 1 voices\*.bin"),
        ("voices", r"1 files kokoro\*.onnx and 0 voices\*.bin"),
    ],
)
def test_a_missing_model_says_what_to_put_where(model, monkeypatch, missing, message, tmp_path):
    if missing == "variable":
        monkeypatch.delenv(kokoro.FOLDER)
    else:
        next(model.glob("kokoro*" if missing == "model" else "voices*")).unlink()
    with pytest.raises(AsrError, match=message) as caught:
        spoken.ensure("test", Spoken(synthesisers=["kokoro"]), tmp_path / "corpus")
    assert "https://github.com/thewh1teagle/kokoro-onnx/releases" in str(caught.value)
    assert not (tmp_path / "corpus").exists()


def test_a_missing_library_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "kokoro_onnx", None)
    with pytest.raises(AsrError, match=r"pip install '\.\[voices\]'"):
        kokoro.require()


def test_a_file_that_is_not_the_model_is_an_error_of_one_sentence(model):
    (model / "kokoro-v1.0.onnx").write_bytes(b"not a model")
    with pytest.raises(AsrError, match="kokoro-onnx cannot open"):
        kokoro.speak("seven boats", KokoroVoice((("af_sky", 1.0),)))


def test_an_archive_without_a_voice_is_refused(model):
    with (model / "voices-v1.0.bin").open("wb") as file:
        np.savez(file, af_sky=np.zeros((510, 1, 256), np.float32))
    with pytest.raises(AsrError, match="without the voices af_alloy"):
        kokoro.speak("seven boats", KokoroVoice((("af_sky", 1.0),)))


@pytest.mark.skipif(kokoro.FOLDER not in os.environ, reason="ASR_KOKORO names no model")
def test_the_real_model_speaks(tmp_path):
    voice = replace(kokoro.voices("dev", 1)[0], speed=1.0)
    samples = kokoro.speak("seven small boats came back before the storm", voice)
    assert 1.5 < len(samples) / kokoro.SAMPLE_RATE < 6
    assert np.array_equal(
        samples, kokoro.speak("seven small boats came back before the storm", voice)
    )
