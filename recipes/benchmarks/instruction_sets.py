"""A whole network under each instruction set of this processor, sparse against dense.

    python recipes/benchmarks/instruction_sets.py [--quick] [--only avx2-3x512] [--allow-busy]
                                                  [--again]

The networks and the sparse ways of network.py, 10 s of audio, 5 x 800 with 2 threads and 3 x 512
with 1. Each set runs in a process of its own, with torch, oneDNN, FBGEMM and MKL held to the same
set by their environment variables; the record has these. `avx2vnni` is AVX2 with dot products of
bytes: where the processor has them only in AVX-512, ours take that encoding in vectors of 32 bytes
and without its further registers. The figures are for this processor's caches and clock.

Processor time is given beside wall time, because other programs disturb it less: medians of calls
in turn. That a record was taken beside other programs is said in it.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from lib.cells import Row
from lib.record import Display, Part, absent_lines
from lib.script import Script, finish, rows, show, start
from lib.sparse import MAIN
from network import SECONDS, dense_networks, dimensions_of, sparse_networks

from asr.benchmark.instruction_sets import HELD, sets_here
from asr.errors import AsrError, counted
from asr.report.table import Column, Table

NETWORKS = (("5x800", 5, 800, 2), ("3x512", 3, 512, 1))
"""Name, layers, hidden units, threads."""


def display(parts: Sequence[Part]) -> Display:
    """Wall and processor milliseconds under each set, with the ratio to the fastest dense run."""
    return Display(
        _table("", parts, "seconds"),
        (_table("Processor time of all threads, milliseconds", parts, "cpu_seconds"),),
        (
            "Milliseconds for 10 s of audio, features to log-probabilities, 90.6 % zeros, and how "
            "many times faster than the fastest dense alternative that could be held to the set.",
            *dict.fromkeys(f"{p['set']}: {p['held']}." for p in parts),
            *absent_lines(parts),
        ),
    )


def _table(title: str, parts: Sequence[Part], key: str) -> Table:
    def cell(row: Row | None, best: Row) -> str:
        return f"{1e3 * row[key]:.1f} ({best[key] / row[key]:.2f}x)" if row else "-"

    lines = []
    for part in parts:
        best = min((r for r in part["results"] if r["kind"] == "dense"), key=lambda r: r[key])
        found = {row["name"]: row for row in part["results"]}
        lines.append(
            (
                f"{part['set']}, {part['size']}, {counted(part['threads'], 'thread')}",
                f"{1e3 * best[key]:.1f} ({best['name']})",
                *(cell(found.get(variant.name), best) for variant in MAIN),
                cell(found.get("element, exact"), best),
            )
        )
    names = ("Fastest dense", *(variant.name for variant in MAIN), "element, exact")
    columns = (Column("Instruction set and network", numeric=False), *map(Column, names))
    return Table(title, columns, tuple(lines))


def measure(script: Script, held: str, size: str, layers: int, hidden: int, threads: int) -> None:
    """Measure one network in this process, which is held to a set."""
    seconds = 1 if script.quick else SECONDS
    dimensions = dimensions_of(layers, hidden)
    generator = np.random.default_rng(4)
    features = generator.standard_normal((1, 100 * seconds, dimensions.mels), np.float32)
    alternatives, calls, details = dense_networks(dimensions, features, threads, HELD[held].dense)
    kinds = dict.fromkeys(calls, "dense")
    ours, described = sparse_networks(dimensions, features, threads)
    kinds |= dict.fromkeys(ours, "sparse")
    measured = script.measure(calls | ours, slot_seconds=0.15, kinds=kinds)
    results = rows(measured, kinds, details | described)
    note = f"; {HELD[held].note}" if HELD[held].note else ""
    part = {
        **{"set": held, "size": size, "threads": threads, "audio_seconds": seconds},
        **{"held": HELD[held].describe() + note, "results": results},
        "absent": alternatives.absent,
    }
    key = f"{held}-{size}-t{threads}"
    script.record.add(key, part, measured.other_load)
    show(key, results, alternatives.absent)


def main(arguments: Sequence[str]) -> int:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--held", choices=tuple(HELD), help=argparse.SUPPRESS)

    script = start("instruction_sets", __doc__ or "", display, arguments, add, only="avx2-3x512")
    script.record.command = script.record.command.partition(" --held ")[0]
    networks = (("2x32", 2, 32, 1),) if script.quick else NETWORKS
    words = [word for word in arguments if word != "--again"]
    if script.options.held is None and script.options.again:
        script.record.begin_again()  # each process then adds to it
    for held in sets_here():
        for size, layers, hidden, threads in networks:
            key = f"{held}-{size}-t{threads}"
            if not key.startswith(script.options.only):
                continue
            if script.options.held is None:
                if script.done(key):
                    continue
                command = [sys.executable, __file__, *words, "--held", held, "--only", key]
                done = subprocess.run(command, env=os.environ | HELD[held].variables)
                if done.returncode:
                    raise AsrError(f"{key}: its process ended with {done.returncode}")
            elif script.options.held == held:
                measure(script, held, size, layers, hidden, threads)
    return 0


if __name__ == "__main__":
    finish(main)
