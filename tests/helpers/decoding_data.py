"""Noisy log-probabilities of texts, and a small language model, for tests of decoders."""

import itertools
from pathlib import Path

import numpy as np

from asr.decode.lm.build import build_model
from asr.decode.lm.file import write_lm
from asr.decode.lm.model import LanguageModel
from asr.decode.lm.train import number_words, train_ngrams
from asr.text.tokenizer import Tokenizer

SENTENCES = [
    "THE CAT SAT ON THE MAT",
    "THE CAT SAT ON THE HAT",
    "A CAT IS ON THE MAT",
    "THE DOG SAT BY THE DOOR",
    "THE DOG RAN TO THE DOOR",
    "A MAN SAT ON A BENCH",
    "THE MAN RAN TO THE CAT",
    "IT IS ON THE MAT",
] * 3


def small_model(order: int = 3) -> LanguageModel:
    """A 3-gram model of SENTENCES."""
    return build_model(train_ngrams(number_words(SENTENCES), order, (1,)).ngrams)


def write_small_model(folder: Path) -> str:
    """The same model in a file, with weights rounded to 8 bits."""
    write_lm(folder / "small.lm", small_model())
    return str(folder / "small.lm")


def random_log_probs(frames: int, tokens: int, seed: int, spread: float = 2.0) -> np.ndarray:
    """Random rows of log-probabilities; the probabilities of a row sum to one."""
    return _normalised(np.random.default_rng(seed).normal(size=(frames, tokens)) * spread)


def spoken_log_probs(text: str, tokenizer: Tokenizer, seed: int, noise: float) -> np.ndarray:
    """Log-probabilities as of a network for `text`: one or two frames per token, a blank, noise."""
    generator = np.random.default_rng(seed)
    path = []
    for token in tokenizer.encode(text):
        path += [token] * int(generator.integers(1, 3)) + [0]
    rows = generator.normal(size=(len(path), tokenizer.size)) * noise
    rows[np.arange(len(path)), path] += 6.0
    return _normalised(rows)


def _normalised(rows: np.ndarray) -> np.ndarray:
    return (rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))).astype(np.float32)


def table(frames: int, tokens: int, seed: int, sharpness: float = 3.0) -> np.ndarray:
    """Log-probabilities `(frames, tokens)` drawn from `seed`."""
    logits = sharpness * np.random.default_rng(seed).standard_normal((frames, tokens))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def collapse(path: tuple[int, ...]) -> list[int]:
    return [token for token, _ in itertools.groupby(path) if token]
