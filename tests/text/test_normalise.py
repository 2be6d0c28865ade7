"""The normal form of texts."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.text.normalise import normalise
from asr.text.tokenizer import CharacterTokenizer, UnknownCharacters

SOON = settings(deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", "HELLO WORLD"),
        ("don\u2019t  stop\t\n", "DON'T STOP"),
        ("DON\u02bcT", "DON'T"),
        ("crème brûlée, Straße, Ærø, naïve", "CREME BRULEE STRASSE AERO NAIVE"),
        (unicodedata.normalize("NFD", "Zoë"), "ZOE"),
        ("well-known \u2014 half\u2013done", "WELL KNOWN HALF DONE"),
        ("wait\u2026what...now", "WAIT WHAT NOW"),
        ("and/or yes,sir", "AND OR YES SIR"),
        ("the U.S. (so-called)", "THE US SO CALLED"),
        ("\u201cquoted\u201d ``twice'' ' alone", "QUOTED TWICE ALONE"),
        ("'Tis the dogs' bowl", "'TIS THE DOGS' BOWL"),
        ("co\u00adoperate\ufeff\u200b \u266a la \u266a", "COOPERATE LA"),
        ("\ufb01ne \uff21\uff22", "FINE AB"),
        (" \t\n ", ""),
        ("", ""),
    ],
)
def test_normalise_en_v1(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Room 5", "ROOM 5"), ("R&D at 3%", "R&D AT 3%"), ("£5", "£5"), ("да", "ДА")],
)
def test_digits_and_signs_that_are_spoken_stay_and_are_refused(text: str, expected: str) -> None:
    assert normalise(text) == expected
    with pytest.raises(UnknownCharacters):
        CharacterTokenizer().encode(normalise(text))


@SOON
@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


def test_unknown_normalisation_names_those_that_exist() -> None:
    with pytest.raises(AsrError, match=r"'en-v9' is unknown; known: en-v1"):
        normalise("a", "en-v9")
