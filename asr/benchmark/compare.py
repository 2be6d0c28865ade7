"""`asr benchmark FILE`: a person's own network, dense against sparse, on their own machine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr import audio, environment
from asr.benchmark import load_monitor as idle
from asr.benchmark.dense import TORCH
from asr.benchmark.networks import DenseNetwork
from asr.benchmark.sparse import used_level
from asr.benchmark.timing import Measured, Timing, interleave
from asr.errors import AsrError
from asr.features.logmel import features
from asr.model.file import naming, read_model
from asr.model.fold import fold_tensors
from asr.model.metadata import Metadata
from asr.model.native_network import Network
from asr.pretrained import registry as models
from asr.sparse.kernels import library

SPARSE = "sparse, asr"
EXACT = "sparse, asr, exact"
OWN_DENSE = "dense, asr"
SLOT_SECONDS = 0.3
"""Of each way's turn, three times; with ten of them and what they load, well below a minute."""


@dataclass(frozen=True)
class Result:
    """What was measured; `table()` says it."""

    path: Path
    network: str
    sparsity: float
    """Zeros over elements of the recurrent matrices."""
    seconds: float
    columns: int
    threads: int
    measured: Measured
    errors: dict[str, float]
    """Largest difference of a log-probability from the first of the dense ones."""
    other: dict[str, float]
    """Share of frames whose likeliest symbol is another one."""
    kernels: dict[str, str]
    absent: dict[str, str]

    @property
    def fastest_dense(self) -> tuple[str, Timing]:
        """Name and time of the quickest dense alternative."""
        dense = {n: t for n, t in self.measured.timings.items() if n not in (SPARSE, EXACT)}
        return min(dense.items(), key=lambda item: item[1].seconds)

    @property
    def ratio(self) -> float:
        """How many times quicker sparse is than the fastest dense alternative; below 1: slower."""
        return self.fastest_dense[1].seconds / self.measured.timings[SPARSE].seconds

    def table(self) -> str:
        """The figures and what they mean, for a terminal."""
        audio_seconds = self.seconds * self.columns
        best = self.fastest_dense[1].seconds
        lines = [
            f"{self.path.name}: {self.network}, {100 * self.sparsity:.1f} % of its recurrent "
            "weights zero",
            f"{self.columns} x {self.seconds:.3g} s of audio, features to log-probabilities, on "
            f"{environment.threads_line(self.threads)}, {used_level()}",
            "",
            f"{'':<22}{'ms':>9}  {'quartiles':<17}{'x real time':>12}{'against dense':>15}"
            f"{'error':>10}{'symbols':>9}  kernel",
        ]
        for name, timing in self.measured.timings.items():
            low, high = (f"{1e3 * value:.1f}" for value in (timing.low, timing.high))
            lines.append(
                f"{name:<22}{1e3 * timing.seconds:>9.1f}  {low + ' to ' + high:<17}"
                f"{timing.seconds / audio_seconds:>12.5f}{best / timing.seconds:>14.2f}x"
                f"{self.errors[name]:>10.1e}{100 * self.other[name]:>7.1f} %  "
                f"{self.kernels.get(name, '')}".rstrip()
            )
        lines += [f"not measured: {name}: {reason}" for name, reason in self.absent.items()]
        return "\n".join([*lines, "", *self._meaning()])

    def _meaning(self) -> list[str]:
        name, _ = self.fastest_dense
        first = next(iter(self.measured.timings))
        lines = [
            f"Against dense: times quicker than the quickest dense one, {name}. Error: largest "
            f"difference of a log-probability from {first}; symbols: frames whose likeliest symbol "
            "is another one."
        ]
        if self.ratio >= 1:
            lines.append(f"Sparse is {self.ratio:.2f} times as quick as {name} here.")
        else:
            lines.append(
                f"Sparse LOSES here: {name} is {1 / self.ratio:.2f} times as quick. {self._why()}"
            )
        if name == OWN_DENSE and not any(t in self.measured.timings for t in TORCH):
            lines.append(
                "The dense side is our own dense kernel, as no other runtime is installed; a good "
                "int8 runtime is quicker: pip install 'asr[train,bench]' to compare with those."
            )
        others = self.measured.others
        if others is not None and others > idle.LIMIT:
            lines.append(
                f"Other programs used up to {100 * others:.0f} % of a core meanwhile, which slows "
                "thread teams most: run it again on an idle machine before believing a figure."
            )
        return lines

    def _why(self) -> str:
        if library() is None:
            return "The C library of the kernels is not built, so numpy did a dense product."
        if self.sparsity < 0.8:
            return "Below about 80 % zeros there is little to win; prune further, or run it dense."
        return "Use the dense one on this machine, or see what bank and block patterns gain."


