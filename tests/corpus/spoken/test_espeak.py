"""espeak-ng as a pure function: every voice speaks, independently of earlier calls."""

import sys

import numpy as np
import pytest

from asr.corpus.spoken import espeak
from asr.corpus.spoken.espeak import ACCENTS, VARIANTS, EspeakVoice, speak
from asr.errors import AsrError

TEXT = "the small dog saw seven boats"


def test_there_are_at_least_two_hundred_different_voices():
    spoken = {}
    for accent in ACCENTS:
        for variant in VARIANTS:
            samples = speak(TEXT, EspeakVoice(accent, variant))
            assert samples.dtype == np.float32
            assert 1.0 < len(samples) / espeak.SAMPLE_RATE < 4.0
            assert 0.1 < np.abs(samples).max() < 1
            spoken[accent, variant] = samples.tobytes()
    assert len(set(spoken.values())) == len(ACCENTS) * len(VARIANTS) >= 200


@pytest.mark.parametrize(
    "voice",
    [
        EspeakVoice("en", "m3"),
        EspeakVoice("en-us", "f2"),
        EspeakVoice("en-gb-scotland", "edward"),
        EspeakVoice("en-029", "victor"),
    ],
    ids=lambda voice: voice.name,
)
def test_an_utterance_does_not_depend_on_what_was_spoken_before(voice):
    first = speak(TEXT, voice)
    speak("something else entirely", EspeakVoice("en-us-nyc", "f5", pitch=70, rate=170))
    speak("and a third thing", EspeakVoice("en-us", "whisper"))
    assert np.array_equal(speak(TEXT, voice), first)


def test_pitch_and_rate_change_the_sound():
    slow, fast = (speak(TEXT, EspeakVoice("en-us", "m3", rate=rate)) for rate in (100, 200))
    assert 1.5 < len(slow) / len(fast) < 2.5
    low, high = (speak(TEXT, EspeakVoice("en-us", "m3", pitch=pitch)) for pitch in (20, 80))
    assert not np.array_equal(low, high)


def test_the_name_of_a_voice_has_accent_variant_pitch_and_rate():
    assert EspeakVoice("en-us", "f3", pitch=45, rate=170).name == "en-us+f3-p45-r170"


def test_unknown_voice_is_named_and_not_replaced():
    with pytest.raises(AsrError, match=r"no voice xx-nowhere\+m1"):
        speak(TEXT, EspeakVoice("xx-nowhere", "m1"))


def test_silence_is_an_error():
    with pytest.raises(AsrError, match=r"'' by .* is silent"):
        speak("", EspeakVoice("en", "m1"))


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(AsrError, match=r"pip install '\.\[demo\]'"):
        speak(TEXT, EspeakVoice("en", "m1"))
