"""Word error rates for benchmarks of decoders and recognisers, and tuning of a language model.

Rates are fractions; those of a set and of a difference carry the bounds of a 95 % interval drawn
over speakers where at least five are known, else over utterances (`asr.evaluate.wer.speakers_of`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.decode import DecoderOptions
from asr.decode.lm.model import LanguageModel
from asr.decode.lm.tune import Trial, at_edge, tune
from asr.evaluate.compare import compare
from asr.evaluate.dataset import read_set
from asr.evaluate.tune import run_set
from asr.evaluate.wer import (
    RESAMPLES,
    Row,
    count_errors,
    load_jiwer,
    resampled,
    score,
    speakers_of,
)
from asr.model.info import describe
from asr.text.normalise import normalise
from asr.text.tokenizer import Tokenizer
from asr.transcribe.recogniser import load

WEIGHTS = (0.6, 0.8, 0.9, 1.0)
BONUSES = (-1.0, -0.5, 0.0, 0.5)
PRIOR_WEIGHTS = (0.0, 0.4, 0.6, 0.7, 0.8)
BEAM, AGAIN = 32, 6
"""Beam while the weights are tuned; number of best triples that a wider beam tries again."""


@dataclass(frozen=True)
class DevSet:
    """Log-probabilities of a set, and its references."""

    log_probs: list[np.ndarray]
    rows: list[Row]
    """Without hypotheses."""
    priors: np.ndarray | None
    """Of the network's tokens, if its file has them."""


def log_probs_of(model: Path, folders: Sequence[Path]) -> tuple[DevSet, Tokenizer]:
    """All recordings of some sets as one, run with one thread."""
    log_probs, rows = [], []
    recogniser = load(model, threads=1)
    for folder in folders:
        utterances = read_set(str(folder))
        log_probs += run_set(recogniser, utterances)
        rows += [Row(u.id, u.speaker, normalise(u.text), "") for u in utterances]
    return DevSet(log_probs, rows, recogniser.token_priors), recogniser.tokenizer


def tune_on(data: DevSet, tokenizer: Tokenizer, options: DecoderOptions) -> list[Trial]:
    """Try `options` with all WEIGHTS, BONUSES and PRIOR_WEIGHTS on a dev set; trials, best first.

    A network without priors is tried without them. A beam wider than BEAM is tried only with the
    AGAIN best triples of BEAM, which then come first: it takes many times longer, and the same
    triples are good for both.
    """
    references = [row.reference for row in data.rows]

    def tried(options: DecoderOptions, *values: Sequence[float]) -> list[Trial]:
        def rate(texts: list[str]) -> float:
            return score(references, [normalise(t) for t in texts], resamples=1).wer

        return tune(data.log_probs, rate, tokenizer, options, *values, priors=data.priors)

    priors = (0.0,) if data.priors is None else PRIOR_WEIGHTS
    trials = tried(replace(options, beam=min(options.beam, BEAM)), WEIGHTS, BONUSES, priors)
    if options.beam <= BEAM:
        return trials
    again = [
        tried(options, [t.lm_weight], [t.word_bonus], [t.prior_weight])[0] for t in trials[:AGAIN]
    ]
    return [*sorted(again, key=lambda trial: trial.wer), *trials[AGAIN:]]


def tuning_note(
    trials: Sequence[Trial], sets: Sequence[str], utterances: int, beam: int = BEAM
) -> str:
    """Which triple was chosen on which sets, and whether it lies at the edge of what was tried."""
    best = trials[0]
    edges = " and ".join(at_edge(trials))
    wide = f" (with a beam of {BEAM}, the best {AGAIN} again with {beam})" if beam > BEAM else ""
    return (
        f"Weight {best.lm_weight:g}, word bonus {best.word_bonus:g} and prior weight "
        f"{best.prior_weight:g} have the lowest WER on {' and '.join(sets)} together ({utterances} "
        f"utterances, {100 * best.wer:.1f} %), of weights {WEIGHTS[0]:g} to {WEIGHTS[-1]:g}, "
        f"bonuses {BONUSES[0]:g} to {BONUSES[-1]:g} and prior weights {PRIOR_WEIGHTS[0]:g} to "
        f"{PRIOR_WEIGHTS[-1]:g}{wide}{f'; {edges} at the edge of what was tried' if edges else ''}."
    )


def rate(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of one set: `wer`, `low` and `high`, `cer`, counts."""
    figures = score([r.reference for r in rows], [r.hypothesis for r in rows], speakers_of(rows))
    plain = figures.to_plain()
    return {**plain, "low": plain.pop("wer_low"), "high": plain.pop("wer_high")}


def character_rate(rows: Sequence[Row]) -> dict[str, float]:
    """Character error rate of one set as `value`, with `low` and `high`."""
    found = load_jiwer().process_characters(
        [r.reference for r in rows], [r.hypothesis for r in rows]
    )
    counts = list(map(count_errors, found.references, found.alignments))
    columns = [np.array([c.total for c in counts]), np.array([c.words for c in counts])]
    errors, characters = resampled(columns, speakers_of(rows), 1, RESAMPLES)
    low, high = np.quantile(errors / np.maximum(characters, 1), [0.025, 0.975])
    return {"value": float(found.cer), "low": float(low), "high": float(high)}


def change(first: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
    """WER of `rows` minus that of `first`, with the interval of a paired bootstrap."""
    found = compare(first, rows)
    return {"wer": found.difference, "low": found.low, "high": found.high, "p": found.p}


def model_details(path: Path) -> dict[str, Any]:
    """Bytes, parameters and non-zeros of a model file."""
    found = describe(path)
    return {
        "bytes": found.bytes,
        "values": found.values,
        "parameters": found.parameters.elements,
        "nonzeros": found.parameters.nonzeros,
    }


def lm_details(path: str, lm: LanguageModel) -> dict[str, Any]:
    """Size of a language model."""
    return {"order": lm.order, "ngrams": list(lm.counts), "bytes": Path(path).stat().st_size}