def benchmark(
    path: str | Path,
    seconds: float = 10.0,
    columns: int = 1,
    threads: int = 2,
    recording: Path | None = None,
) -> Result:
    """Time the network of a model file in our engine and in every dense runtime installed.

    The input is noise of `seconds`, or the first `seconds` of `recording`, `columns` times.
    Raises AsrError for a file that is no model, and for numbers that make no sense.
    """
    path = models.resolve(path)
    if not (0.1 <= seconds <= 120 and columns >= 1 and threads >= 1):
        raise AsrError(
            f"seconds={seconds:g} (0.1 to 120), columns={columns} and threads={threads} (1 and up)"
        )
    file = read_model(path)
    metadata = file.metadata
    with naming(path):
        sparse = Network(file.tensors, metadata.model)
    row = _features(metadata, seconds, recording)
    batch = np.repeat(row[None], columns, axis=0)
    dense_tensors, dimensions = fold_tensors(file.dense(), metadata.model)
    alternatives = DenseNetwork(dense_tensors, dimensions, threads).alternatives(batch)
    calls: dict[str, Callable[[], object]] = {n: c.run for n, c in alternatives.found.items()}
    outputs = {name: contestant.output for name, contestant in alternatives.found.items()}
    networks = {
        OWN_DENSE: Network(_filled(dense_tensors), dimensions),
        SPARSE: sparse,
        EXACT: Network(file.tensors, metadata.model, exact=True),
    }
    lengths = np.full(columns, batch.shape[1])
    for name, network in networks.items():
        calls[name] = _call(network, batch, lengths, threads)
        outputs[name] = lambda call=calls[name]: call()[0]  # type: ignore[misc]
    found = {name: output() for name, output in outputs.items()}
    wanted = next(iter(found.values()))
    matrices = [v for n, v in dense_tensors.items() if ".weight_" in n]
    return Result(
        path=path,
        network=f"{dimensions.layers} x {dimensions.cell} {dimensions.hidden}",
        sparsity=1 - sum(map(np.count_nonzero, matrices)) / sum(m.size for m in matrices),
        seconds=min(seconds, len(row) * metadata.frontend.step_seconds),
        columns=columns,
        threads=threads,
        measured=interleave(calls, slot_seconds=SLOT_SECONDS, allow_busy=True),
        errors={name: float(np.abs(y - wanted).max()) for name, y in found.items()},
        other={n: float((y.argmax(-1) != wanted.argmax(-1)).mean()) for n, y in found.items()},
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
    """The same with nothing that is exactly zero, so that every element is stored."""
    return {n: np.where(t == 0, np.float32(1e-12), t) for n, t in tensors.items()}


def _call(
    network: Network, batch: np.ndarray, lengths: np.ndarray, threads: int
) -> Callable[[], Any]:
    return lambda: network.log_probs(batch, lengths, threads=threads)


def _kernels(network: Network) -> str:
    found = {kernel for name, kernel in network.describe().items() if ".weight_" in name}
    return " and ".join(sorted(found))
