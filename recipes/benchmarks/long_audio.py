"""Peak memory of `asr transcribe` for hours of audio, each in its own process.

    python recipes/benchmarks/long_audio.py MODEL DATA [-o RECORD.json] [--lm LM]

MODEL is a file or a name such as `english`, which has a decoder of its own. The recordings of DATA,
a set, are joined and repeated to one FLAC file of each length. Memory should not grow with the
length; the script exits with status 1 if it takes more than 1 GB.
"""

import argparse
import subprocess
import sys
import tempfile
from itertools import cycle
from pathlib import Path
from typing import Any

import soundfile
from lib.recognisers import whole_recordings

from asr import audio
from asr.corpus import sources
from asr.errors import AsrError
from asr.pretrained import registry
from asr.report.measurements import DisplayColumn, table_of, write_measurement
from asr.train.record import command

RATE = 16_000
LIMIT_MIB = 1e9 / 2**20


def join(paths: tuple[str, ...], hours: float, target: Path) -> float:
    """Write recordings one after another until there are `hours` of them; the seconds written."""
    written = 0
    with soundfile.SoundFile(target, "w", samplerate=RATE, channels=1, subtype="PCM_16") as file:
        for path in cycle(paths):
            samples = audio.load(path, RATE).samples
            file.write(samples)
            written += len(samples)
            if written >= hours * 3600 * RATE:
                return written / RATE
    raise AsrError("this set has no recordings to join")


CHILD = """
import atexit, sys
from asr import environment
from asr.cli import main as cli
atexit.register(lambda: print(f"peak_mib={environment.peak_memory_mib()}"))
cli.main()
"""


def run(words: list[str]) -> float:
    """Peak MiB of `asr WORDS...`."""
    child = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True)
    if child.returncode:
        raise AsrError(f"asr {' '.join(words)}: {child.stderr}")
    return float(child.stdout.rpartition("peak_mib=")[2])


COLUMNS = [
    DisplayColumn("Audio, hours", "hours", ".2f"),
    DisplayColumn("Decoder", "decoder"),
    DisplayColumn("Peak memory, MiB", "peak_mib", "count"),
]


def measure(arguments: argparse.Namespace) -> bool:
    """Transcribe every length with every decoder; True if memory stayed within 1 GB."""
    paths = whole_recordings(sources.resolve(arguments.data))
    decoders: dict[str, list[str]] = {"greedy": ["--decoder", "greedy"]}
    if registry.decoding(arguments.model, {}).decoder == "beam":
        decoders["its own beam search, LM"] = []
    if arguments.lm:
        decoders["beam 32, LM"] = ["--decoder", "beam", "--lm", str(arguments.lm)]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for hours in arguments.hours:
            seconds = join(paths, hours, folder / "long.flac")
            for decoder, options in decoders.items():
                words = ["transcribe", str(folder / "long.flac"), "-m", arguments.model]
                words += ["-o", str(folder / "out"), "-f", "json", "-f", "srt", "--overwrite"]
                peak = run([*words, "--threads", "1", *options])
                rows.append({"hours": seconds / 3600, "decoder": decoder, "peak_mib": peak})
    print(table_of(COLUMNS, rows).text())
    if arguments.output:
        note = (
            f"One FLAC file of joined recordings of {Path(arguments.data).name}, json and srt "
            "written; one thread."
        )
        label = Path(arguments.model).name
        write_measurement(arguments.output, "long_audio", label, command(), COLUMNS, rows, [note])
    return max(row["peak_mib"] for row in rows) <= LIMIT_MIB


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a model file, or a name that `asr models` lists")
    parser.add_argument("data", help="a manifest, or a folder of recordings with texts")
    parser.add_argument("-o", "--output", type=Path, help="the record, .json")
    parser.add_argument("--lm", type=Path, help="also decode with beam search and this model")
    parser.add_argument("--hours", type=float, nargs="+", default=[0.5, 2.0])
    return int(not measure(parser.parse_args(words)))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"long_audio: {error}")
