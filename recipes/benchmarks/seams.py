"""What splitting long recordings costs: extra word errors per seam, by overlap.

    python recipes/benchmarks/seams.py MODEL MANIFEST [-o RECORD.json]

Each utterance is repeated to a recording of 40 s, so that every word occurs near seams and away
from them, with the same sounds and voice. The extra errors of a seam are those on the words within
a second of it, minus those of the same words elsewhere. (Joining different utterances would measure
something else: voices and levels that change every three seconds under one normalisation.)
"""

import argparse
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from asr import audio
from asr.audio import chunk as chunks
from asr.audio.chunk import ChunkOptions
from asr.corpus import sources
from asr.errors import AsrError
from asr.report.measurements import DisplayColumn, table_of, write_measurement
from asr.text.normalise import normalise
from asr.train.record import command
from asr.transcribe.align import align
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load
from asr.transcribe.transcript import Transcript

NEAR_SECONDS, RECORDING_SECONDS = 1.0, 40.0
OPTIONS = [
    ChunkOptions(overlap_seconds=0.0),
    ChunkOptions(overlap_seconds=1.0),
    ChunkOptions(),
    ChunkOptions(overlap_seconds=4.0),
    ChunkOptions(split_on_silence=True),
    ChunkOptions(chunk_seconds=10.0),
]


@dataclass(frozen=True)
class Repeated:
    """A repeated utterance: samples, words of one round, middles of all words in seconds."""

    samples: np.ndarray
    words: list[str]
    middles: np.ndarray
    rounds: int


def repeat(recogniser: Recogniser, path: str | audio.Clip, text: str) -> Repeated:
    """An utterance repeated to 40 s; forced alignment gives the times of its words."""
    once = audio.load(path, recogniser.frontend.sample_rate)
    words = align(recogniser, once.samples, normalise(text)).words
    rounds = int(RECORDING_SECONDS / once.seconds) + 1
    middles = np.array([word.middle for word in words])
    middles = (middles + once.seconds * np.arange(rounds)[:, None]).ravel()
    return Repeated(np.tile(once.samples, rounds), [word.text for word in words], middles, rounds)


def errors(recording: Repeated, transcript: Transcript) -> np.ndarray:
    """Errors on each word of the reference; an insertion counts for the word after it."""
    reference = recording.words * recording.rounds
    counts = np.zeros(len(reference))
    for part in jiwer.process_words(" ".join(reference), transcript.text).alignments[0]:
        if part.type == "insert":
            place = min(part.ref_start_idx, len(reference) - 1)
            counts[place] += part.hyp_end_idx - part.hyp_start_idx
        elif part.type != "equal":
            counts[part.ref_start_idx : part.ref_end_idx] += 1
    return counts


def extra_errors(
    recogniser: Recogniser, recording: Repeated, transcript: Transcript, options: ChunkOptions
) -> tuple[float, int]:
    """Errors near seams beyond those of the same words away from them, and the number of seams."""
    rate = recogniser.frontend.sample_rate
    places = [chunk.place for chunk in chunks.split([recording.samples], rate, options)]
    seams = np.array([(a.end + b.start) / 2 for a, b in pairwise(places)])
    if not len(seams):
        return 0.0, 0
    near = np.abs(recording.middles[:, None] - seams).min(axis=1) < NEAR_SECONDS
    counts = errors(recording, transcript).reshape(recording.rounds, -1)
    near = near.reshape(counts.shape)
    away = np.where(near, 0.0, counts).sum(axis=0) / np.maximum((~near).sum(axis=0), 1)
    return float(((counts - away) * near).sum()), len(seams)


COLUMNS = [
    DisplayColumn("Chunk, s", "chunk", "g"),
    DisplayColumn("Overlap, s", "overlap", "g"),
    DisplayColumn("Split at silence", "split_on_silence"),
    DisplayColumn("Seams", "seams", "count"),
    DisplayColumn("WER %", "wer", "percent"),
    DisplayColumn("Extra errors per seam", "extra", "+.3f"),
    DisplayColumn("Standard error", "spread", ".3f"),
]


def row(
    recogniser: Recogniser, recordings: list[Repeated], options: ChunkOptions
) -> dict[str, Any]:
    """A row of the record: what one way of splitting costs on all recordings."""
    samples = (recording.samples for recording in recordings)
    transcripts = list(recogniser.transcribe(samples, TranscribeOptions(chunks=options)))
    found = [
        extra_errors(recogniser, recording, transcript, options)
        for recording, transcript in zip(recordings, transcripts, strict=True)
    ]
    extra, seams = np.array([e for e, _ in found]), sum(n for _, n in found)
    references = [" ".join(recording.words * recording.rounds) for recording in recordings]
    return {
        "chunk": options.chunk_seconds,
        "overlap": options.overlap_seconds,
        "split_on_silence": "yes" if options.split_on_silence else "no",
        "seams": seams,
        "wer": jiwer.wer(references, [transcript.text for transcript in transcripts]),
        "extra": extra.sum() / seams,
        "spread": extra.std() * len(extra) ** 0.5 / seams,
    }


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", help="a manifest, or a folder of recordings with texts")
    parser.add_argument("--utterances", type=int, default=120, help="at most this many")
    parser.add_argument("-o", "--output", type=Path, help="the record, .json")
    arguments = parser.parse_args(words)
    recogniser = load(arguments.model, threads=1)
    utterances = sources.resolve(arguments.manifest)[: arguments.utterances]
    recordings = [repeat(recogniser, u.source, u.text) for u in utterances]
    rows = [row(recogniser, recordings, options) for options in OPTIONS]
    print(table_of(COLUMNS, rows).text())
    without, overlapped = rows[0]["wer"], rows[2]["wer"]
    if without:
        print(f"with an overlap of 2 s: {overlapped / without:.3f} of the WER without overlap")
    if arguments.output:
        note = (
            f"{len(recordings)} recordings of {RECORDING_SECONDS:g} s, each an utterance of "
            f"{Path(arguments.manifest).name} repeated; extra errors: on words within "
            f"{NEAR_SECONDS:g} s of a seam, minus those of the same words elsewhere."
        )
        label = arguments.model.name
        write_measurement(arguments.output, "seams", label, command(), COLUMNS, rows, [note])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"seams: {error}")
