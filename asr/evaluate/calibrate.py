"""Word confidence that says how often such words are right, from a dev set into the model file.

The map goes into the model file itself, as `training.confidence` of its metadata, so that no
second file has to travel along and a packed copy made later has it too. The weights stay as they
are, bit by bit.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from asr.decode import DecoderOptions
from asr.decode.confidence import (
    Calibration,
    Reliability,
    calibration_error,
    fit,
    reliability,
    reliability_table,
    separation,
)
from asr.errors import AsrError
from asr.text.normalise import normalise

if TYPE_CHECKING:
    from asr.transcribe.recogniser import Recogniser

NAME = "confidence"
"""Where the map stands in a model file: `training[NAME]`."""


@dataclass(frozen=True)
class Heard:
    """Words of many recordings: how sure the recogniser was, and whether they were said."""

    confidences: npt.NDArray[np.floating]
    right: npt.NDArray[np.bool_]

    def rows(self, bins: int = 10) -> list[Reliability]:
        """The reliability table's rows."""
        return reliability(self.confidences, self.right, bins)

    def __str__(self) -> str:
        rows = self.rows()
        return (
            f"{len(self.right)} words, {100 * self.right.mean():.1f} % right; calibration error "
            f"{100 * calibration_error(rows):.1f} %; a right word is surer than a wrong one in "
            f"{100 * separation(self.confidences, self.right):.1f} %"
        )


def hear_words(
    recogniser: "Recogniser",
    source: str,
    decoding: DecoderOptions | None = None,
    calibration: Calibration | None = None,
) -> Heard:
    """Confidence and rightness of all words heard in a manifest, a folder or `spoken:dev`.

    A word is right where jiwer aligns it with the same word of the reference, both in normal
    form. `calibration` None: raw confidences. Raises AsrError if not one word is heard.
    """
    from asr.transcribe.options import TranscribeOptions

    texts, paths = _utterances(source)
    options = TranscribeOptions(decoding=decoding or DecoderOptions())
    confidences: list[float] = []
    right: list[bool] = []
    for text, transcript in zip(texts, recogniser.transcribe(paths, options), strict=True):
        heard = [word.text for word in transcript.words]
        confidences += [word.confidence for word in transcript.words]
        right += words_right(normalise(text), heard)
    if not right:
        raise AsrError(f"{source}: not one word was heard in it")
    values = np.array(confidences)
    return Heard(calibration.apply(values) if calibration else values, np.array(right))


def words_right(reference: str, heard: list[str]) -> list[bool]:
    """Which of the words heard were said, by the alignment of fewest errors."""
    from asr.evaluate.wer import load_jiwer

    if not heard or not reference:
        return [False] * len(heard)
    right = [False] * len(heard)
    for part in load_jiwer().process_words([reference], [" ".join(heard)]).alignments[0]:
        if part.type == "equal":
            right[part.hyp_start_idx : part.hyp_end_idx] = [True] * (
                part.hyp_end_idx - part.hyp_start_idx
            )
    return right


def _utterances(source: str) -> tuple[list[str], list[str]]:
    from asr.corpus import sources

    utterances = sources.resolve(source)
    if not utterances:
        raise AsrError(f"{source}: there is not one utterance")
    return [u.text for u in utterances], [u.audio_filepath for u in utterances]


def store(
    model: str | Path, output: str | Path, calibration: Calibration, about: dict[str, Any]
) -> None:
    """Write the model file `model`, dense or packed, to `output` with the map in its metadata."""
    from asr.model.metadata import Metadata
    from asr.sparse import read, write

    tensors, plain = read(model)
    packed = Metadata.from_plain(plain).packed
    plain["training"][NAME] = calibration.to_plain() | about
    if packed is None:
        write(output, tensors, plain, compress=False)
    else:
        write(output, tensors, plain, packed)


def calibrate_to(
    model: str | Path,
    source: str,
    output: str | Path | None = None,
    decoding: DecoderOptions | None = None,
    threads: int | None = None,
) -> str:
    """Fit the map of a model file on a dev set and write it into the file, or into a copy.

    The map belongs to the decoder that it was fitted with, above all to whether a language model
    has a say. Returns what to print: the figures before and after, and the reliability table.
    Raises AsrError for a model that comes with the package, unless a copy is asked for.
    """
    from asr.pretrained import registry as models
    from asr.transcribe.recogniser import load

    if output is None and models.named(model):
        raise AsrError(f"{model}: comes with asr and is left as it is; give a file with -o")
    model = models.resolve(model)
    recogniser = load(model, threads=threads)
    recogniser.calibration = None
    decoding = decoding or DecoderOptions()
    raw = hear_words(recogniser, source, decoding)
    calibration = fit(raw.confidences, raw.right)
    fitted = Heard(calibration.apply(raw.confidences), raw.right)
    # The name alone: the file may be given to others.
    where = Path(source).name
    about = {"words": len(raw.right), "fitted_on": where, "decoder": decoding.decoder}
    store(model, output or model, calibration, about)
    return "\n".join(
        [
            f"raw: {raw}",
            f"calibrated: {fitted}",
            reliability_table(fitted.rows()),
            f"written to {output or model}",
        ]
    )
