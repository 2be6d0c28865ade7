"""Pico and flite beside espeak-ng: who speaks where, the same sound again, what is missing."""

import os
import shutil
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from asr.corpus.check import check
from asr.corpus.manifest import read_manifest
from asr.corpus.spoken import build as spoken
from asr.corpus.spoken import flite, pico, synthesisers
from asr.corpus.spoken.settings import Spoken
from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.settings.yaml import load
from asr.text.tokenizer import CharacterTokenizer

TEXT = "the small dog saw seven boats"
ALL = Spoken(synthesisers=["espeak", "pico", "flite"])

needs_pico = pytest.mark.skipif(
    sys.platform not in ("linux", "win32"), reason="py-nanotts has no wheel for this system"
)
needs_flite = pytest.mark.skipif(not shutil.which("flite"), reason="the program flite is missing")
BOTH = [
    pytest.param(pico.Voice("en-US"), marks=needs_pico, id="pico"),
    pytest.param(flite.Voice("slt"), marks=needs_flite, id="flite"),
]


def drawn(settings: Spoken, count: int = 900) -> Counter[str]:
    lines = islice(spoken.lines("train", settings), count)
    return Counter(type(line.voice).__module__.rpartition(".")[2] for line in lines)


def test_training_sentences_draw_a_synthesiser_with_equal_shares():
    counts = drawn(ALL)
    assert sum(counts.values()) == 900
    assert all(250 < counts[name] < 350 for name in ("espeak", "pico", "flite"))


def test_one_that_is_named_twice_is_drawn_twice_as_often():
    counts = drawn(Spoken(synthesisers=["espeak", "pico", "espeak"]))
    assert 550 < counts["espeak"] < 650
    assert counts["pico"] == 900 - counts["espeak"]


def test_dev_and_test_are_those_of_espeak_alone():
    for part in ("dev", "test"):
        alone, several = (islice(spoken.lines(part, s), 100) for s in (Spoken(), ALL))
        assert list(alone) == list(several)


def test_all_voices_are_heard_each_with_a_number_of_its_own():
    lines = list(islice(spoken.lines("train", ALL), 1500))
    names = {line.speaker: line.voice.name for line in lines}
    assert {line.speaker: line.voice.name for line in reversed(lines)} == names
    assert len(set(names.values())) == len(names)
    voices = {name.split("-p")[0] for name in names.values()}
    assert {f"pico+{a}" for a in pico.ACCENTS} | {f"flite+{s}" for s in flite.SPEAKERS} <= voices


def test_speakers_made_of_one_voice_differ_and_another_seed_gives_others():
    for name in ("pico", "flite"):
        one, two = (synthesisers.speakers(name, "train", seed) for seed in (1, 2))
        assert len({voice.name for voice in one}) > 20
        assert one == synthesisers.speakers(name, "train", 1)
        assert one != two


def test_the_folder_is_named_for_the_shares_and_not_for_how_they_are_written():
    def name(*names: str) -> str:
        return spoken.folder_of(Spoken(synthesisers=list(names))).name

    assert name("espeak") == name("espeak", "espeak") == "small-1h-0.1h-0.3h-seed1-v1"
    assert name("pico", "espeak") == "small-espeak-pico-1h-0.1h-0.3h-seed1-v1"
    assert name("espeak", "flite", "espeak").startswith("small-espeak2-flite-1h")
    assert name("flite", "flite") == name("flite") != name("pico")
    lines = [
        list(islice(spoken.lines("train", Spoken(synthesisers=names)), 50))
        for names in (["pico", "espeak"], ["espeak", "pico", "espeak", "pico"])
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("part", ["dev", "test"])
def test_parts_that_nobody_speaks_are_refused(tmp_path, part):
    with pytest.raises(AsrError, match=rf"spoken:{part}: .*pico, flite only.*add espeak"):
        spoken.ensure(part, Spoken(synthesisers=["pico", "flite"]), tmp_path)
    assert not os.listdir(tmp_path)


def test_unknown_or_no_synthesiser_is_refused():
    with pytest.raises(AsrError, match=r"expected one of 'espeak'.*, found 'festival'"):
        load(Spoken, None, ["synthesisers=[espeak,festival]"])
    with pytest.raises(AsrError, match="name at least one"):
        Spoken(synthesisers=[])


def test_missing_pico_says_what_to_install_and_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "py_nanotts", None)
    with pytest.raises(AsrError, match=r"pip install 'asr\[voices\]'"):
        spoken.ensure("train", Spoken(synthesisers=["espeak", "pico"]), tmp_path)
    assert not os.listdir(tmp_path)


