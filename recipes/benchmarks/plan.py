"""How long it takes to plan an epoch of millions of utterances, and how much memory it needs.

    python recipes/benchmarks/plan.py [--quick] [--allow-busy] [--again]

Each row is measured in a process of its own. Planning: durations are drawn, then the batches of one
epoch are made as the loader of one of eight ranks asks for them. Manifest: a file of three million
lines is written, then read as a training reads it (`asr.corpus.index`: where each line begins, and
float32 durations), saved, and planned; beside it, read to a list of utterances, as `asr evaluate`
does, and planned. Three million lines stand for thirty: seconds and memory grow with their number.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib.record import Display, Part
from lib.script import Script, finish, start

from asr import environment
from asr.benchmark.timing import LoadMonitor
from asr.corpus.index import durations_of, index_manifests
from asr.corpus.manifest import read_manifest
from asr.report.table import Column, Table
from asr.train.batches import BatchPlan

COUNTS = (281_000, 3_000_000, 30_000_000)
LINES = 3_000_000
BATCH_SECONDS, WORLD = 400.0, 8
RANDOM_LINES = 2000
TEXT = 200 * "THE OF AND TO IN A THAT HE WAS IT HIS IS WITH AS HAD FOR HER SHE NOT BUT "


def durations(count: int) -> np.ndarray:
    """Seconds of utterances, float32: 1 to 30, 12 on average."""
    generator = np.random.default_rng(1)
    drawn = np.empty(count, dtype=np.float32)
    for begin in range(0, count, 2**20):  # more at once would be a part of the peak
        part = drawn[begin : begin + 2**20]
        part[:] = np.clip(generator.gamma(5, 2.4, len(part)), 1, 30)
    return drawn


class Meter:
    """Seconds and memory of this process from the moment it is made."""

    def __init__(self) -> None:
        self.peak = environment.peak_memory_mib() or 0.0
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Wall and processor seconds, the peak of the whole process and how far it rose."""
        peak = environment.peak_memory_mib() or 0.0
        seconds = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {
            "seconds": seconds[0],
            "cpu_seconds": seconds[1],
            "peak_mib": peak,
            "rise_mib": peak - self.peak,
        }


def planned(seconds: np.ndarray) -> int:
    """Utterances of one rank in an epoch that is planned from its beginning to its end."""
    return sum(map(len, BatchPlan(seconds, BATCH_SECONDS, 1, 0, 0, WORLD)))


def case_plan(count: int) -> dict[str, Any]:
    """The batches of an epoch of so many utterances."""
    drawn = durations(count)
    meter = Meter()
    utterances = planned(drawn)
    return {"utterances": count, "of_rank": utterances, **meter.read()}


def case_index(manifest: str, folder: str) -> dict[str, Any]:
    """The manifest read and saved as a training does it, and planned."""
    meter = Meter()
    found = index_manifests([manifest]).save(Path(folder) / "index.npy")
    reading = meter.read()
    planned(durations_of(found))
    return {**meter.read(), **of_lines(found, reading), "sent": len(pickle.dumps(found))}


def case_list(manifest: str, _: str) -> dict[str, Any]:
    """The manifest read to a list of utterances, and planned."""
    meter = Meter()
    found = read_manifest(manifest)
    reading = meter.read()
    planned(durations_of(found))
    measured = meter.read()
    # Of a part, since a pickle of all would be a part of what is measured.
    sent = len(pickle.dumps(found[:1000])) * len(found) / 1000
    return {**measured, **of_lines(found, reading), "sent": int(sent)}


def of_lines(found: Sequence[Any], reading: dict[str, float]) -> dict[str, Any]:
    """How fast lines were read one after the other, and how fast one of them is."""
    wanted = np.random.default_rng(2).integers(0, len(found), RANDOM_LINES)
    began = time.process_time()
    for index in wanted:
        found[int(index)]
    one = (time.process_time() - began) / RANDOM_LINES
    names = {"seconds": "reading", "cpu_seconds": "cpu_reading"}
    return {"lines": len(found), "one": one} | {names[k]: reading[k] for k in names}


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    "plan": case_plan,
    "index": case_index,
    "list": case_list,
}


