"""Finds weight and word bonus of a language model by a grid search on given log-probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from asr.decode.decoder import make_decoder
from asr.decode.lm.open import open_lm
from asr.decode.options import DecoderOptions
from asr.text.tokenizer import Tokenizer

Rate = Callable[[list[str]], float]
"""Function from the hypotheses of all utterances to their word error rate, as a fraction."""


@dataclass(frozen=True)
class Trial:
    """One pair of values and the word error rate it gave."""

    lm_weight: float
    word_bonus: float
    wer: float


def tune(
    log_probs: Sequence[npt.NDArray[np.floating]],
    rate: Rate,
    tokenizer: Tokenizer,
    options: DecoderOptions,
    weights: Sequence[float],
    bonuses: Sequence[float],
) -> list[Trial]:
    """Decode all utterances once for each pair of weight and bonus; trials, the best one first.

    `log_probs` holds one array (frames, tokens) per utterance. `options` gives all options but the
    two; the language model is opened once. Of equally good trials the smaller values come first.
    """
    lm = open_lm(options.lm)
    trials = []
    for weight, bonus in product(weights, bonuses):
        tried = replace(options, lm_weight=weight, word_bonus=bonus)
        decoder = make_decoder(tried, tokenizer, lm)
        texts = [decoder.decode(rows)[0].text for rows in log_probs]
        trials.append(Trial(weight, bonus, rate(texts)))
    return sorted(trials, key=lambda trial: (trial.wer, trial.lm_weight, abs(trial.word_bonus)))


def table(trials: Sequence[Trial]) -> str:
    """WER in percent as a text table: a line for each weight, a column for each bonus."""
    weights = sorted({trial.lm_weight for trial in trials})
    bonuses = sorted({trial.word_bonus for trial in trials})
    wers = {(trial.lm_weight, trial.word_bonus): trial.wer for trial in trials}
    lines = ["lm_weight" + "".join(f"{f'bonus {bonus:g}':>12}" for bonus in bonuses)]
    for weight in weights:
        cells = "".join(f"{100 * wers[weight, bonus]:>11.2f}%" for bonus in bonuses)
        lines.append(f"{weight:>9g}{cells}")
    return "\n".join(lines)


def at_edge(trials: Sequence[Trial]) -> list[str]:
    """Names of the options whose best value is the largest or the smallest that was tried."""
    edges = []
    for name in ("lm_weight", "word_bonus"):
        values = sorted({getattr(trial, name) for trial in trials})
        best = getattr(trials[0], name)
        if len(values) > 1 and (best == values[-1] or (best == values[0] and best != 0)):
            edges.append(name)
    return edges
