"""Cues stay within every limit, break at pauses, and lose no words."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode.hypothesis import Word
from asr.errors import AsrError
from asr.transcribe.subtitles import Cue, SubtitleOptions, cues, layout


def spoken(text: str, start: float = 0.0, each: float = 0.3, gap: float = 0.1) -> list[Word]:
    """Words that follow each other evenly."""
    step = each + gap
    return [
        Word(word, start + i * step, start + i * step + each, 0.9)
        for i, word in enumerate(text.split())
    ]


def text_of_cues(found: list[Cue]) -> str:
    return " ".join(" ".join(cue.lines) for cue in found)


def test_a_short_sentence_is_one_line_from_its_first_word_to_its_last() -> None:
    assert cues(spoken("HELLO THERE YOU", start=1.0)) == [Cue(1000, 2100, ("HELLO THERE YOU",))]


def test_a_cue_stays_long_enough_to_be_read() -> None:
    assert cues(spoken("NO", start=1.0)) == [Cue(1000, 2000, ("NO",))]
    near = [*spoken("NO", start=1.0), *spoken("YES", start=1.8)]
    [first, second] = cues(near, SubtitleOptions(pause=0.4))
    assert (first.start_ms, first.end_ms) == (1000, 1720), "it ends a gap before the next"
    assert second.start_ms == 1800


def test_two_lines_are_about_equally_long() -> None:
    [cue] = cues(spoken("THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS AWAY"))
    assert cue.lines == ("THE QUICK BROWN FOX JUMPS OVER", "THE LAZY DOG AND RUNS AWAY")


def test_a_break_falls_on_a_pause_and_not_in_the_middle_of_a_phrase() -> None:
    phrases = [
        "WE WENT HOME BY THE OLD ROAD",
        "IT WAS ALREADY DARK AND IT BEGAN TO RAIN",
        "NOBODY SAID A WORD TO US BEFORE WE HAD COME IN",
    ]
    words, at = [], 0.0
    for phrase in phrases:
        words += spoken(phrase, at, each=0.2, gap=0.05)
        at = words[-1].end + 0.5
    found = cues(words, SubtitleOptions(max_seconds=4.0))
    assert [" ".join(cue.lines) for cue in found] == phrases
    evenly = cues(spoken(" ".join(phrases), each=0.2, gap=0.05), SubtitleOptions(max_seconds=4.0))
    assert [" ".join(cue.lines) for cue in evenly] != phrases


def test_a_long_silence_always_ends_a_cue() -> None:
    words = [*spoken("ONE", 0.0), *spoken("TWO", 1.9)]
    assert len(cues(words)) == 2
    assert len(cues(words, SubtitleOptions(pause=2.0))) == 1


def test_no_cue_is_longer_than_seven_seconds() -> None:
    found = cues(spoken("SLOW " * 30, each=0.8, gap=0.4))
    assert max(cue.end_ms - cue.start_ms for cue in found) <= 7000
    assert [*cues([Word("EEEE", 0.0, 30.0, 0.5)])] == [Cue(0, 7000, ("EEEE",))]


def test_a_word_longer_than_a_line_is_split() -> None:
    found = cues([Word("A" * 100, 0.0, 10.0, 0.5)])
    assert "".join(line for cue in found for line in cue.lines) == "A" * 100
    assert all(len(line) <= 42 for cue in found for line in cue.lines)


def test_no_words_give_no_cues() -> None:
    assert cues([]) == []


def test_a_thousand_words_without_a_pause_are_split_in_a_moment() -> None:
    found = cues(spoken("ONWARD " * 5000, each=0.2, gap=0.05))
    assert text_of_cues(found).split() == ["ONWARD"] * 5000


@st.composite
def transcripts(draw: st.DrawFn) -> list[Word]:
    words, at = [], 0.0
    for _ in range(draw(st.integers(0, 40))):
        at += draw(st.sampled_from([0.0, 0.0, 0.02, 0.1, 0.7, 5.0]))
        size = draw(st.sampled_from([0.0, 0.04, 0.2, 0.9, 9.0]))
        text = draw(st.text(st.sampled_from("ABC-'"), min_size=1, max_size=60))
        words.append(Word(text, at, at + size, 0.5))
        at += size
    return words


@settings(max_examples=60, deadline=None)
@given(
    transcripts(),
    st.builds(
        SubtitleOptions,
        line_length=st.integers(8, 50),
        lines=st.integers(1, 3),
        max_seconds=st.sampled_from([1.0, 3.0, 7.0]),
        min_seconds=st.sampled_from([0.0, 1.0]),
        min_gap=st.sampled_from([0.0, 0.08]),
    ),
)
def test_limits_hold_for_any_words(words: list[Word], options: SubtitleOptions) -> None:
    found = cues(words, options)
    assert text_of_cues(found).replace(" ", "") == "".join(word.text for word in words)
    for cue in found:
        assert 1 <= len(cue.lines) <= options.lines
        assert all(0 < len(line) <= options.line_length for line in cue.lines)
        assert 0 < cue.end_ms - cue.start_ms <= options.max_seconds * 1000
    for before, after in pairwise(found):
        assert after.start_ms - before.end_ms >= options.min_gap * 1000


def test_a_text_takes_as_few_lines_as_it_needs() -> None:
    assert layout("ONE TWO", SubtitleOptions(line_length=8)) == ("ONE TWO",)
    assert layout("ONE TWO SIX", SubtitleOptions(line_length=8)) == ("ONE TWO", "SIX")


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        ({"line_length": 3}, "line_length=3: at least 8"),
        ({"lines": 0}, "lines=0: at least 1"),
        ({"max_seconds": 0.1}, "max_seconds=0.1: at least 0.5"),
        ({"min_seconds": 8.0}, "min_seconds=8.0: from 0 to max_seconds"),
        ({"min_gap": -1.0}, "min_gap=-1.0: from 0 to 1"),
        ({"pause": 0.0}, "pause=0.0: above 0"),
    ],
)
def test_impossible_limits_are_refused(values: dict, fragment: str) -> None:
    with pytest.raises(AsrError, match=fragment):
        SubtitleOptions(**values)
