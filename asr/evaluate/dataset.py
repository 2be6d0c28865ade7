"""Word error rate with its parts and a confidence interval, of texts and of models.

Counts come from jiwer (extra `train`). Rates are fractions, errors over reference words, and may
exceed 1; where there is no reference word at all the errors stand alone, as in jiwer.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr import audio
from asr.audio.batch import sorted_batches
from asr.audio.chunk import is_silent
from asr.decode import DecoderOptions, make_decoder
from asr.decode.library import native
from asr.errors import AsrError
from asr.evaluate.wer import NORMALISATION, Score, counted, score, speakers_of
from asr.model.backend import Backend, BackendName, Floats, TorchBackend, open_backend
from asr.model.file import TorchModel
from asr.pretrained import registry as models
from asr.settings.data import DataSettings
from asr.text.normalise import normalise
from asr.transcribe.progress import times_real

if TYPE_CHECKING:
    from asr.corpus.manifest import Utterance
    from asr.evaluate.ref_hyp import Row


def evaluate_model(
    model: TorchModel | Backend,
    utterances: Sequence["Utterance"],
    data: DataSettings,
    threads: int | None = None,
    decoding: DecoderOptions | None = None,
) -> tuple[Score, list["Row"], float]:
    """Hear all `utterances` and score them against their normalised texts.

    Batches follow `data.batch_seconds`; `threads` sets torch's threads where a loaded network is
    given, None leaves them (an engine has its own); without `decoding` it is greedy. The interval
    is drawn over speakers where they are known (`speakers_of`). Returns the score, one row per
    utterance in the order given, and the wall-clock seconds of reading, features, network and
    decoding.
    """
    from asr.evaluate.ref_hyp import Row

    backend = TorchBackend(model, threads) if isinstance(model, TorchModel) else model
    if not utterances:
        raise AsrError("nothing to evaluate: there is not one utterance")
    decoder = make_decoder(decoding or DecoderOptions(), backend.tokenizer)
    started = time.perf_counter()
    heard = [""] * len(utterances)
    paths, durations = [u.audio_filepath for u in utterances], [u.duration for u in utterances]
    for i, log_probs in hear_files(backend, paths, durations, data.batch_seconds):
        heard[i] = decoder.decode(log_probs)[0].text if len(log_probs) else ""
    seconds = time.perf_counter() - started
    rows = [
        Row(u.id, u.speaker, normalise(u.text, NORMALISATION), normalise(text, NORMALISATION))
        for u, text in zip(utterances, heard, strict=True)
    ]
    figures = score([r.reference for r in rows], [r.hypothesis for r in rows], speakers_of(rows))
    return figures, rows, seconds


def hear_files(
    backend: Backend, paths: Sequence[str], durations: Sequence[float], batch_seconds: float
) -> Iterator[tuple[int, Floats]]:
    """Index and log-probabilities of each recording, in batches by length, longest first.

    A recording without any sound has none, `(0, outputs)`, as in a transcription.
    """
    for batch in sorted_batches(np.array(durations, np.float32), batch_seconds):
        rows: dict[int, Floats] = {}
        for i in batch:
            samples = audio.load(paths[i], backend.frontend.sample_rate).samples
            if not is_silent(samples):
                rows[i] = backend.features(samples)
        heard = backend.log_probs(list(rows.values())) if rows else []
        found = dict(zip(rows, heard, strict=True))
        nothing = np.zeros((0, backend.dimensions.outputs), np.float32)
        yield from ((i, found.get(i, nothing)) for i in batch)


def evaluate_to(
    model: str | Path,
    source: str,
    output: str | Path | None = None,
    threads: int | None = None,
    decoding: DecoderOptions | None = None,
    backend: BackendName = "auto",
    exact: bool = False,
) -> str:
    """Evaluate a model file on a manifest, a folder or `spoken:test`; a few lines to print.

    `output` gets references and hypotheses (`ref_hyp.write`); `backend` and `exact` are those of
    `model.backend.open_backend`.
    """
    from asr.corpus import sources
    from asr.evaluate import ref_hyp

    data, decoding = DataSettings(), decoding or DecoderOptions()
    utterances = sources.resolve(source, data.root, data.spoken)
    hearing = open_backend(models.resolve(model), threads, backend, exact)
    figures, rows, seconds = evaluate_model(hearing, utterances, data, decoding=decoding)
    audio_seconds = sum(utterance.duration for utterance in utterances)
    drawn = counted(figures.groups, "speaker") if figures.groups else "utterances"
    search = f" (search in {native()})" if decoding.decoder == "beam" else ""
    lines = [
        str(figures),
        f"decoder {describe(decoding)}{search}; 95 % interval over {drawn}; "
        f"normalisation {NORMALISATION}",
        f"{audio_seconds:.1f} s of audio in {seconds:.1f} s, {times_real(audio_seconds, seconds)}",
        f"engine {hearing.describe()}",
    ]
    if output is not None:
        ref_hyp.write(output, rows)
        lines.append(f"references and hypotheses: {output}")
    return "\n".join(lines)


def describe(decoding: DecoderOptions) -> str:
    """A decoder in a few words: `greedy`, `beam 32, 3-gram.arpa.gz x 0.8, word bonus 1`."""
    if decoding.decoder == "greedy":
        return "greedy"
    parts = [f"{decoding.decoder} {decoding.beam}"]
    if decoding.lm:
        parts.append(f"{Path(decoding.lm).name} x {decoding.lm_weight:g}")
    if decoding.word_bonus:
        parts.append(f"word bonus {decoding.word_bonus:g}")
    if decoding.phrases:
        parts.append(counted(len(decoding.phrases), "phrase"))
    return ", ".join(parts)
