"""Silence changes nothing about the words; a stream is normalised as it comes."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr.features.normalise
from asr.features.logmel import features
from asr.features.logmel_torch import features as torch_features
from asr.features.normalise import levels, normalise, normalise_running
from asr.features.settings import Frontend

RATE = 16000
SPEECH, RUNNING = Frontend(), Frontend(normalise="running")
PLAIN = Frontend(normalise="none")


def spoken(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Bursts of coloured noise over a quiet background, which is what levels see of speech."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    loud = np.clip(np.sin(2 * np.pi * 2.5 * time + seed), 0, 1) ** 2
    sound = np.convolve(random.standard_normal(len(time)), [1, 0.7, 0.4], "same")
    return (0.1 * loud * sound + 1e-3 * random.standard_normal(len(time))).astype(np.float32)


def zeros(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def tone(seconds: float) -> np.ndarray:
    count = round(seconds * RATE)
    return (1e-3 * np.random.default_rng(9).standard_normal(count)).astype(np.float32)


@pytest.mark.parametrize("sound", [zeros, tone], ids=["zeros", "room tone"])
@pytest.mark.parametrize(("before", "behind"), [(0, 2), (0, 8), (4, 0), (4, 4), (0.5, 30)])
def test_silence_around_the_words_leaves_their_features_nearly_as_they_are(sound, before, behind):
    words = spoken()
    alone = features(words, SPEECH)
    padded = features(np.concatenate([sound(before), words, sound(behind)]), SPEECH)
    start = round(before / SPEECH.step_seconds)
    inside = padded[start : start + len(alone)]
    assert np.sqrt(np.square(inside - alone).mean()) < 0.2
    # Statistics over all frames move them by most of a deviation, and more with more silence.
    whole = replace(SPEECH, normalise="utterance")
    moved = features(np.concatenate([sound(before), words, sound(behind)]), whole)
    changed = moved[start : start + len(alone)] - features(words, whole)
    assert np.sqrt(np.square(changed).mean()) > 0.3


@pytest.mark.parametrize("depth", [20, 25, 30])
def test_a_noise_gate_leaves_what_is_above_it_nearly_as_it_is(depth):
    words = spoken()
    level = levels(features(words, PLAIN))
    opened = np.repeat(level > level.max() - depth, SPEECH.step)
    opened = np.pad(opened, (0, len(words) - len(opened)), mode="edge")
    closed = features(np.where(opened, words, 0).astype(np.float32), SPEECH)
    loud = level > level.max() - depth / 2
    assert np.abs((closed - features(words, SPEECH))[loud]).mean() < 0.6
    assert closed.min() > -6


@pytest.mark.parametrize("decibels", [-20, -10, 10, 20])
def test_each_of_two_speakers_is_normalised_by_their_own_level(decibels):
    words, gain = spoken(8.0), np.float32(10 ** (decibels / 20))
    both = features(np.concatenate([words, gain * spoken(8.0, seed=1)]), SPEECH)
    first, second = both[100:500], both[1100:1500]
    assert abs(first.mean() - second.mean()) < 0.5


@pytest.mark.parametrize("kind", ["utterance", "speech", "running"])
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_digital_silence_has_no_infinities_and_nothing_loud(kind, value):
    found = features(np.full(RATE, value, np.float32), replace(SPEECH, normalise=kind))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 6
    if kind != "running" and not value:
        assert not found.any()


@pytest.mark.parametrize("kind", ["speech", "running"])
@pytest.mark.parametrize("samples", [400, 559, 560, 4000])
def test_the_shortest_recordings_are_normalised(kind, samples):
    found = features(spoken()[:samples], replace(SPEECH, normalise=kind))
    assert found.shape == (SPEECH.frames(samples), 80)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("kind", ["speech", "running"])
@pytest.mark.parametrize("silence", [0, 1, 5])
def test_both_front_ends_normalise_alike(kind, silence):
    samples = np.concatenate([spoken(), zeros(silence)])
    front = replace(SPEECH, normalise=kind)
    expected = torch_features(samples, front).numpy()
    np.testing.assert_allclose(features(samples, front), expected, atol=1e-4, rtol=0)


def test_speech_has_about_mean_0_and_deviation_1():
    found = features(spoken(20.0), SPEECH)
    assert np.abs(found.mean(axis=0)).max() < 0.05
    assert np.abs(found.std(axis=0) - 1).max() < 0.05


def test_a_click_does_not_hide_the_words():
    words = spoken()
    clicked = words.copy()
    clicked[100:110] = 30 * np.abs(words).max()
    quiet = slice(10, None)
    difference = features(clicked, SPEECH)[quiet] - features(words, SPEECH)[quiet]
    assert np.sqrt(np.square(difference).mean()) < 0.2


STREAM = np.concatenate(
    [spoken(2.0), zeros(1.0), spoken(4.0, seed=1) * np.float32(0.1), tone(1.0), spoken(3.0, seed=2)]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=60))
def test_a_stream_is_normalised_alike_however_it_is_split(sizes):
    rows = features(STREAM, PLAIN)
    whole, _ = normalise_running(rows, RUNNING)
    parts, state, reached = [], None, 0
    for size in [*sizes, len(rows)]:
        part, state = normalise_running(rows[reached : reached + size], RUNNING, state)
        parts.append(part)
        reached += size
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("frame", [50, 300, 700])
def test_a_running_normalisation_never_looks_ahead(frame):
    rows = features(STREAM, PLAIN)
    whole, _ = normalise_running(rows, RUNNING)
    rows[frame:] = 5.0
    changed, _ = normalise_running(rows, RUNNING)
    np.testing.assert_array_equal(changed[:frame], whole[:frame])


def test_a_running_normalisation_forgets_silence_but_no_speech_during_it():
    words = spoken(6.0)
    rows = features(np.concatenate([words, zeros(20), words]), PLAIN)
    found, _ = normalise_running(rows, RUNNING)
    again = found[-500:]
    without, _ = normalise_running(features(np.concatenate([words, words]), PLAIN), RUNNING)
    assert np.sqrt(np.square(again - without[-500:]).mean()) < 0.1


def test_normalise_none_changes_nothing():
    rows = features(spoken(), PLAIN)
    same = rows.copy()
    normalise(rows, PLAIN)
    np.testing.assert_array_equal(rows, same)


def test_the_example_in_the_docstring_runs():
    found = doctest.testmod(asr.features.normalise)
    assert found.attempted
    assert not found.failed