def test_missing_flite_says_what_to_install_and_hinders_train_only(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    settings = Spoken(synthesisers=["espeak", "flite"], dev_hours=0.002)
    with pytest.raises(AsrError, match="apt install flite"):
        spoken.ensure("train", settings, tmp_path)
    assert not os.listdir(tmp_path)
    assert spoken.ensure("dev", settings, tmp_path).is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for the program")
def test_a_flite_without_a_voice_is_refused_since_it_would_speak_with_another(
    tmp_path, monkeypatch
):
    program = tmp_path / "flite"
    program.write_text("#!/bin/sh\necho 'Voices available: kal slt kal16 awb '\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AsrError, match="built without the voices rms"):
        flite.require()


@needs_pico
@pytest.mark.parametrize("accent", pico.ACCENTS)
def test_pico_does_not_depend_on_what_was_spoken_before_or_lay_in_memory(accent):
    voice = pico.Voice(accent, pitch=95, speed=90)
    first = pico.speak(TEXT, voice)
    for count in range(4):
        litter = [np.full(2_500_000 + 10_000 * n, 165, np.uint8) for n in range(count)]
        del litter
        pico.speak("something else entirely " * count + "said", pico.Voice("en-GB", 120, 80))
        assert np.array_equal(pico.speak(TEXT, voice), first)


@needs_flite
@pytest.mark.parametrize("speaker", flite.SPEAKERS)
def test_flite_says_the_same_again_and_each_voice_in_its_own_way(speaker):
    first = flite.speak(TEXT, flite.Voice(speaker))
    assert np.array_equal(flite.speak(TEXT, flite.Voice(speaker)), first)
    other = flite.SPEAKERS[flite.SPEAKERS.index(speaker) - 1]
    assert not np.array_equal(flite.speak(TEXT, flite.Voice(other))[: len(first)], first)


@pytest.mark.parametrize("voice", BOTH)
def test_speech_is_float_of_plausible_length_and_follows_speed(voice):
    natural, slow = (synthesisers.speak(TEXT, replace(voice, speed=s)) for s in (100, 70))
    assert natural.dtype == np.float32
    assert 1.2 < len(natural) / synthesisers.SAMPLE_RATE < 3
    assert 0.1 < np.abs(natural).max() <= 1
    assert 1.25 < len(slow) / len(natural) < 1.6
    slowed = synthesisers.speak(TEXT, synthesisers.slower(voice, 0.7))
    assert np.array_equal(slowed, slow)


def fundamental(samples: np.ndarray) -> float:
    """Median over loud frames of the frequency at which the autocorrelation peaks; hertz."""
    found = []
    for start in range(0, len(samples) - 1280, 320):
        frame = samples[start : start + 1280] - samples[start : start + 1280].mean()
        if np.mean(frame**2) > 0.3 * np.mean(samples**2):
            similar = np.correlate(frame, frame, "full")[1279:]
            lag = 40 + int(np.argmax(similar[40:267]))
            if similar[lag] > 0.5 * similar[0]:
                found.append(16000 / lag)
    return float(np.median(found))


@pytest.mark.parametrize("voice", BOTH)
def test_speech_follows_pitch(voice):
    low, high = (fundamental(synthesisers.speak(TEXT, replace(voice, pitch=p))) for p in (80, 120))
    assert high / low == pytest.approx(1.5, rel=0.1)


@pytest.mark.parametrize("voice", BOTH)
def test_silence_is_an_error(voice):
    with pytest.raises(AsrError, match="nothing is heard of ''"):
        synthesisers.speak("", voice)


@pytest.mark.parametrize("voice", BOTH)
def test_apostrophes_at_the_edge_of_a_word_are_not_spoken_and_those_inside_are(voice):
    plain = synthesisers.speak("the boys said go", voice)
    assert np.array_equal(synthesisers.speak("the boys' said 'go", voice), plain)
    we_ll, well = (synthesisers.speak(f"and {word} go", voice) for word in ("we'll", "well"))
    assert not np.array_equal(we_ll, well)


@needs_pico
@pytest.mark.parametrize(
    ("voice", "message"),
    [
        (pico.Voice("de-DE"), "no voice de-DE"),
        (pico.Voice("en-US", speed=10), "speed 10 %.*from 20 to 500"),
        (pico.Voice("en-US", pitch=210), "pitch 210 %.*from 50 to 200"),
    ],
    ids=["voice", "speed", "pitch"],
)
def test_what_pico_cannot_do_is_refused(voice, message):
    with pytest.raises(AsrError, match=message):
        pico.speak(TEXT, voice)


@needs_flite
def test_what_flite_cannot_do_is_refused():
    with pytest.raises(AsrError, match="no voice nobody"):
        flite.speak(TEXT, flite.Voice("nobody"))
    with pytest.raises(AsrError, match="pitch of rms cannot be set"):
        flite.speak(TEXT, flite.Voice("rms", pitch=90))
    assert all(v.pitch == 100 for v in flite_speakers() if v.speaker in flite.MONOTONE)


def flite_speakers() -> list[flite.Voice]:
    return [v for v in synthesisers.speakers("flite", "train", 1) if isinstance(v, flite.Voice)]


@needs_pico
def test_a_corpus_of_several_is_usable_and_made_again_has_the_same_bytes(tmp_path, monkeypatch):
    others = ["pico", "flite"] if shutil.which("flite") else ["pico"]
    settings = Spoken(synthesisers=["espeak", *others], train_hours=0.01)
    one = spoken.ensure("train", settings, tmp_path / "one")
    utterances = read_manifest(one)
    assert {u.speaker.split("+")[0] for u in utterances if u.speaker[:2] != "en"} == {*others}
    assert any(u.speaker.startswith("en") for u in utterances)
    report = check(utterances, CharacterTokenizer(), Frontend(), Model(), speed=1.1, decode=True)
    assert not report.problems
    monkeypatch.setattr(spoken, "_WORTH_PROCESSES", 0)  # this time by several processes
    two = spoken.ensure("train", settings, tmp_path / "two")
    assert two.read_bytes() == one.read_bytes()
    for u, v in zip(utterances, read_manifest(two), strict=True):
        assert Path(u.audio_filepath).read_bytes() == Path(v.audio_filepath).read_bytes()
