"""Word error rate of a recogniser on recordings with known text.

Recordings are transcribed as `asr transcribe` does it, chunks, decoder and all, so that the rate is
the one that a user gets.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from asr.corpus import sources
from asr.corpus.manifest import Utterance
from asr.decode import DecoderOptions
from asr.errors import AsrError, counted
from asr.evaluate import ref_hyp
from asr.evaluate.wer import Row, Score, score, speakers_of
from asr.files import check_writable, print_if_lost
from asr.model.backend import BackendName, Device
from asr.text.normalise import NORMALISATION, normalise
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.progress import times_real
from asr.transcribe.recogniser import Recogniser, load_for_command
from asr.transcribe.transcript import Transcript


def evaluate(
    recogniser: Recogniser,
    utterances: Sequence[Utterance],
    options: TranscribeOptions | None = None,
) -> tuple[Score, list[Row], float]:
    """Transcribe `utterances` and score them against their normalised texts.

    The interval is drawn over speakers where they are known (`speakers_of`). Returns the score, one
    row per utterance in the order given, and the wall-clock seconds of all from reading to text.
    Raises AsrError for no utterances, and for a recording that cannot be read or is not complete.

    >>> from asr.transcribe.recogniser import load
    >>> utterances = [Utterance("u1", "talk.flac", 1.3, "Bad!", "speaker 1")]
    >>> score, rows, seconds = evaluate(load("model.asr"), utterances)
    >>> rows[0].hypothesis, score.insertions
    ('BAD CAFE', 1)
    """
    if not utterances:
        raise AsrError("nothing to evaluate: no utterances")
    # Longest first: over a whole set there is less padding than in windows of the order given.
    order = sorted(range(len(utterances)), key=lambda i: -utterances[i].duration)
    sources = [utterances[i].source for i in order]
    started = time.perf_counter()
    transcripts = recogniser.transcribe(sources, options)
    texts = {i: _whole(transcript) for i, transcript in zip(order, transcripts, strict=True)}
    seconds = time.perf_counter() - started
    rows = [
        Row(u.id, u.speaker, normalise(u.text), normalise(texts[i]))
        for i, u in enumerate(utterances)
    ]
    figures = score([r.reference for r in rows], [r.hypothesis for r in rows], speakers_of(rows))
    return figures, rows, seconds


def _whole(transcript: Transcript) -> str:
    """The text of a recording that is complete: words that are cut off are not the model's errors.

    Raises AsrError.
    """
    if not transcript.complete:
        raise AsrError(f"{transcript.path}: {transcript.notes[-1]}")
    return transcript.text


def evaluate_to(
    model: str | Path,
    source: str,
    output: str | Path | None = None,
    threads: int | None = None,
    decoding: DecoderOptions | None = None,
    backend: BackendName = "auto",
    exact: bool = False,
    device: Device = "cpu",
) -> str:
    """Evaluate a model file or name on a manifest, a folder or `spoken:test`; a few lines to print.

    `output` gets references and hypotheses (`ref_hyp.write`). The other arguments are those of
    `transcribe.recogniser.load`.
    """
    check_writable(output)
    utterances = read_set(source)
    recogniser = load_for_command(model, threads, backend, exact, decoding, device)
    figures, rows, seconds = evaluate(recogniser, utterances)
    audio_seconds = sum(utterance.duration for utterance in utterances)
    drawn = counted(figures.groups, "speaker") if figures.groups else "utterances"
    lines = [
        str(figures),
        f"decoder {describe(recogniser.decoding)}; 95 % interval over {drawn}; "
        f"normalisation {NORMALISATION}",
        f"{audio_seconds:.1f} s of audio in {seconds:.1f} s, {times_real(audio_seconds, seconds)}",
        f"backend {recogniser.describe()}",
    ]
    if output is not None:
        with print_if_lost("\n".join(lines)):
            ref_hyp.write(output, rows)
        lines.append(f"references and hypotheses: {output}")
    return "\n".join(lines)


def read_set(source: str) -> list[Utterance]:
    """The utterances of a manifest, a folder or a part of the built-in corpus, at least one."""
    utterances = sources.resolve(source)
    if not utterances:
        raise AsrError(f"{source}: no utterances")
    return utterances


def describe(decoding: DecoderOptions) -> str:
    """A decoder in a few words: `greedy`, `beam 32, 3-gram.arpa.gz x 0.8, word bonus 1`."""
    if decoding.decoder == "greedy":
        return "greedy"
    parts = [f"{decoding.decoder} {decoding.beam}"]
    if decoding.lm:
        parts.append(f"{Path(decoding.lm).name} x {decoding.lm_weight:g}")
    if decoding.word_bonus:
        parts.append(f"word bonus {decoding.word_bonus:g}")
    if decoding.prior_weight:
        parts.append(f"prior weight {decoding.prior_weight:g}")
    if decoding.phrases:
        parts.append(counted(len(decoding.phrases), "phrase"))
    return ", ".join(parts)
