"""Calibrates word confidences on a dev set: a word of confidence 0.8 is right in 80 % of cases.

The map from raw to calibrated confidence is written into the model file itself, as
`training.confidence` of its metadata, and beside it the priors of the tokens, as
`training.priors`. So no second file is needed, and a packed copy made later has them too. The
weights stay as they are, bit by bit.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.decode import DecoderOptions, priors
from asr.decode.confidence import (
    Reliability,
    calibration_error,
    fit,
    reliability,
    reliability_table,
    separation,
)
from asr.errors import AsrError
from asr.evaluate.dataset import read_set
from asr.evaluate.tune import run_set
from asr.evaluate.wer import load_jiwer
from asr.files import check_writable, print_if_lost
from asr.model.file import copy_with_training
from asr.pretrained import registry
from asr.text.normalise import normalise
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load_for_command

NAME = "confidence"
"""Where the map is in a model file: `training[NAME]`."""


@dataclass(frozen=True)
class ScoredWords:
    """Words of many hypotheses: the confidence of each (0 to 1), and whether it is right."""

    confidences: npt.NDArray[np.floating]
    right: npt.NDArray[np.bool_]

    def rows(self, bins: int = 10) -> list[Reliability]:
        """The reliability table's rows."""
        return reliability(self.confidences, self.right, bins)

    def __str__(self) -> str:
        rows = self.rows()
        return (
            f"{len(self.right)} words, {100 * self.right.mean():.1f} % right; calibration error "
            f"{100 * calibration_error(rows):.1f} %; a right word is more confident than a wrong "
            f"one in {100 * separation(self.confidences, self.right):.1f} %"
        )


def score_words(
    recogniser: Recogniser, source: str, decoding: DecoderOptions | None = None
) -> ScoredWords:
    """Transcribe a manifest, a folder or `spoken:dev`: confidence and rightness of all words.

    A word is right where jiwer aligns it with the same word of the reference, both in normal
    form. Confidences are calibrated if the recogniser is. `decoding` None: the recogniser's own.
    Raises AsrError if no word is recognised.
    """
    utterances = read_set(source)
    sources = [utterance.source for utterance in utterances]
    options = TranscribeOptions(decoding=decoding)
    confidences: list[float] = []
    right: list[bool] = []
    for utterance, transcript in zip(
        utterances, recogniser.transcribe(sources, options), strict=True
    ):
        confidences += [word.confidence for word in transcript.words]
        right += words_right(normalise(utterance.text), [word.text for word in transcript.words])
    if not right:
        raise AsrError(f"{source}: no word was recognised")
    return ScoredWords(np.array(confidences), np.array(right))


def words_right(reference: str, words: list[str]) -> list[bool]:
    """Which of the words of a hypothesis are right, by the alignment of fewest errors."""
    right = [False] * len(words)
    if not words or not reference:
        return right
    for part in load_jiwer().process_words([reference], [" ".join(words)]).alignments[0]:
        if part.type == "equal":
            right[part.hyp_start_idx : part.hyp_end_idx] = [True] * (
                part.hyp_end_idx - part.hyp_start_idx
            )
    return right


def calibrate_to(
    model: str | Path,
    source: str,
    output: str | Path | None = None,
    decoding: DecoderOptions | None = None,
    threads: int | None = None,
) -> str:
    """Fit the map of a model file on a dev set and write it into the file, or into a copy.

    The map belongs to the decoder that it was fitted with, above all to its language model. The
    priors of the tokens are measured first, and that decoder uses them. Returns what to print: the
    figures before and after, and the reliability table. Raises AsrError for a model that comes with
    the package, unless a copy is asked for.
    """
    if output is None and registry.named(model):
        raise AsrError(f"{model}: comes with asr and is left as it is; give a file with -o")
    model = registry.resolve(model)
    check_writable(output or model)
    recogniser = load_for_command(model, threads, decoding=decoding)
    recogniser.calibration = None
    log_probs = run_set(recogniser, read_set(source))
    recogniser.token_priors = priors.token_priors(log_probs)
    raw = score_words(recogniser, source)
    calibration = fit(raw.confidences, raw.right)
    fitted = ScoredWords(calibration.apply(raw.confidences), raw.right)
    decoder = recogniser.decoding.decoder
    # Only the name of the set: the model file may be given to others.
    about = {"words": len(raw.right), "fitted_on": Path(source).name, "decoder": decoder}
    figures = f"raw: {raw}\ncalibrated: {fitted}\n{reliability_table(fitted.rows())}"
    measured = {
        NAME: calibration.to_plain() | about,
        priors.NAME: priors.to_plain(recogniser.token_priors),
    }
    with print_if_lost(figures):
        copy_with_training(model, output or model, measured)
    return f"{figures}\nwritten to {output or model}"
