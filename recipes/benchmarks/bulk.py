"""What an hour of audio costs when very many are transcribed: processor time and bytes.

    python recipes/benchmarks/bulk.py [-o RECORD.json] [--recordings FOLDER] [--list 1000000]

The recordings are copied under many names and transcribed by `asr transcribe --shard 1/1`'s own
code on one thread, split into parts of several lengths, which shows what a small file costs; read
alone, in several formats; and a list of paths is divided into shards. Times are processor times.
"""

import argparse
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from long_audio import run

from asr import audio, environment
from asr.bulk.job import BulkJob
from asr.bulk.listing import read_list, write_list
from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.report.measurements import DisplayColumn, ExtraTable, table_of, write_measurement
from asr.train.record import command
from asr.transcribe.options import TranscribeOptions

RATE = 16_000
FORMATS = {  # name -> suffix, rate, channels, and what soundfile is told
    "WAV, 16 kHz, 16 bit": (".wav", 16_000, 1, {"subtype": "PCM_16"}),
    "WAV, 44.1 kHz, stereo": (".wav", 44_100, 2, {"subtype": "PCM_16"}),
    "FLAC, 16 kHz": (".flac", 16_000, 1, {}),
    "MP3, 44.1 kHz, stereo": (".mp3", 44_100, 2, {}),
    "Opus, 48 kHz": (".opus", 48_000, 1, {"format": "OGG", "subtype": "OPUS"}),
}
COLUMNS = (
    DisplayColumn("Decoder", "decoder"),
    DisplayColumn("Recording, s", "length", "g"),
    DisplayColumn("Recordings", "recordings", "count"),
    DisplayColumn("Processor s / s", "factor", ".4f"),
    DisplayColumn("Rows, MB an hour", "lines", "megabytes"),
)
READING = (
    DisplayColumn("Format", "what"),
    DisplayColumn("Processor s an hour", "seconds", ".1f"),
    DisplayColumn("MB an hour", "bytes", "megabytes"),
)
LISTING = (
    DisplayColumn("Recordings", "recordings", "count"),
    DisplayColumn("Listing, s", "made", ".1f"),
    DisplayColumn("more MiB", "memory", ".0f"),
    DisplayColumn("List, MB", "bytes", "megabytes"),
    DisplayColumn("Finding one shard of 1,000, s", "read", ".2f"),
)
Row = dict[str, Any]


def write(path: Path, samples: np.ndarray, rate: int, channels: int, more: Row) -> None:
    import soxr

    samples = soxr.resample(samples, RATE, rate)
    soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), rate, **more)


def reading(folder: Path, samples: np.ndarray) -> list[Row]:
    """Processor seconds and megabytes of an hour, read as a network at 16 kHz needs it."""
    hours, rows = len(samples) / RATE / 3600, []
    for name, (suffix, rate, channels, more) in FORMATS.items():
        path = folder / f"read{suffix}"
        write(path, samples, rate, channels, more)
        audio.load(path, RATE)
        started = time.process_time()
        audio.load(path, RATE)
        spent = time.process_time() - started
        rows.append({"what": name, "seconds": spent / hours, "bytes": path.stat().st_size / hours})
    return rows


def transcribing(folder: Path, samples: np.ndarray, length: float, decoder: str) -> Row:
    """What an hour in parts of `length` seconds costs, and the size of its rows."""
    parts = [
        samples[i : i + round(length * RATE)] for i in range(0, len(samples), round(length * RATE))
    ]
    parts = [part for part in parts if len(part) == round(length * RATE)]
    inputs = folder / f"{decoder}-{length:g}"
    inputs.mkdir()
    for number, part in enumerate(parts):
        soundfile.write(inputs / f"{number:06}.flac", part, RATE)
    decoding = DecoderOptions() if decoder == "greedy" else None
    job = BulkJob(folder / f"{inputs.name}-out", TranscribeOptions(decoding))
    recogniser = job.load()
    plan = job.begin([inputs], 1)
    started = time.process_time()
    totals = job.run(plan, 1, recogniser)
    spent = time.process_time() - started
    if totals.failed:
        raise AsrError(f"{totals.failed} recordings failed")
    hours = totals.seconds / 3600
    [lines] = job.folder.glob("shard-*.jsonl")
    return {
        "decoder": decoder,
        "length": length,
        "recordings": totals.rows,
        "factor": spent / totals.seconds,
        "lines": lines.stat().st_size / hours,
    }


def listing(folder: Path, count: int) -> Row:
    """A list of paths: made once, and read by each shard."""
    source = folder / "paths.txt"
    with source.open("w") as file:
        file.write(f"{folder / 'read.wav'}\n")
        (folder / "read.wav").touch()
        file.writelines(
            f"/recordings/{i // 1000:06}/recording-{i:09}.flac\n" for i in range(1, count)
        )
    before = environment.peak_memory_mib() or 0.0
    started = time.process_time()
    write_list(folder / "list.jsonl", [source])
    made = time.process_time() - started
    started = time.process_time()
    found = sum(1 for _ in read_list(folder / "list.jsonl", 0, 1000))
    read = time.process_time() - started
    return {
        "recordings": count,
        "made": made,
        "read": read,
        "found": found,
        "bytes": (folder / "list.jsonl").stat().st_size,
        "memory": (environment.peak_memory_mib() or 0.0) - before,
    }


def joined(recordings: Path, seconds: float) -> np.ndarray:
    """Recordings one after the other, again and again, until they are so long."""
    known = [audio.load(found.path, RATE).samples for found in audio.find([recordings])]
    parts, length = [], 0
    for samples in cycle(known):
        if length >= seconds * RATE:
            return np.concatenate(parts)[: round(seconds * RATE)]
        parts.append(samples)
        length += len(samples)
    raise AssertionError


def measure(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = listing(folder, arguments.list)  # first: peak memory is that of all before, too
        samples = joined(arguments.recordings, arguments.seconds)
        forms = reading(folder, samples)
        lengths = [float(part) for part in arguments.lengths.split(",")]
        rows = [
            transcribing(folder, samples, length, decoder)
            for decoder in ("greedy", "beam, LM")
            for length in lengths
        ]
        words = [str(folder / f"greedy-{lengths[-1]:g}"), "-o", str(folder / "again")]
        memory = run(["transcribe", *words, "--shard", "1/1", "--threads", "1"])
    tables = [
        ExtraTable("Reading alone, to 16 kHz and one channel", READING, tuple(forms)),
        ExtraTable("A list of paths", LISTING, (listed,)),
    ]
    print(table_of(COLUMNS, rows).text())
    for table in tables:
        print(f"{table.heading}\n{table_of(table.columns, table.rows or ()).text()}")
    note = (
        f"FLAC, {arguments.seconds:g} s of the recordings in {arguments.recordings} again and "
        f"again; one thread. A process took {memory:.0f} MiB at most."
    )
    print(note)
    if arguments.output:
        details = {"memory": memory}
        write_measurement(
            arguments.output, "bulk", "english", command(), COLUMNS, rows, [note], details,
            tables=tables,
        )  # fmt: skip


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, help="the record, .json")
    parser.add_argument("--recordings", type=Path, default=Path("tests/data"), help="any speech")
    parser.add_argument("--seconds", type=float, default=600, help="audio to measure on")
    parser.add_argument("--lengths", default="1,10,60", help="seconds of the parts")
    parser.add_argument("--list", type=int, default=1_000_000, help="length of the list")
    measure(parser.parse_args(words))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"bulk: {error}")
