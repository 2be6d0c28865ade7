"""Priors of tokens: how probable each one is in a frame of which nothing is known.

CTC learns the letters' frequencies along with their sounds, and a language model counts them
again. So a beam search may divide the network's probabilities by a power of the priors, as hybrid
recognisers do (`DecoderOptions.prior_weight`; Miao et al. 2015, arXiv 1507.08240, where the priors
are counted in transcripts). Here they are the network's own mean over the frames of a dev set. A
training writes them into its model file, as `training.priors` of the metadata.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import AsrError

Floats = npt.NDArray[np.floating]

NAME = "priors"
"""Where they are in a model file: `training[NAME]`."""
_LEAST = 1e-4
"""A token that the network never writes would otherwise gain without bound."""


def token_priors(log_probs: Iterable[Floats]) -> Floats:
    """Mean probability of each token over all frames of `log_probs`, `(frames, tokens)` each.

    Raises AsrError if there are no frames.

    >>> token_priors([np.log([[0.5, 0.5], [0.75, 0.25]])]).tolist()
    [0.625, 0.375]
    """
    frames, total = 0, np.zeros(())
    for rows in log_probs:
        frames += len(rows)
        total = total + np.exp(np.asarray(rows, np.float64)).sum(0)
    if not frames:
        raise AsrError("no recording is long enough for a frame of the network")
    return np.asarray(total / frames)


def to_plain(priors: Floats) -> list[float]:
    """Values for JSON, to six decimals."""
    return [round(float(value), 6) for value in priors]


def from_plain(plain: Any, tokens: int) -> Floats | None:
    """The priors in a model file's metadata, or None. Raises AsrError if they are malformed."""
    if plain is None:
        return None
    try:
        priors = np.asarray(plain, np.float64)
    except (TypeError, ValueError, OverflowError):
        priors = np.zeros(0)
    if priors.shape != (tokens,) or not ((priors >= 0) & (priors <= 1)).all():
        raise AsrError(
            f"priors: must be {tokens} probabilities, one for each token; calibrate the model again"
        )
    return priors


def penalties(priors: Floats | None, weight: float) -> npt.NDArray[np.float32] | None:
    """What is subtracted from the log-probabilities of every frame, `(tokens,)`; None: nothing.

    Raises AsrError for a weight above 0 without priors.
    """
    if not weight:
        return None
    if priors is None:
        raise AsrError(
            f"prior_weight={weight:g}: the model file has no priors of its tokens; "
            "`asr calibrate MODEL DEV_SET` writes them"
        )
    return np.asarray(weight * np.log(np.maximum(priors, _LEAST)), np.float32)
