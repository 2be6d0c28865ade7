"""`asr lm tune`: weights of a beam search with a language model, by word errors on a dev set."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.corpus import sources
from asr.corpus.manifest import Utterance
from asr.decode.library import native
from asr.decode.lm.tune import Trial, at_edge, table, tune
from asr.decode.options import DecoderOptions
from asr.errors import AsrError
from asr.evaluate.dataset import read_set
from asr.evaluate.wer import load_jiwer
from asr.files import atomic_write_text, check_writable, print_if_lost
from asr.plain import read_numbers
from asr.text.normalise import normalise
from asr.transcribe.recogniser import Recogniser, load_for_command

PRIORS = "0,0.3,0.5,0.7"
"""Prior weights to try."""


def lm_tune(
    model: str | Path,
    manifest: str,
    lm: Path,
    weights: str = "0.2,0.4,0.6,0.8,1.0",
    bonuses: str = "0,0.5,1,2",
    prior_weights: str | None = None,
    beam: int = 32,
    unknown_score: float = 0.0,
    threads: int | None = None,
    output: Path | None = None,
) -> str:
    """Try all weights, word bonuses and prior weights on a dev set; what to print.

    `weights`, `bonuses` and `prior_weights` are numbers with commas between them; None: PRIORS if
    the model file has priors of its tokens. The network runs once, the decoder once for each triple
    (`decode.lm.tune`). `output` gets the whole table. Raises AsrError for a set whose name says
    that it is for testing.
    """
    # Its own name: a folder above it may be called anything.
    if re.search(r"(?<![a-z])test(?![a-z])", sources.describe(manifest).lower()):
        raise AsrError(f"{manifest}: is a test set by its name; tune on a dev set")
    given = {"weights": weights, "bonuses": bonuses, "prior-weights": prior_weights or PRIORS}
    tried = {name: read_numbers(name, text, float) for name, text in given.items()}
    options = DecoderOptions("beam", beam=beam, lm=str(lm), unknown_score=unknown_score)
    check_writable(output)
    started = time.perf_counter()
    utterances = read_set(manifest)
    recogniser = load_for_command(model, threads, decoding=options)
    priors = recogniser.token_priors
    if prior_weights is None and priors is None:
        tried["prior-weights"] = [0.0]
    log_probs = run_set(recogniser, utterances)
    ran = time.perf_counter()
    rate = word_error_rate(utterances)
    tokenizer = recogniser.tokenizer
    trials = tune(log_probs, rate, tokenizer, options, *tried.values(), priors=priors)
    best = trials[0]
    lines = [
        table(trials),
        f"best on {manifest}: --lm-weight {best.lm_weight:g} --word-bonus {best.word_bonus:g} "
        f"--prior-weight {best.prior_weight:g}, WER {best.wer:.2%} over {len(utterances)} "
        f"utterances; network run in {ran - started:.1f} s, decoded {len(trials)} times in "
        f"{native()} in {time.perf_counter() - ran:.1f} s",
    ]
    lines += [
        f"{name}: the best value is the last one tried; try further" for name in at_edge(trials)
    ]
    if output is not None:
        with print_if_lost("\n".join(lines)):
            _write(output, trials)
    return "\n".join(lines)


def run_set(
    recogniser: Recogniser, utterances: Sequence[Utterance]
) -> list[npt.NDArray[np.float32]]:
    """Log-probabilities `(frames, tokens)` of every utterance: once, for many decodings.

    They are those that a transcription decodes; see `Recogniser.run`.
    """
    recordings = [utterance.source for utterance in utterances]
    return [log_probs for log_probs, _ in recogniser.run(recordings)]


def word_error_rate(utterances: Sequence[Utterance]) -> Callable[[list[str]], float]:
    """The word error rate of a text for each utterance, all in normal form."""
    jiwer = load_jiwer()
    references = [normalise(utterance.text) for utterance in utterances]

    def rate(texts: list[str]) -> float:
        return float(jiwer.wer(references, [normalise(text) for text in texts]))

    return rate


def _write(output: Path, trials: Sequence[Trial]) -> None:
    rows = [f"{t.lm_weight}\t{t.word_bonus}\t{t.prior_weight}\t{t.wer}" for t in trials]
    heading = "lm_weight\tword_bonus\tprior_weight\twer"
    atomic_write_text(output, "\n".join([heading, *rows]) + "\n")
