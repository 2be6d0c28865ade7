"""`asr benchmark FILE`: a person's own network, dense against sparse, on their own machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr import audio, environment
from asr.benchmark.dense import NAMES, TORCH, DenseNetwork
from asr.benchmark.timing import Timing, TimingRun, interleave
from asr.errors import AsrError, install
from asr.features.logmel import features
from asr.model.backend import torch_threads
from asr.model.file import ModelFile, naming, read_model
from asr.model.fold import fold_tensors
from asr.model.metadata import Metadata
from asr.model.native_network import Network
from asr.pretrained import registry as models
from asr.report.table import Column, Table
from asr.sparse.kernels import LEVELS, level, library

SPARSE = "sparse, asr"
EXACT = "sparse, asr, exact"
OWN_DENSE = "dense, asr"
SLOT_SECONDS = 0.3
"""Of each way's turn, three times; with ten ways and their loading, well below a minute."""

_COLUMNS = (
    Column("run as", numeric=False),
    Column("ms"),
    Column("quartiles"),
    Column("x real time"),
    Column("against dense"),
    Column("error"),
    Column("other tokens"),
    Column("kernel", numeric=False),
)


@dataclass(frozen=True)
class BenchmarkResult:
    """What was measured, in the order of the runs; `table()` prints it."""

    path: Path
    network: str
    sparsity: float
    """Zeros over elements of the recurrent matrices."""
    seconds: float
    """Length of each utterance."""
    utterances: int
    """Utterances at once."""
    threads: int
    measured: TimingRun
    errors: dict[str, float]
    """Largest difference of a log-probability from the first of the dense ones."""
    other_tokens: dict[str, float]
    """Fraction of frames whose likeliest token is not that of the first."""
    kernels: dict[str, str]
    absent: dict[str, str]
    """Dense runtimes that did not run, with the reason."""

    @property
    def fastest_dense(self) -> tuple[str, Timing]:
        """Name and time of the fastest dense alternative."""
        dense = {n: t for n, t in self.measured.timings.items() if n not in (SPARSE, EXACT)}
        return min(dense.items(), key=lambda item: item[1].seconds)

    @property
    def ratio(self) -> float:
        """How many times faster sparse is than the fastest dense alternative; below 1: slower."""
        return self.fastest_dense[1].seconds / self.measured.timings[SPARSE].seconds

    def heading(self) -> str:
        """What was measured on what."""
        return (
            f"{self.path.name}: {self.network}, {100 * self.sparsity:.1f} % of its recurrent "
            f"weights zero\n{self.utterances} x {self.seconds:.3g} s of audio, features to "
            f"log-probabilities, on {environment.threads_line(self.threads)}"
        )

    def table(self) -> str:
        """The figures and what they mean, for a terminal."""
        audio_seconds = self.seconds * self.utterances
        best = self.fastest_dense[1].seconds
        rows = [
            (
                name,
                f"{1e3 * timing.seconds:.1f}",
                f"{1e3 * timing.low:.1f} to {1e3 * timing.high:.1f}",
                f"{timing.seconds / audio_seconds:.5f}",
                f"{best / timing.seconds:.2f}x",
                f"{self.errors[name]:.1e}",
                f"{100 * self.other_tokens[name]:.1f} %",
                self.kernels.get(name, ""),
            )
            for name, timing in self.measured.timings.items()
        ]
        lines = [
            f"{self.heading()}, {instruction_set()}",
            "",
            Table("", _COLUMNS, tuple(rows)).text(),
            *(f"absent: {name}: {reason}" for name, reason in self.absent.items()),
        ]
        return "\n".join([*lines, "", *self._meaning()])

    def _meaning(self) -> list[str]:
        name, _ = self.fastest_dense
        first = next(iter(self.measured.timings))
        lines = [
            f"Against dense: times faster than the fastest dense one, {name}. Error: largest "
            f"difference of a log-probability from {first}; other tokens: frames whose likeliest "
            "token is another one."
        ]
        if self.ratio >= 1:
            lines.append(f"Sparse is {self.ratio:.2f} times as fast as {name} here.")
        else:
            lines.append(
                f"Sparse LOSES here: {name} is {1 / self.ratio:.2f} times as fast. {self._why()}"
            )
        if name == OWN_DENSE and not any(t in self.measured.timings for t in TORCH):
            lines.append(
                "The dense side is our own dense kernel, as no other runtime is installed; a good "
                f"int8 runtime is faster. To compare with those: {install('train,bench')}."
            )
        if self.measured.busy:
            load = 100 * (self.measured.other_load or 0.0)
            lines.append(
                f"Other programs used up to {load:.0f} % of a core meanwhile, "
                "which slows thread teams most: run it again on an idle machine before believing a "
                "figure."
            )
        return lines

    def _why(self) -> str:
        if library() is None:
            return "The C library of the kernels is not built, so numpy did a dense product."
        if self.sparsity < 0.8:
            return "Below about 80 % zeros there is little to win; prune further, or run it dense."
        return "Use the dense one on this machine, or see what bank and block patterns gain."


