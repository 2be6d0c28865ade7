"""Instructions that a sparse product takes for each non-zero weight, on x86 and on ARM.

    python recipes/benchmarks/instructions.py [--quick] [--again]

A matrix of 768 x 256 (the recurrent one of a GRU of 256 units), Gaussian, pruned by magnitude in
each pattern to 90.6 %, times 1 and 8 columns. On x86 the built library runs step by step (ptrace).
For ARM the kernels are compiled with the flags of setup.py and run under qemu-user one instruction
at a time, whose log is counted; gcc-aarch64-linux-gnu and qemu-user-static must be installed. One
product is what two products take more than one.

It is no measure of time: instructions differ, and how many run at once differs by processor. It
says how much work the kernels of ARM do beside those that are timed. Nothing is timed, so any x86
machine with AVX-512 gives the same figures.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from lib.record import Display, Part
from lib.script import finish, start
from lib.weights import keep

from asr.errors import AsrError
from asr.report.table import Column, Table
from asr.sparse.csr import CsrMatrix, Pattern, from_dense
from asr.sparse.kernels import KERNELS, LEVELS, choose, levels, library
from asr.sparse.kernels.layouts import KernelLayout, lay_out
from asr.sparse.kernels.library import ARM, includes
from asr.sparse.kernels.matrix import KERNEL_CODES

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "asr/sparse/kernels/c"
DRIVER = Path(__file__).parent / "lib/instructions.c"
FLAGS = ["-O3", "-g0", "-std=gnu11", "-fno-math-errno", "-fvisibility=hidden"]
EMULATOR = "qemu-aarch64-static"
COMPILERS = {"x86": "gcc", "arm": "aarch64-linux-gnu-gcc"}
X86 = ("plain", "avx2", "avx2vnni", "avx512vnni")
PATTERNS: tuple[Pattern, ...] = ("element", "bank", "block")
SPARSITY = 0.90625


def family(level: str) -> str:
    """Which processor has the instruction set."""
    return "arm" if level in ARM else "x86"


def build(folder: Path, built: str) -> dict[str, Path]:
    """The program of lib/instructions.c for each processor; `built` is the path of the library.

    Raises AsrError without a compiler.
    """
    for tool in (*COMPILERS.values(), EMULATOR):
        if not shutil.which(tool):
            raise AsrError(f"{tool} is needed; `make test-arm` installs compiler and emulator")
    library_or_sources = {
        "x86": [built, f"-Wl,-rpath,{Path(built).parent}"],
        "arm": [*map(str, sorted(SOURCES.glob("*.c"))), "-lm", "-static"],
    }
    found = {}
    for name, compiler in COMPILERS.items():
        found[name] = folder / name
        command = [compiler, *FLAGS, f"-I{SOURCES}", str(DRIVER), *library_or_sources[name]]
        subprocess.run([*command, "-o", str(found[name])], check=True)
    return found


def write_matrix(path: Path, rows: CsrMatrix, kernel: str, level: str) -> KernelLayout:
    """Write `asr_matrix` of c/sparse.h with its arrays."""
    loaded = library()
    assert loaded is not None
    layout = lay_out(rows, kernel, level, loaded)
    numbers = [KERNEL_CODES.index(kernel), LEVELS.index(level), *rows.shape]
    numbers += [layout.groups, layout.run, layout.lanes, layout.pairs]
    content = np.array(numbers, np.int32).tobytes()
    for name in ("starts", "index", "wide", "words", "sums", "scales", "blocks", "order"):
        array = getattr(layout, name)
        data = b"" if array is None else array.tobytes()
        content += np.int64(len(data)).tobytes() + data
    path.write_bytes(content)
    return layout


def count(program: Path, level: str, matrix: Path, columns: int) -> int:
    """Instructions of one product."""
    totals = []
    for times in (1, 2):
        arguments = [str(program), str(matrix), str(columns), str(times)]
        if family(level) == "x86":
            done = subprocess.run(arguments, check=True, capture_output=True, text=True)
            totals.append(int(done.stdout))
            continue
        log = matrix.with_suffix(".log")
        logged = [EMULATOR, "-cpu", "max", "-singlestep", "-d", "exec,nochain", "-D", str(log)]
        subprocess.run([*logged, *arguments], check=True)
        with log.open("rb") as file:
            totals.append(sum(line.startswith(b"Trace") for line in file))
        log.unlink()
    return totals[1] - totals[0]


def runs() -> list[tuple[Pattern, str, str]]:
    """Pattern, kernel and instruction set of the rows: what is chosen, the exact one, int8."""
    found: list[tuple[Pattern, str, str]] = []
    for pattern in PATTERNS:
        for level in (*X86, *ARM):
            for way in ({}, {"exact": True}, {"values": "int8"}):
                kernel = choose(pattern, SPARSITY, level, **way)  # type: ignore[arg-type]
                # The best code of the kernel that this instruction set has.
                code = [name for name in KERNELS[kernel].levels if includes(level, name)][-1]
                found.append((pattern, kernel, code))
    return list(dict.fromkeys(found))


def display(parts: list[Part]) -> Display:
    """One row for each pattern, kernel and instruction set."""
    cells = tuple(
        (
            row["pattern"],
            row["kernel"],
            KERNELS[row["kernel"]].values,
            row["level"],
            f"{row['bytes_per_kept']:.2f}",
            *(f"{row['instructions'][str(n)] / (row['kept'] * n):.2f}" for n in part["columns"]),
        )
        for part in parts
        for row in part["results"]
    )
    words = ("Pattern", "Kernel", "Weights", "Instruction set")
    numbers = ("Bytes per non-zero", "Instructions, 1 column", "8 columns, for each")
    columns = (*(Column(word, numeric=False) for word in words), *map(Column, numbers))
    size = "x".join(map(str, parts[0]["shape"])) if parts else ""
    note = (
        f"{size}, {100 * SPARSITY:.4g} % zeros; every instruction of a product, the rounding of "
        "its input included, over non-zero weights and columns. x86 step by step, ARM under qemu."
    )
    return Display(Table("", columns, cells), notes=(note,))


def main(arguments: Sequence[str]) -> int:
    script = start("instructions", __doc__ or "", display, arguments, timed=False)
    loaded = library()
    if loaded is None:
        raise AsrError("the C library of the sparse kernels is not built: it lays out the matrices")
    shape = (48, 64) if script.quick else (768, 256)
    if script.done("instructions"):
        return 0
    weights = np.random.default_rng(5).standard_normal(shape, np.float32)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        programs = build(Path(folder), loaded._name)
        for pattern, kernel, level in runs():
            if family(level) == "x86" and level not in levels():
                continue
            dense = weights * keep(weights, pattern, SPARSITY)
            rows = replace(from_dense(dense, "element"), pattern=pattern)
            path = Path(folder) / "matrix"
            layout = write_matrix(path, rows, kernel, level)
            counted = {str(n): count(programs[family(level)], level, path, n) for n in (1, 8)}
            results.append(
                {
                    "name": f"{pattern}, {kernel}, {level}",
                    "kind": "sparse",
                    "pattern": pattern,
                    "kernel": kernel,
                    "level": level,
                    "kept": rows.kept,
                    "bytes_per_kept": layout.bytes / rows.kept,
                    "instructions": counted,
                }
            )
            print(f"{results[-1]['name']}: {counted}", flush=True)
    part = {"shape": list(shape), "columns": [1, 8], "threads": 1, "results": results}
    script.record.add("instructions", part, None)
    print(display([part]).first.text())
    return 0


if __name__ == "__main__":
    finish(main)
