"""Time from the shell prompt to the text, and peak memory: torch against the native backend.

    python recipes/benchmarks/start.py [--quick] [--allow-busy] [--again]

`asr transcribe` runs in a new process each time, in turn with both backends, on spoken recordings
of 5 and 60 s (made with espeak-ng): with a small trained network, for which the texts of both
backends are compared, and with an untrained 3 x 512 network with 90.6 % zeros. Both files are
packed and in the cache of the operating system.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import soundfile
from lib.script import Script, finish, named, rows, show, start
from lib.speech import RATE, speech
from lib.tables import start_display
from lib.weights import random_tensors

from asr.benchmark.timing import interleave
from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.metadata import Metadata
from asr.sparse import write
from asr.text.tokenizer import CharacterTokenizer

TRAINED = Path(__file__).parents[2] / "tests" / "data" / "spoken.asr"
BACKENDS = ("torch", "native")
SECONDS = (5, 60)
ROUNDS = 3

# Peak memory of a new process includes that of its parent before `exec`, so the parent is small.
_RUN = """
import json, os, subprocess, sys, tempfile, time
with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
    started = time.perf_counter()
    child = subprocess.Popen(sys.argv[1:], stdout=out, stderr=err)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    out.seek(0), err.seek(0)
    print(json.dumps({"seconds": seconds, "peak_kib": usage.ru_maxrss, "status": status,
                      "text": out.read().decode(), "error": err.read().decode()}))
"""


def run(command: Sequence[str]) -> dict[str, Any]:
    """Seconds, peak memory and text of a command. Raises AsrError if it fails."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _RUN, *command], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if found["status"]:
        raise AsrError(f"{' '.join(command[1:])}: {found['error'].strip()}")
    return found


def untrained(path: Path, layers: int, hidden: int) -> Path:
    """Write a packed, untrained network with 90.6 % zeros."""
    tokenizer = CharacterTokenizer()
    dimensions = Model(layers=layers, hidden=hidden, batch_norm=False, outputs=tokenizer.size)
    metadata = Metadata(dimensions, Frontend(), tokenizer.to_plain(), packed="fp16")
    tensors = random_tensors(dimensions, "element", 0.90625)
    write(path, tensors, metadata.to_plain(), values="fp16")
    return path


def models(folder: Path, quick: bool) -> Iterator[tuple[str, Path]]:
    """Name and file of each network."""
    yield "3x128", TRAINED
    if not quick:
        yield "3x512", untrained(folder / "untrained.asr", 3, 512)


def measure(script: Script, key: str, model: Path, recordings: dict[str, Path]) -> None:
    """Both backends on each recording, with two threads."""
    found: dict[str, list[dict[str, Any]]] = {}
    calls: dict[str, Callable[[], object]] = {}
    for length, recording in recordings.items():
        for backend in BACKENDS:
            name = f"{backend}, {length} s"
            words = ["transcribe", str(recording), "-m", str(model), "--backend", backend]
            command = [sys.executable, "-m", "asr", *words, "--threads", "2"]
            calls[name] = lambda c=command, n=name: found.setdefault(n, []).append(run(c))
    rounds, forever = 1 if script.quick else ROUNDS, float("inf")
    measured = interleave(calls, rounds, 0.0, script.allow_busy, forever, warm=not script.quick)
    details = {
        name: {
            "audio_seconds": float(name.split()[1]),
            "peak_mib": max(one["peak_kib"] for one in runs) / 1024,
            "characters": len(runs[0]["text"].strip()),
            "same_text": runs[0]["text"] == found[name.replace("native", "torch")][0]["text"],
        }
        for name, runs in found.items()
    }
    kinds = {name: "dense" if name.startswith("torch") else "sparse" for name in calls}
    results = rows(measured, kinds, details)
    part = {"model": key, "threads": 2, "results": results}
    script.record.add(key, part, measured.other_load)
    for length in recordings:
        show(f"{key}, {length} s", [r for r in results if r["name"].endswith(f" {length} s")], {})
    for row in results:
        same = "the same text" if row["same_text"] else "another text"
        print(f"  {row['name']:<14}{row['peak_mib']:8.0f} MiB, {row['characters']} letters, {same}")


def main(arguments: Sequence[str]) -> int:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--model", type=Path, help="measure only this model file")

    script = start("start", __doc__ or "", start_display, arguments, add)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = {}
        for seconds in SECONDS[: 1 if script.quick else 2]:
            recordings[str(seconds)] = folder / f"{seconds}.wav"
            soundfile.write(recordings[str(seconds)], speech(seconds), RATE)
        own: Path | None = script.options.model
        chosen = list(named([own]).items()) if own else models(folder, script.quick)
        for key, model in chosen:
            if not script.done(key):
                measure(script, key, model, recordings)
    return 0


if __name__ == "__main__":
    finish(main)
