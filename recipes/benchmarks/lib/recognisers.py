"""A whole recogniser on one set, in a process of its own: texts, seconds, peak memory.

The process (`python recipes/benchmarks/lib/recognisers.py JOB OUTCOME STARTED`) holds only the
recogniser, uses one thread, and transcribes one recording after another. The measured time includes
reading the file: it is the time that a person waits for a transcript once the program is loaded.
Our networks are run as `asr transcribe` runs them; PocketSphinx with its default settings and the
model and trigram of its wheel.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from asr import audio, environment
from asr.corpus.manifest import Utterance
from asr.decode.options import DecoderOptions
from asr.errors import AsrError, install
from asr.model.backend import BackendName

POCKETSPHINX_RATE = 16_000
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""For libraries that read how many threads to start from the environment."""


def whole_recordings(utterances: Iterable[Utterance]) -> tuple[str, ...]:
    """Their files. Raises AsrError for an utterance that is a part of its recording."""
    files = []
    for u in utterances:
        if u.source != u.audio_filepath:
            raise AsrError(
                f"{u.id} is a part of {u.audio_filepath}: this benchmark transcribes whole files; "
                "cut the parts into files of their own"
            )
        files.append(u.audio_filepath)
    return tuple(files)


@dataclass(frozen=True)
class Job:
    """One recogniser, one decoder, one set."""

    recordings: tuple[str, ...]
    """Files, transcribed in this order."""
    model: str = ""
    """Model file; empty: PocketSphinx."""
    backend: BackendName = "auto"
    decoding: DecoderOptions = field(default_factory=DecoderOptions)
    repeats: int = 1
    """How often all recordings are transcribed; seconds are the median."""

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Job":
        """A job from the plain values of `asdict`."""
        decoding = DecoderOptions(**plain["decoding"])
        return cls(**{**plain, "recordings": tuple(plain["recordings"]), "decoding": decoding})


@dataclass(frozen=True)
class Outcome:
    """The result of a job."""

    texts: list[str]
    """Of each recording, as the recogniser writes it."""
    seconds: list[float]
    """Wall-clock time of each recording: reading, features, network, search."""
    cpu_seconds: list[float]
    """Processor time of all threads for each recording; other programs hardly change it."""
    load_seconds: float
    """From the start of the process: Python, imports, opening the model and the language model;
    not in `seconds`."""
    peak_bytes: int
    """Largest resident memory of the process."""
    described: str
    """Backend or package, with its version."""


def run(job: Job) -> Outcome:
    """Do a job in a new process. Raises AsrError with its error output if it fails."""
    with tempfile.TemporaryDirectory() as name:
        job_file, outcome = Path(name) / "job.json", Path(name) / "outcome.json"
        job_file.write_text(json.dumps(asdict(job)), encoding="utf-8")
        words = [str(job_file), str(outcome), str(time.time())]
        done = subprocess.run(
            [sys.executable, __file__, *words],
            capture_output=True,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        if done.returncode:
            raise AsrError(f"{job.model or 'PocketSphinx'}: {done.stderr.strip()}")
        return Outcome(**json.loads(outcome.read_text(encoding="utf-8")))


def work(job: Job, started: float | None = None) -> Outcome:
    """Do a job in this process, which began at `started` (`time.time()`; None: now)."""
    started = time.time() if started is None else started
    transcribe, described = _network(job) if job.model else _pocketsphinx()
    loaded = time.time() - started
    rounds = [[_timed(transcribe, path) for path in job.recordings] for _ in range(job.repeats)]
    by_recording = list(zip(*rounds, strict=True))
    return Outcome(
        [text for text, _, _ in rounds[-1]],
        [median(seconds for _, seconds, _ in times) for times in by_recording],
        [median(cpu for _, _, cpu in times) for times in by_recording],
        loaded,
        round((environment.peak_memory_mib() or 0) * 2**20),
        described,
    )


def _timed(transcribe: Callable[[str], str], path: str) -> tuple[str, float, float]:
    """Text, wall-clock and processor seconds of one recording."""
    started, cpu = time.perf_counter(), time.process_time()
    text = transcribe(path)
    return text, time.perf_counter() - started, time.process_time() - cpu


def _network(job: Job) -> tuple[Callable[[str], str], str]:
    from asr.transcribe.options import TranscribeOptions
    from asr.transcribe.recogniser import load

    recogniser = load(job.model, threads=1, backend=job.backend)
    options = TranscribeOptions(decoding=job.decoding)
    recogniser.decoder(job.decoding)
    return (
        lambda path: next(recogniser.transcribe(path, options)).text,
        recogniser.backend.describe(),
    )


def _pocketsphinx() -> tuple[Callable[[str], str], str]:
    version = pocketsphinx_version()
    import numpy as np
    from pocketsphinx import Decoder

    decoder = Decoder()

    def transcribe(path: str) -> str:
        samples = audio.load(path, POCKETSPHINX_RATE).samples
        raw = np.clip(np.rint(samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16).tobytes()
        decoder.start_utt()
        decoder.process_raw(raw, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return str(found.hypstr) if found else ""

    return transcribe, f"pocketsphinx {version}"


def pocketsphinx_version() -> str:
    """Version of the installed package. Raises AsrError if it is not installed."""
    try:
        return metadata.version("pocketsphinx")
    except metadata.PackageNotFoundError:
        raise AsrError(
            f"PocketSphinx is not installed: {install('bench')}, or leave out --pocketsphinx"
        ) from None


def pocketsphinx_bytes() -> dict[str, int]:
    """Bytes that its wheel installs; compiled Python is not counted.

    `installed`: all of it; `model`: the folder with the acoustic model and dictionary; `lm`: the
    trigram, which lies in that folder and is not counted in `model`.
    """
    pocketsphinx_version()
    sizes = {
        file: Path(str(file.locate())).stat().st_size
        for file in metadata.files("pocketsphinx") or []
        if file.suffix != ".pyc" and Path(str(file.locate())).is_file()
    }
    lm = sum(size for file, size in sizes.items() if file.name == "en-us.lm.bin")
    model = sum(size for file, size in sizes.items() if "model" in file.parts)
    return {"installed": sum(sizes.values()), "model": model - lm, "lm": lm}


def main(words: list[str]) -> int:
    """Read a job, write its outcome: `JOB OUTCOME STARTED`."""
    job_file, outcome, started = Path(words[0]), Path(words[1]), float(words[2])
    job = Job.from_plain(json.loads(job_file.read_text(encoding="utf-8")))
    outcome.write_text(json.dumps(asdict(work(job, started))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(str(error))
