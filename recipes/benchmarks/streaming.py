"""Words while somebody speaks: latency, cost by the size of the pieces, memory over a long stream.

    python recipes/benchmarks/streaming.py MODEL DATA [-o RECORD.json] [--lm LM] [--hours 1]

Latency is from the end of a word in the recording to the update that has it: first at all, and
stable. Pieces of 100 ms are pushed as they would come, and the time that pushes take is added. When
a word ends is what `asr align` says of its text with a network that sees the future, --aligner.
Words that are recognised wrongly are left out. DATA is a set with texts.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from lib.recognisers import whole_recordings

from asr import audio, environment
from asr.corpus import sources
from asr.corpus.manifest import Utterance
from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.report.measurements import DisplayColumn, ExtraTable, table_of, write_measurement
from asr.train.record import command
from asr.transcribe.align import align
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load

PIECE = 0.1
PIECES = (0.02, 0.1, 0.5, 5.0)
COLUMNS = (
    DisplayColumn("Decoder", "decoder"),
    DisplayColumn("Words", "words", "count"),
    DisplayColumn("First seen, ms: median", "first_median", ".0f"),
    DisplayColumn("95 %", "first_95", ".0f"),
    DisplayColumn("Stable, ms: median", "stable_median", ".0f"),
    DisplayColumn("95 % ", "stable_95", ".0f"),
)
COST = (
    DisplayColumn("Decoder", "decoder"),
    DisplayColumn("What is transcribed", "pieces"),
    DisplayColumn("Processor s / s", "factor", ".4f"),
)
MEMORY = (
    DisplayColumn("Decoder", "decoder"),
    DisplayColumn("Hours", "hours", "g"),
    DisplayColumn("Words", "words", "count"),
    DisplayColumn("Peak MiB after a sixth", "early", "count"),
    DisplayColumn("Peak MiB at the end", "late", "count"),
)
Row = dict[str, Any]


def pieces(samples: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (samples[first : first + size] for first in range(0, len(samples), size))


def latencies(
    recogniser: Recogniser, options: TranscribeOptions, aligner: Recogniser, u: Utterance
) -> tuple[list[float], list[float]]:
    """Seconds from the end of each right word to its first and to its stable update."""
    rate = recogniser.frontend.sample_rate
    samples = audio.load(u.source, rate).samples
    truth = align(aligner, samples, u.text).words
    stream, behind = recogniser.stream(options), 0.0
    first: dict[int, float] = {}
    stable: list[float] = []
    texts: list[str] = []
    shown: list[tuple[float, tuple[str, ...]]] = []
    for piece in pieces(samples, round(PIECE * rate)):
        started = time.perf_counter()
        update = stream.push(piece)
        # A push that takes longer than its piece delays the next ones.
        behind = max(behind - PIECE, 0.0) + time.perf_counter() - started
        now = update.seconds + behind
        stable += [now] * len(update.stable)
        texts += [word.text for word in update.stable]
        shown.append((now, (*texts, *(word.text for word in update.provisional))))
    final = [word.text for word in stream.finish().words]
    for now, words in shown:
        for i, (word, other) in enumerate(zip(words, final, strict=False)):
            if word == other:
                first.setdefault(i, now)
    matcher = SequenceMatcher(None, [word.text for word in truth], final, autojunk=False)
    right = [
        (truth[block.a + i].end, block.b + i)
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    ]
    return (
        [first[i] - end for end, i in right if i in first],
        [stable[i] - end for end, i in right if i < len(stable)],
    )


def latency_row(name: str, first: list[float], stable: list[float], words: int) -> Row:
    row: Row = {"decoder": name, "words": words}
    for kind, seconds in (("first", first), ("stable", stable)):
        row[f"{kind}_median"] = 1000 * float(np.median(seconds)) if seconds else float("nan")
        row[f"{kind}_95"] = 1000 * float(np.quantile(seconds, 0.95)) if seconds else float("nan")
    row["stable_before_end"] = len(stable) / max(len(first), 1)
    return row


def cost_rows(
    name: str, recogniser: Recogniser, options: TranscribeOptions, samples: np.ndarray
) -> list[Row]:
    """Processor seconds for each second of audio, streamed in pieces and as a recording."""
    rate, rows = recogniser.frontend.sample_rate, []
    for size in PIECES:
        started = time.process_time()
        stream = recogniser.stream(options)
        for piece in pieces(samples, round(size * rate)):
            stream.push(piece)
        stream.finish()
        spent = time.process_time() - started
        factor = spent / (len(samples) / rate)
        rows.append({"decoder": name, "pieces": f"pieces of {size:g} s", "factor": factor})
    started = time.process_time()
    list(recogniser.transcribe([samples], options))
    spent = time.process_time() - started
    factor = spent / (len(samples) / rate)
    rows.append({"decoder": name, "pieces": "a recording", "factor": factor})
    return rows


def memory_row(
    name: str,
    recogniser: Recogniser,
    options: TranscribeOptions,
    paths: tuple[str, ...],
    hours: float,
) -> Row:
    """Peak memory of the process after a sixth of a long stream, and after all of it."""
    rate, stream, early = recogniser.frontend.sample_rate, recogniser.stream(options), 0.0
    for path in cycle(paths):
        stream.push(audio.load(path, rate).samples)
        if not early and stream.seconds > 600 * hours:
            early = environment.peak_memory_mib()
        if stream.seconds > 3600 * hours:
            break
    late, words = environment.peak_memory_mib(), len(stream.finish().words)
    return {"decoder": name, "hours": hours, "early": early, "late": late, "words": words}


def measure(arguments: argparse.Namespace) -> None:
    utterances = sources.resolve(str(arguments.data))[: arguments.utterances]
    recogniser = load(arguments.model, threads=1)
    kinds = {"greedy": DecoderOptions()}
    if recogniser.decoding.decoder == "beam":
        kinds["its own beam search, LM"] = recogniser.decoding
    if arguments.lm:
        kinds["beam 32, LM"] = DecoderOptions("beam", lm=str(arguments.lm))
    rate = recogniser.frontend.sample_rate
    long = np.concatenate([audio.load(u.source, rate).samples for u in utterances])
    long = long[: round(arguments.seconds * rate)]
    delays, costs, memory = list[Row](), list[Row](), list[Row]()
    paths = whole_recordings(utterances)
    for name, decoding in kinds.items():  # first, or the peak would be that of other work
        if arguments.hours:
            options = TranscribeOptions(decoding)
            memory.append(memory_row(name, recogniser, options, paths, arguments.hours))
    aligner = load(arguments.aligner, threads=1, decoding=DecoderOptions())
    for name, decoding in kinds.items():
        options, first, stable = TranscribeOptions(decoding), list[float](), list[float]()
        for u in utterances:
            found = latencies(recogniser, options, aligner, u)
            first, stable = first + found[0], stable + found[1]
        delays.append(latency_row(name, first, stable, len(first)))
        costs += cost_rows(name, recogniser, options, long)
    tables = [
        ExtraTable("Processor seconds for a second of audio", COST, tuple(costs)),
        ExtraTable("Memory of a long stream", MEMORY, tuple(memory)),
    ]
    print(table_of(COLUMNS, delays).text())
    for table in tables:
        print(f"{table.heading}\n{table_of(table.columns, table.rows or ()).text()}")
    note = recogniser.stream().note or "exact: the words are those of the whole recording"
    note = (
        f"{note}. Pieces of {1000 * PIECE:.0f} ms, {len(utterances)} recordings of "
        f"{Path(arguments.data).name}; one thread."
    )
    print(note)
    if arguments.output:
        label = Path(arguments.model).name
        write_measurement(
            arguments.output, "streaming", label, command(), COLUMNS, delays, [note], tables=tables
        )


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a model file, or a name that `asr models` lists")
    parser.add_argument("data", help="a manifest, or a folder of recordings with texts")
    parser.add_argument("-o", "--output", type=Path, help="the record, .json")
    parser.add_argument("--lm", type=Path, help="also decode with beam search and this model")
    parser.add_argument("--aligner", default="english", help="network that says when words end")
    parser.add_argument("--utterances", type=int, default=40, help="recordings to measure on")
    parser.add_argument("--seconds", type=float, default=60, help="audio to measure the cost on")
    parser.add_argument("--hours", type=float, default=1, help="length of a long stream; 0: none")
    measure(parser.parse_args(words))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"streaming: {error}")
