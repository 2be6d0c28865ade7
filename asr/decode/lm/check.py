"""What a search relies on in a language model that came from a file.

The C search reads the arrays without looking at their bounds, so a damaged or hostile file must be
refused before the search sees it.
"""

import struct

import numpy as np

from asr.decode.lm.model import LanguageModel

DAMAGE = (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError, struct.error)
"""What reading a damaged or hostile header can raise: infinite numbers, deep nesting."""


def check_model(model: LanguageModel) -> None:
    """Check that every index is in range and that every chain of lower states ends in state 0.

    Raises ValueError with the name of the array that is wrong.
    """
    states, arcs, size = len(model.lowers), len(model.words), model.size
    if not (
        states > 0
        and len(model.first) == states + 1
        and len(model.backoffs) == states
        and len(model.logs) == len(model.nexts) == arcs
        and len(model.hash_words) == size
        and len(model.prefixes) == len(model.prefix_logs)
    ):
        raise ValueError("its arrays do not fit together")
    first = model.first
    if first[0] != 0 or first[-1] != arcs or (first[1:] < first[:-1]).any():
        raise ValueError("first: not rising")
    # Backing off ends in state 0, where the search takes the arc of a word without looking for it.
    if first[1] != size or (model.words[:size] != np.arange(size)).any():
        raise ValueError("words: not every word has an arc")
    # A lower state comes before its state, or backing off could go round in a circle.
    if model.lowers[0] != 0 or (model.lowers[1:] >= np.arange(1, states)).any():
        raise ValueError("lowers: not falling")
    if model.nexts.max() >= states or model.words.max() >= size or model.hash_words.max() >= size:
        raise ValueError("an index is out of range")
    if not all(0 <= getattr(model, name) < size for name in ("bos", "eos", "unknown")):
        raise ValueError("a special word is out of range")
    for name in ("hashes", "prefixes"):
        hashes = getattr(model, name)
        if (hashes[1:] <= hashes[:-1]).any():
            raise ValueError(f"{name}: not rising")
    scores = (model.logs, model.backoffs, model.prefix_logs)
    if not all(bool(np.isfinite(score).all()) for score in scores):
        raise ValueError("a score is not finite")
