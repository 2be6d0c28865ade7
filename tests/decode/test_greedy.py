"""Greedy CTC decoding against a plain loop."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode.greedy import best_path, decode
from asr.text.tokenizer import CharacterTokenizer


def plain_loop(log_probs: np.ndarray, blank: int) -> list[int]:
    """The definition, one frame after the other."""
    tokens, previous = [], None
    for frame in log_probs.tolist():
        best = frame.index(max(frame))
        if best not in (previous, blank):
            tokens.append(best)
        previous = best
    return tokens


def frames(tokens: list[int], size: int = 29) -> np.ndarray:
    """Log-probabilities whose best path is `tokens`."""
    log_probs = np.full((len(tokens), size), -5.0, np.float32)
    log_probs[np.arange(len(tokens)), tokens] = -0.1
    return log_probs


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(0, 3))
def test_best_path_is_that_of_a_plain_loop(seed: int, length: int, blank: int) -> None:
    # Whole numbers from a small range: most frames have equally probable tokens.
    log_probs = np.random.default_rng(seed).integers(-3, 0, (length, 4)).astype(np.float32)
    assert best_path(log_probs, blank) == plain_loop(log_probs, blank)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([0, 3, 3, 0, 3, 4, 4], [3, 3, 4]),
        ([3, 3, 3], [3]),
        ([0, 0], []),
        ([], []),
        ([5], [5]),
    ],
)
def test_repeats_collapse_unless_there_is_a_blank_between(
    tokens: list[int], expected: list[int]
) -> None:
    assert best_path(frames(tokens)) == expected


def test_frames_beyond_a_length_are_not_read() -> None:
    tokenizer = CharacterTokenizer()
    alphabet = tokenizer.encode("HELLO THERE")
    tokens = [t for token in alphabet for t in (token, token, 0)]
    long = frames(tokens)
    short = frames(tokenizer.encode("NO") + tokenizer.encode("X") * (len(tokens) - 2))
    short[2:] = np.nan
    batch = np.stack([long, short, long])
    assert decode(batch, [len(tokens), 2, 0], tokenizer) == ["HELLO THERE", "NO", ""]
    assert decode(batch, np.array([len(tokens), 2, 6]), tokenizer) == ["HELLO THERE", "NO", "HE"]


def test_a_batch_that_does_not_fit_the_tokenizer_is_an_assertion() -> None:
    with pytest.raises(AssertionError):
        decode(np.zeros((1, 2, 30)), [2], CharacterTokenizer())


def test_decoding_loads_no_torch() -> None:
    code = "import sys, asr.text.tokenizer, asr.decode.greedy; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