def measured(name: str, *arguments: Any) -> dict[str, Any]:
    """What a case measures, in a process of its own."""
    words = [sys.executable, __file__, "--case", name, json.dumps(arguments)]
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(words, capture_output=True, text=True, env=environ)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_lines(path: Path, count: int) -> None:
    """A manifest as `asr corpus` writes it, its texts as long as what is said in their seconds."""
    with path.open("w") as file:
        for i, seconds in enumerate(durations(count).tolist()):
            row = {
                "audio_filepath": f"part-{i // 1000:05d}/utterance-{i:08d}.flac",
                "duration": round(seconds, 3),
                "text": TEXT[37 * i % 4000 :][: int(14 * seconds)],
                "speaker": f"{i // 500}",
                "id": f"utterance-{i:08d}",
            }
            file.write(json.dumps(row) + "\n")


def add(
    script: Script, key: str, cases: Sequence[tuple[str, tuple[Any, ...]]], **more: Any
) -> None:
    """Measure cases one after the other, add them as a part and print them."""
    monitor = LoadMonitor()
    results = [{"name": name, **measured(name, *arguments)} for name, arguments in cases]
    part = script.record.add(key, {**more, "results": results}, monitor.other_load())
    print((plan_table if key == "plan" else lines_table)([part]).text(), flush=True)


def plan_table(parts: Sequence[Part]) -> Table:
    """Seconds and memory of planning."""
    rows = tuple(
        (
            f"{r['utterances']:,}",
            f"{r['seconds']:.2f}",
            f"{r['peak_mib']:,.0f}",
            f"{r['rise_mib']:,.0f}",
        )
        for part in parts
        for r in part["results"]
        if r["name"] == "plan"
    )
    names = ("Utterances", "Seconds", "Peak memory, MiB", "Of it for the plan")
    return Table("", tuple(map(Column, names)), rows)


def lines_table(parts: Sequence[Part]) -> Table:
    """Reading a manifest in two ways."""
    named = {"index": "an index, as a training", "list": "a list of utterances"}
    rows = tuple(
        (
            named[r["name"]],
            f"{r['reading']:.0f}",
            f"{r['lines'] / r['reading'] / 1000:,.0f}",
            f"{r['rise_mib']:,.0f}",
            f"{r['sent'] / 1e6:,.3g}",
            f"{1e6 * r['one']:,.3g}",
        )
        for part in parts
        for r in part["results"]
        if r["name"] in named
    )
    first = next((r["lines"] for part in parts for r in part["results"] if "lines" in r), 0)
    names = (
        "Seconds",
        "Thousand lines a second",
        "Memory, MiB",
        "Sent to each other process, MB",
        "One utterance, µs",
    )
    title = f"A manifest of {first:,} lines, read and planned"
    return Table(title, (Column("Read to", numeric=False), *map(Column, names)), rows)


def display(parts: Sequence[Part]) -> Display:
    """Both tables."""
    note = (
        f"One epoch in batches of {BATCH_SECONDS:g} s for one of {WORLD} processes. The peak is of "
        "the whole process, torch included; memory beside it is without what a process has before."
    )
    return Display(plan_table(parts), (lines_table(parts),), (note,))


def main(arguments: Sequence[str]) -> int:
    script = start("plan", __doc__ or "", display, arguments)
    counts, lines = ((20_000,), 5000) if script.quick else (COUNTS, LINES)
    if not script.done("plan"):
        add(script, "plan", [("plan", (count,)) for count in counts], threads=1)
    if not script.done("manifest"):
        with tempfile.TemporaryDirectory() as folder:
            manifest = Path(folder) / "manifest.jsonl"
            write_lines(manifest, lines)
            about = {"threads": 1, "bytes": manifest.stat().st_size}
            where = (str(manifest), folder)
            add(script, "manifest", [("index", where), ("list", where)], **about)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(CASES[sys.argv[2]](*json.loads(sys.argv[3]))))
    else:
        finish(main)
