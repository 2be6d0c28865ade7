"""The comparison of `asr benchmark` for every instruction set of this processor.

Both sides are held to the set, each in a process of its own, because libraries read the variables
that hold them when they are loaded. So a figure for an AVX2 processor can be had on another one;
its caches and clock remain those of this one.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from asr.benchmark.compare import EXACT, SPARSE, BenchmarkResult
from asr.benchmark.dense import NAMES, TORCH
from asr.errors import AsrError
from asr.report.table import Column, Table
from asr.sparse.kernels import levels, library


@dataclass(frozen=True)
class Held:
    """How both sides are held to an instruction set."""

    variables: Mapping[str, str]
    """Of the environment: ours, torch's, oneDNN's, FBGEMM's and MKL's."""
    dense: tuple[str, ...] = TORCH
    """Alternatives that can be held: ONNX Runtime and OpenVINO have no such variable."""
    note: str = ""

    def describe(self) -> str:
        """The variables, for a record."""
        return " ".join(f"{name}={value}" for name, value in self.variables.items())


def _held(level: str, aten: str, onednn: str, fbgemm: str, note: str = "") -> Held:
    variables = {
        "ASR_LEVEL": level,
        "ATEN_CPU_CAPABILITY": aten,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "FBGEMM_ENABLE_INSTRUCTIONS": fbgemm,
        "MKL_ENABLE_INSTRUCTIONS": fbgemm,
    }
    return Held(variables, note=note)


HELD: dict[str, Held] = {
    "avx2": _held("avx2", "avx2", "AVX2", "AVX2"),
    "avx2vnni": _held(
        "avx2vnni",
        "avx2",
        "AVX2_VNNI",
        "AVX2",
        "on the dense side oneDNN alone has AVX2 with VNNI, and only where the processor has "
        "AVX-VNNI; without it our dot products take the encoding of AVX-512 in vectors of 32 bytes",
    ),
    "avx512bw": _held("avx512bw", "avx512", "AVX512_CORE", "AVX512"),
    "avx512vnni": Held({"ASR_LEVEL": "avx512vnni"}, NAMES, "nothing else is held"),
}
"""The sets that can be compared; the others have no dense side of their own."""


def sets_here() -> tuple[str, ...]:
    """The sets of `HELD` that this processor has. Raises AsrError if there are none."""
    found = tuple(name for name in levels() if name in HELD)
    if library() is None or not found:
        raise AsrError(
            "no instruction sets to compare: the C library of the sparse kernels was not built, "
            "or this processor has no AVX2"
        )
    return found


_CHILD = """
import pickle, sys
from asr.benchmark.compare import benchmark
from asr.errors import AsrError
try:
    result = benchmark(**pickle.load(sys.stdin.buffer))
except AsrError as error:
    result = str(error)
sys.stdout.buffer.write(pickle.dumps(result))
"""


def benchmark_sets(
    path: str | Path,
    seconds: float = 10.0,
    utterances: int = 1,
    threads: int = 2,
    recording: Path | None = None,
) -> dict[str, BenchmarkResult]:
    """`benchmark` for every instruction set that this processor has. Raises AsrError as it does."""
    found = {}
    for name in sets_here():
        arguments = {
            **{"path": path, "seconds": seconds, "utterances": utterances, "threads": threads},
            **{"recording": recording, "dense": HELD[name].dense},
        }
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=pickle.dumps(arguments),
            stdout=subprocess.PIPE,
            env=os.environ | HELD[name].variables,
        )
        if done.returncode:
            raise AsrError(f"the process that measures {name} ended with {done.returncode}")
        result = pickle.loads(done.stdout)
        if isinstance(result, str):
            raise AsrError(result)
        found[name] = cast(BenchmarkResult, result)
    return found


def table(results: Mapping[str, BenchmarkResult]) -> str:
    """One row for each set: the fastest dense run, ours, and what they were held by."""
    columns = (
        Column("instruction set", numeric=False),
        Column("fastest dense", numeric=False),
        *map(Column, ("ms", "sparse ms", "against dense", "exact ms", "other tokens")),
        Column("kernel", numeric=False),
    )
    rows = []
    for name, result in results.items():
        dense, timing = result.fastest_dense
        ours = result.measured.timings[SPARSE]
        exact = result.measured.timings[EXACT]
        rows.append(
            (
                *(name, dense, f"{1e3 * timing.seconds:.1f}", f"{1e3 * ours.seconds:.1f}"),
                *(f"{result.ratio:.2f}x", f"{1e3 * exact.seconds:.1f}"),
                f"{100 * result.other_tokens[SPARSE]:.1f} %",
                result.kernels.get(SPARSE, ""),
            )
        )
    first = next(iter(results.values()))
    lines = [first.heading(), "", Table("", columns, tuple(rows)).text(), ""]
    for name in results:
        note = HELD[name].note
        lines.append(f"{name}: {HELD[name].describe()}" + (f"; {note}" if note else ""))
    if any(result.measured.busy for result in results.values()):
        lines.append("Other programs used the machine meanwhile: run it again when it is idle.")
    return "\n".join(lines)
