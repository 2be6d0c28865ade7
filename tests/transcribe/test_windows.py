"""Streams of any network on overlapping windows: stable words stay, pieces do not matter."""

import numpy as np
import pytest

from asr.decode.hypothesis import Word
from asr.errors import AsrError
from asr.transcribe.stitch import words_behind
from asr.transcribe.windows import WindowCore, WindowOptions

RATE = 1000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def spoken(samples: np.ndarray) -> list[Word]:
    """A recogniser of steps: each run of a value n > 0 is the word of letter n, if it is whole.

    A run that the end of the window cuts is another word, and one that its beginning cuts too.
    """
    edges = np.flatnonzero(np.diff(samples, prepend=0, append=0))
    words = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        cut = first == 0 or last == len(samples)
        text = "CUT" if cut else LETTERS[int(samples[first]) - 1]
        words.append(Word(text, first / RATE, last / RATE, 0.5))
    return words


def recording(count: int, said: float = 0.3, pause: float = 0.1) -> np.ndarray:
    parts = [np.zeros(100)]
    for i in range(count):
        parts += [np.full(round(said * RATE), 1 + i % 26), np.zeros(round(pause * RATE))]
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("size", [20, 137, 500, 5000])
def test_every_word_is_given_once_whatever_the_pieces(size: int) -> None:
    core = WindowCore(spoken, RATE, WindowOptions(4.0, 0.5, 1.0))
    samples, stable = recording(60), list[Word]()
    for first in range(0, len(samples), size):
        new, provisional = core.push(samples[first : first + size])
        stable += new
        assert all(word.text != "CUT" for word in new)
        assert len(provisional) <= 5
    words = stable + core.finish()
    assert "".join(word.text for word in words) == (3 * LETTERS)[:60]
    assert [word.start for word in words] == pytest.approx([0.1 + 0.4 * i for i in range(60)])


def test_a_word_is_stable_when_it_ended_long_enough_ago() -> None:
    core = WindowCore(spoken, RATE, WindowOptions(4.0, 0.5, 1.0))
    seen, now = {}, 0.0
    samples = recording(20)
    for first in range(0, len(samples), 100):
        new, _ = core.push(samples[first : first + 100])
        now = min(first + 100, len(samples)) / RATE
        seen |= {word.end: now for word in new}
    assert len(seen) > 10
    for end, when in seen.items():
        assert 1.0 <= when - end < 1.6


def test_the_words_behind_one_begin_after_it_or_after_its_other_version() -> None:
    def word(text: str, start: float, end: float) -> Word:
        return Word(text, start, end, 0.5)

    last = word("CAT", 1.0, 1.4)
    again = [word("THE", 0.5, 0.9), word("CAT", 1.1, 1.5), word("SAT", 1.6, 2.0)]
    assert words_behind(last, again) == again[2:]
    other = [word("CAB", 1.1, 1.9), word("SAT", 2.0, 2.4)]
    assert words_behind(last, other) == other[1:]
    assert words_behind(last, [word("CAT", 4.0, 4.4)]) == [word("CAT", 4.0, 4.4)]
    twice = [word("CAT", 1.0, 1.2), word("CAT", 1.24, 1.44), word("SAT", 1.6, 2.0)]
    assert words_behind(word("CAT", 1.0, 1.2), twice) == twice[1:]
    assert words_behind(word("CAT", 1.24, 1.44), twice) == twice[2:]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window_seconds": 0.5}, "window_seconds=0.5: at least 1"),
        ({"step_seconds": 0.0}, "step_seconds=0.0: from 0.02 to half"),
        ({"step_seconds": 5.0}, "half of window_seconds=8"),
        ({"settle_seconds": 4.5}, "settle_seconds=4.5: from 0 to half"),
        ({"window_seconds": float("nan")}, "window_seconds=nan"),
    ],
)
def test_windows_that_make_no_sense_are_refused(values: dict, message: str) -> None:
    with pytest.raises(AsrError, match=message):
        WindowOptions(**values)
