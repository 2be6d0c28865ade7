"""Several synthesisers in one corpus: voices of each part, reproducibility, missing ones."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from asr.corpus.check import Criteria, check
from asr.corpus.manifest import read_manifest
from asr.corpus.spoken import build as spoken
from asr.corpus.spoken import espeak, synthesisers
from asr.corpus.spoken.settings import PARTS, Part, Spoken
from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.settings.yaml import load
from asr.text.tokenizer import CharacterTokenizer


@dataclass(frozen=True)
class BuzzVoice:
    hertz: int
    seconds: float = 0.1

    @property
    def name(self) -> str:
        return f"buzz-{self.hertz}"

    def slower(self, factor: float) -> "BuzzVoice":
        return replace(self, seconds=self.seconds / factor)


class Buzz:
    """A synthesiser with two voices, for train only, that buzzes for every letter."""

    SAMPLE_RATE = 8000
    installed = True

    def voices(self, part: Part, seed: int) -> Sequence[BuzzVoice]:
        return [BuzzVoice(100 + seed), BuzzVoice(200 + seed)] if part == "train" else []

    def speak(self, text: str, voice: BuzzVoice) -> np.ndarray:
        time = np.arange(round(len(text) * voice.seconds * self.SAMPLE_RATE)) / self.SAMPLE_RATE
        return (0.5 * np.sign(np.sin(2 * np.pi * voice.hertz * time + 0.1))).astype(np.float32)

    def require(self) -> None:
        if not self.installed:
            raise AsrError("buzz is not installed: pip install buzz")


@pytest.fixture(autouse=True)
def buzz(monkeypatch: pytest.MonkeyPatch) -> Buzz:
    """A second synthesiser of the corpus, beside espeak."""
    made = Buzz()
    monkeypatch.setitem(synthesisers.SYNTHESISERS, "buzz", made)
    return made


BOTH = Spoken(synthesisers=["espeak", "buzz"])


def drawn(settings: Spoken, count: int = 900) -> Counter[str]:
    return Counter(line.synthesiser for line in islice(spoken.lines("train", settings), count))


def test_training_sentences_draw_a_synthesiser_with_equal_fractions():
    counts = drawn(BOTH)
    assert sum(counts.values()) == 900
    assert all(400 < counts[name] < 500 for name in ("espeak", "buzz"))


def test_one_that_is_named_twice_is_drawn_twice_as_often():
    counts = drawn(Spoken(synthesisers=["espeak", "buzz", "espeak"]))
    assert 550 < counts["espeak"] < 650
    assert counts["buzz"] == 900 - counts["espeak"]


def test_parts_without_voices_of_a_synthesiser_use_only_the_others():
    for part in ("dev", "test"):
        alone, several = (islice(spoken.lines(part, s), 100) for s in (Spoken(), BOTH))
        assert list(alone) == list(several)


def test_all_voices_speak_and_have_different_numbers():
    lines = list(islice(spoken.lines("train", BOTH), 1500))
    names = {line.speaker: line.voice.name for line in lines}
    assert {line.speaker: line.voice.name for line in reversed(lines)} == names
    assert len(set(names.values())) == len(names)
    buzzing, speaking = ({v.name for v in s.voices("train", 1)} for s in (Buzz(), espeak))
    assert buzzing <= set(names.values()) <= buzzing | speaking


def test_voices_of_one_seed_are_the_same_and_another_seed_gives_others():
    for part in PARTS:
        one, two = (espeak.voices(part, seed) for seed in (1, 2))
        assert len({voice.name for voice in one}) > 20
        assert one == espeak.voices(part, 1)
        assert one != two


def test_the_folder_is_named_for_the_fractions_and_not_for_how_they_are_written():
    def name(*names: str) -> str:
        return spoken.folder_of(Spoken(synthesisers=list(names))).name

    assert name("espeak") == name("espeak", "espeak") == "small-1h-0.1h-0.3h-seed1-v1"
    assert name("buzz", "espeak") == "small-espeak-buzz-1h-0.1h-0.3h-seed1-v1"
    assert name("espeak", "buzz", "espeak").startswith("small-espeak2-buzz-1h")
    assert name("buzz", "buzz") == name("buzz") != name("espeak")
    lines = [
        list(islice(spoken.lines("train", Spoken(synthesisers=names)), 50))
        for names in (["buzz", "espeak"], ["espeak", "buzz", "espeak", "buzz"])
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("part", ["dev", "test"])
def test_parts_without_any_voice_are_refused(tmp_path, part):
    with pytest.raises(AsrError, match=rf"spoken:{part}: .*\(buzz\).*add espeak"):
        spoken.ensure(part, Spoken(synthesisers=["buzz"]), tmp_path)
    assert not os.listdir(tmp_path)


def test_unknown_or_no_synthesiser_is_refused():
    with pytest.raises(AsrError, match=r"expected one of 'espeak'.*, found 'festival'"):
        load(Spoken, None, ["synthesisers=[espeak,festival]"])
    with pytest.raises(AsrError, match="name at least one"):
        Spoken(synthesisers=[])


def test_a_missing_synthesiser_only_stops_the_parts_that_need_it(tmp_path, buzz):
    buzz.installed = False
    settings = replace(BOTH, dev_hours=0.002)
    with pytest.raises(AsrError, match="pip install buzz"):
        spoken.ensure("train", settings, tmp_path)
    assert not os.listdir(tmp_path)
    assert spoken.ensure("dev", settings, tmp_path).is_file()


def test_speech_comes_at_the_rate_of_the_corpus():
    samples = synthesisers.speak("buzz", "ten letter", BuzzVoice(100))
    assert samples.dtype == np.float32
    assert len(samples) == synthesisers.SAMPLE_RATE
    slow = synthesisers.speak("buzz", "ten letter", BuzzVoice(100).slower(0.5))
    assert len(slow) == 2 * len(samples)
    voice = espeak.EspeakVoice("en-us", "m3")
    samples = synthesisers.speak("espeak", "the small dog saw seven boats", voice)
    natural = len(espeak.speak("the small dog saw seven boats", voice)) / espeak.SAMPLE_RATE
    assert len(samples) / synthesisers.SAMPLE_RATE == pytest.approx(natural, abs=1e-3)


def test_a_slower_espeak_voice_takes_longer():
    voice = espeak.EspeakVoice("en-us", "m3", rate=150)
    natural, slow = (
        synthesisers.speak("espeak", "the small dog", v) for v in (voice, voice.slower(0.7))
    )
    assert 1.2 < len(slow) / len(natural) < 1.7


def test_a_corpus_of_several_is_usable_and_made_again_has_the_same_bytes(tmp_path):
    settings = replace(BOTH, train_hours=0.01)
    one = spoken.ensure("train", settings, tmp_path / "one")
    utterances = read_manifest(one)
    assert {u.speaker for u in utterances if u.speaker[:2] != "en"} == {"buzz-101", "buzz-201"}
    assert any(u.speaker.startswith("en") for u in utterances)
    frontend = Frontend()
    criteria = Criteria(
        frontend.sample_rate, frontend.frames, Model().output_length, speed=1.1, decode=True
    )
    report = check(utterances, CharacterTokenizer(), criteria)
    assert not report.problems
    two = spoken.ensure("train", settings, tmp_path / "two")
    assert two.read_bytes() == one.read_bytes()
    for u, v in zip(utterances, read_manifest(two), strict=True):
        assert Path(u.audio_filepath).read_bytes() == Path(v.audio_filepath).read_bytes()
    with pytest.raises(AsrError, match=r"synthesisers=\['espeak', 'buzz'\] instead of None"):
        spoken.ensure("train", replace(settings, synthesisers=["espeak"], folder=str(one.parent)))