def instruction_set() -> str:
    """The instruction set in use, `numpy` without the C library."""
    return LEVELS[level()] if library() is not None else "numpy"


def benchmark(
    path: str | Path,
    seconds: float = 10.0,
    utterances: int = 1,
    threads: int = 2,
    recording: Path | None = None,
    dense: Sequence[str] = NAMES,
) -> BenchmarkResult:
    """Time the network of a model file in the native backend and the `dense` ways to run it.

    The input is noise of `seconds`, or the first `seconds` of `recording`, `utterances` times.
    Raises AsrError for a file that is not a model, and for numbers out of range.
    """
    path = models.resolve(path)
    if not (0.1 <= seconds <= 120 and 1 <= utterances <= 1024 and 1 <= threads <= 1024):
        raise AsrError(
            f"seconds={seconds:g} (0.1 to 120), utterances={utterances} and threads={threads} "
            "(1 to 1024)"
        )
    file = read_model(path)
    with naming(path):
        sparse = Network(file.tensors, file.metadata.model)
    with torch_threads(threads):
        return _measure(path, file, sparse, seconds, utterances, threads, recording, dense)


def _measure(
    path: Path,
    file: ModelFile,
    sparse: Network,
    seconds: float,
    utterances: int,
    threads: int,
    recording: Path | None,
    dense: Sequence[str],
) -> BenchmarkResult:
    metadata = file.metadata
    row = _features(metadata, seconds, recording)
    batch = np.repeat(row[None], utterances, axis=0)
    dense_tensors, dimensions = fold_tensors(file.dense(), metadata.model)
    alternatives = DenseNetwork(dense_tensors, dimensions, threads).alternatives(batch, dense)
    calls: dict[str, Callable[[], object]] = {n: c.run for n, c in alternatives.found.items()}
    outputs = {name: computation.output() for name, computation in alternatives.found.items()}
    networks = {
        OWN_DENSE: Network(_filled(dense_tensors), dimensions),
        SPARSE: sparse,
        EXACT: Network(file.tensors, metadata.model, exact=True),
    }
    lengths = np.full(utterances, batch.shape[1])
    for name, network in networks.items():
        calls[name] = call = _call(network, batch, lengths, threads)
        outputs[name] = call()[0]
    first = next(iter(outputs.values()))
    matrices = [v for n, v in dense_tensors.items() if ".weight_" in n]
    return BenchmarkResult(
        path=path,
        network=f"{dimensions.layers} x {dimensions.cell} {dimensions.hidden}",
        sparsity=1 - sum(map(np.count_nonzero, matrices)) / sum(m.size for m in matrices),
        seconds=min(seconds, len(row) * metadata.frontend.step_seconds),
        utterances=utterances,
        threads=threads,
        measured=interleave(calls, slot_seconds=SLOT_SECONDS, allow_busy=True),
        errors={name: float(np.abs(y - first).max()) for name, y in outputs.items()},
        other_tokens={
            n: float((y.argmax(-1) != first.argmax(-1)).mean()) for n, y in outputs.items()
        },
        kernels={name: _kernels(network) for name, network in networks.items()},
        absent=alternatives.absent,
    )


def _features(metadata: Metadata, seconds: float, recording: Path | None) -> np.ndarray:
    rate = metadata.frontend.sample_rate
    if recording is None:
        samples = 0.1 * np.random.default_rng(1).standard_normal(round(seconds * rate), np.float32)
    else:
        samples = audio.load(recording, rate).samples[: round(seconds * rate)]
        if not metadata.frontend.frames(len(samples)):
            raise AsrError(f"{recording}: too short for a single frame")
    return features(samples, metadata.frontend)


def _filled(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same without exact zeros, so that every element is stored."""
    return {n: np.where(t == 0, np.float32(1e-12), t) for n, t in tensors.items()}


def _call(
    network: Network, batch: np.ndarray, lengths: np.ndarray, threads: int
) -> Callable[[], Any]:
    return lambda: network.log_probs(batch, lengths, threads=threads)


def _kernels(network: Network) -> str:
    found = {kernel for name, kernel in network.describe().items() if ".weight_" in name}
    return " and ".join(sorted(found))
