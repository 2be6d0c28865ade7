"""Shared by the scripts of recipes/benchmarks: options, the record, tables on the terminal."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.benchmark.timing import LOAD_LIMIT, ROUNDS, LoadMonitor, TimingRun, interleave
from asr.errors import AsrError
from asr.report.table import Column, Table
from asr.sparse.kernels import library
from asr.train.record import name_only
from lib.cells import fastest
from lib.record import Display, Part, PartedRecord

FOLDER = Path("recipes/results/benchmarks")


@dataclass(frozen=True)
class Script:
    """A benchmark that is running."""

    record: PartedRecord
    quick: bool
    allow_busy: bool
    options: argparse.Namespace

    def measure(
        self,
        calls: dict[str, Callable[[], object]],
        slot_seconds: float = 0.06,
        kinds: dict[str, str] | None = None,
    ) -> TimingRun:
        """Time the calls in turn; with `--quick` once and briefly."""
        rounds, slot = (1, 0.0) if self.quick else (ROUNDS, slot_seconds)
        return interleave(calls, rounds, slot, self.allow_busy, kinds=kinds)

    def done(self, key: str) -> bool:
        """Whether the record has this part already."""
        if key in self.record.parts:
            print(f"{key}: already in the record (--again measures it again)")
            return True
        return False


def named(paths: Iterable[Path]) -> dict[str, Path]:
    """Model files by the names that records have for them.

    A file that training calls `model.asr` or `packed.asr` has its folder in front. Raises AsrError
    for two of one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        generic = path.name in ("model.asr", "packed.asr")
        name = "/".join(path.resolve().parts[-2:]) if generic else path.name
        if name in found:
            raise AsrError(f"{found[name]} and {path}: both would be called {name} in the record")
        found[name] = path
    return found


def start(
    name: str,
    about: str,
    display: Callable[[list[Part]], Display],
    arguments: Sequence[str],
    add: Callable[[argparse.ArgumentParser], None] | None = None,
    timed: bool = True,
    only: str | None = None,
) -> Script:
    """Read the options of a script and open its record.

    With `only`, an example of a key, there is an option for a part of the keys. Scripts that are
    `timed` need an idle machine and the C library of the sparse kernels. Raises
    AsrError without them.
    """
    parser = argparse.ArgumentParser(
        prog=f"recipes/benchmarks/{name}.py",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    parser.add_argument("--again", action="store_true", help="measure what is recorded once more")
    parser.add_argument(
        "--allow-busy",
        action="store_true",
        help="measure while other programs run; the record says so",
    )
    parser.add_argument(
        "--output", type=Path, help=f"folder of the record (else {FOLDER}; none with --quick)"
    )
    if only is not None:
        example = f"only keys that begin with this, such as {only}"
        parser.add_argument("--only", default="", metavar="KEY", help=example)
    if add is not None:
        add(parser)
    options = parser.parse_args(list(arguments))
    if timed and library() is None:
        raise AsrError(
            "the C library of the sparse kernels is not built (or ASR_NATIVE=0 forbids it), so "
            "there is nothing to measure; build it with a C compiler and `pip install .`"
        )
    if timed and not (options.allow_busy or options.quick):
        check_idle()
    folder = options.output or (None if options.quick else FOLDER)
    path = folder / f"{name}.json" if folder else None
    words = [w for i, w in enumerate(arguments) if "--output" not in (w, *arguments[i - 1 : i])]
    command = shlex.join(["python", f"recipes/benchmarks/{name}.py", *map(name_only, words)])
    keys = options.only if only is not None else ""
    record = PartedRecord.open(name, display, path, command, options.quick, options.again, keys)
    return Script(record, options.quick, options.allow_busy or options.quick, options)


def check_idle(seconds: float = 1.0) -> None:
    """Raise AsrError if other programs use the processor."""
    monitor = LoadMonitor()
    time.sleep(seconds)
    load = monitor.other_load()
    if load is not None and load > LOAD_LIMIT:
        raise AsrError(
            f"other programs use {load:.0%} of a core: stop them, or pass --allow-busy, and the "
            "record will say so"
        )


def rows(
    measured: TimingRun, kinds: dict[str, str], details: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """One entry per timed call for a record: name, `dense` or `sparse`, seconds, details."""
    return [
        {"name": name, "kind": kinds[name], **timing.to_plain(), **details.get(name, {})}
        for name, timing in measured.timings.items()
    ]


def show(key: str, results: Sequence[dict[str, Any]], absent: dict[str, str]) -> None:
    """Print a part: milliseconds, quartiles, ratio to the fastest dense, error, kernel."""
    best = fastest(results)
    cells = []
    for row in results:
        compared = best if row["kind"] in ("dense", "sparse") else None
        cells.append(
            (
                row["name"],
                f"{1e3 * row['seconds']:.3f}",
                f"{1e3 * row['low']:.3f}-{1e3 * row['high']:.3f}",
                str(row["calls"]),
                f"{compared['seconds'] / row['seconds']:.2f}x" if compared else "",
                f"{1e3 * row['cpu_seconds']:.3f}",
                f"{100 * row['sparsity']:.1f} %" if "sparsity" in row else "",
                f"{row['error']:.1e}" if row.get("error") is not None else "",
                row.get("kernel", ""),
            )
        )
    numbers = ("ms", "quartiles", "calls", "against dense", "processor ms", "zeros", "error")
    columns = (Column(key, numeric=False), *map(Column, numbers), Column("kernel", numeric=False))
    print(f"\n{Table('', columns, tuple(cells)).text()}")
    for name, reason in absent.items():
        print(f"{name}: not measured: {reason}")
    sys.stdout.flush()


def finish(main: Callable[[Sequence[str]], int]) -> None:
    """Run a script; for an AsrError print its message and exit with status 2."""
    try:
        status = main(sys.argv[1:])
    except AsrError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        status = 2
    sys.exit(status)
