"""What cutting long recordings costs: extra word errors a seam, by overlap, against no seam there.

    python recipes/benchmarks/seams.py MODEL MANIFEST [utterances]

Each utterance is repeated to a recording of 40 s, so that every word stands both near seams and
away from them: the same sounds, the same voice, another place in the chunk. A seam's extra errors
are those on the words within a second of it, less what the same words cost elsewhere. (Different
utterances put end to end would measure something else: voices and levels that change every three
seconds under one normalisation.)

No figures stand here yet: the full run wants an idle machine.
"""

import sys
from dataclasses import dataclass
from itertools import pairwise

import jiwer
import numpy as np

from asr import audio, chunks
from asr.align import align
from asr.chunks import ChunkOptions
from asr.corpus import sources
from asr.errors import AsrError
from asr.settings import Data
from asr.text import normalise
from asr.transcribe import Recogniser, TranscribeOptions, Transcript, load

NEAR_SECONDS, RECORDING_SECONDS = 1.0, 40.0
OPTIONS = [
    ChunkOptions(overlap_seconds=0.0),
    ChunkOptions(overlap_seconds=1.0),
    ChunkOptions(),
    ChunkOptions(overlap_seconds=4.0),
    ChunkOptions(vad=True),
    ChunkOptions(chunk_seconds=10.0),
]


@dataclass(frozen=True)
class Repeated:
    """An utterance again and again: samples, and the words of one round with their middles."""

    samples: np.ndarray
    words: list[str]
    middles: np.ndarray
    rounds: int


def repeat(recogniser: Recogniser, path: str, text: str) -> Repeated:
    """An utterance repeated to 40 s; when its words are said comes from forced alignment."""
    once = audio.load(path, recogniser.frontend.sample_rate)
    words = align(recogniser, once.samples, normalise(text)).words
    rounds = int(RECORDING_SECONDS / once.seconds) + 1
    middles = np.array([word.middle for word in words])
    middles = (middles + once.seconds * np.arange(rounds)[:, None]).ravel()
    return Repeated(np.tile(once.samples, rounds), [word.text for word in words], middles, rounds)


def errors(recording: Repeated, transcript: Transcript) -> np.ndarray:
    """Errors on each word that was said; an inserted one counts for the word after it."""
    said = recording.words * recording.rounds
    counts = np.zeros(len(said))
    for part in jiwer.process_words(" ".join(said), transcript.text).alignments[0]:
        if part.type == "insert":
            place = min(part.ref_start_idx, len(said) - 1)
            counts[place] += part.hyp_end_idx - part.hyp_start_idx
        elif part.type != "equal":
            counts[part.ref_start_idx : part.ref_end_idx] += 1
    return counts


def extra_errors(
    recogniser: Recogniser, recording: Repeated, transcript: Transcript, options: ChunkOptions
) -> tuple[float, int]:
    """Errors near seams beyond those of the same words away from them, and the number of seams."""
    rate = recogniser.frontend.sample_rate
    places = [chunk.place for chunk in chunks.stream(recording.samples, rate, options)]
    seams = np.array([(a.end + b.start) / 2 for a, b in pairwise(places)])
    if not len(seams):
        return 0.0, 0
    near = np.abs(recording.middles[:, None] - seams).min(axis=1) < NEAR_SECONDS
    counts = errors(recording, transcript).reshape(recording.rounds, -1)
    near = near.reshape(counts.shape)
    away = np.where(near, 0.0, counts).sum(axis=0) / np.maximum((~near).sum(axis=0), 1)
    return float(((counts - away) * near).sum()), len(seams)


def main(arguments: list[str]) -> int:
    if len(arguments) not in (2, 3):
        raise AsrError("give a model file, a manifest, and perhaps how many utterances")
    recogniser = load(arguments[0], threads=1)
    utterances = sources.resolve(arguments[1], Data())
    utterances = utterances[: int(arguments[2]) if len(arguments) == 3 else 120]
    recordings = [repeat(recogniser, u.audio_filepath, u.text) for u in utterances]
    print("| Chunk | Overlap | Pauses | Seams | WER | Extra errors a seam |")
    print("|--:|--:|---|--:|--:|--:|")
    for options in OPTIONS:
        transcripts = list(
            recogniser.transcribe(
                (r.samples for r in recordings), TranscribeOptions(chunks=options)
            )
        )
        found = [
            extra_errors(recogniser, r, t, options)
            for r, t in zip(recordings, transcripts, strict=True)
        ]
        extra, seams = np.array([e for e, _ in found]), sum(n for _, n in found)
        spread = extra.std() * len(extra) ** 0.5 / seams
        said = [" ".join(r.words * r.rounds) for r in recordings]
        wer = jiwer.wer(said, [t.text for t in transcripts])
        print(
            f"| {options.chunk_seconds:g} s | {options.overlap_seconds:g} s "
            f"| {'yes' if options.vad else 'no'} | {seams} | {100 * wer:.1f} % "
            f"| {extra.sum() / seams:+.2f} +- {spread:.2f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"seams: {error}")
