"""Finds the weights of a beam search by a grid search on given log-probabilities."""

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
    """Values that were tried together, and the word error rate they gave."""

    lm_weight: float
    word_bonus: float
    wer: float
    prior_weight: float = 0.0


def tune(
    log_probs: Sequence[npt.NDArray[np.floating]],
    rate: Rate,
    tokenizer: Tokenizer,
    options: DecoderOptions,
    weights: Sequence[float],
    bonuses: Sequence[float],
    prior_weights: Sequence[float] = (0.0,),
    *,
    priors: npt.NDArray[np.floating] | None = None,
) -> list[Trial]:
    """Decode all utterances once for each triple of the values; trials, the best one first.

    `log_probs` holds one array (frames, tokens) per utterance, `priors (tokens,)` are those of
    their network. `options` gives all options but the three; the language model is opened once.
    Of equally good trials the smaller values come first. Raises AsrError as `make_decoder` does.
    """
    lm = open_lm(options.lm)
    trials = []
    for prior, weight, bonus in product(prior_weights, weights, bonuses):
        tried = replace(options, lm_weight=weight, word_bonus=bonus, prior_weight=prior)
        decoder = make_decoder(tried, tokenizer, lm, priors)
        texts = [decoder.decode(rows)[0].text for rows in log_probs]
        trials.append(Trial(weight, bonus, rate(texts), prior))

    def order(trial: Trial) -> tuple[float, ...]:
        return trial.wer, trial.prior_weight, trial.lm_weight, abs(trial.word_bonus)

    return sorted(trials, key=order)


def table(trials: Sequence[Trial]) -> str:
    """WER in percent as text: for each prior weight a line for each weight, a column for each
    bonus."""
    weights = sorted({trial.lm_weight for trial in trials})
    bonuses = sorted({trial.word_bonus for trial in trials})
    wers = {(t.prior_weight, t.lm_weight, t.word_bonus): t.wer for t in trials}
    lines = []
    for prior in sorted({trial.prior_weight for trial in trials}):
        lines.append(f"prior_weight {prior:g}")
        lines.append("lm_weight" + "".join(f"{f'bonus {bonus:g}':>12}" for bonus in bonuses))
        for weight in weights:
            cells = "".join(f"{100 * wers[prior, weight, bonus]:>11.2f}%" for bonus in bonuses)
            lines.append(f"{weight:>9g}{cells}")
    return "\n".join(lines)


def at_edge(trials: Sequence[Trial]) -> list[str]:
    """Names of the options whose best value is the largest or the smallest that was tried."""
    edges = []
    for name in ("lm_weight", "word_bonus", "prior_weight"):
        values = sorted({getattr(trial, name) for trial in trials})
        best = getattr(trials[0], name)
        if len(values) > 1 and (best == values[-1] or (best == values[0] and best != 0)):
            edges.append(name)
    return edges
