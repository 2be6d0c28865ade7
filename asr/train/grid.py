"""Grids of trainings: plain `asr train` commands, several at once, each a resumable run folder."""

import bisect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from asr.errors import AsrError
from asr.files import atomic_write_bytes, check_folder_writable
from asr.model.dimensions import Model
from asr.model.shapes import count_parameters
from asr.report.records import read_record
from asr.settings.run import Run
from asr.settings.yaml import from_mapping, load, read_yaml
from asr.train.folder import run_folder
from asr.train.pruning import check_pruning


@dataclass(frozen=True)
class GridRun:
    """One run of a grid: a name and what differs from the base recipe."""

    name: str = ""
    """Names the run folder and the record."""
    group: str = "dense"
    """Series in tables and plots."""
    label: str = ""
    """What tables call it; empty: the name."""
    set: list[str] = field(default_factory=list)
    """Settings as key=value; in YAML also lists of them, for what several runs share."""
    dense: str = ""
    """Pruned runs: the run whose network the thresholds are calibrated from; the method is then
    threshold_ramp, if `set` names none."""
    match: str = ""
    """Small dense runs: hidden units are chosen to match the non-zeros of this run."""
    teacher: str = ""
    """Distilled runs: the run whose network teaches this one."""
    init: str = ""
    """Runs that continue another: the run whose network this one begins with."""

    @property
    def needs(self) -> frozenset[str]:
        """Names of the runs that must be finished before this one starts."""
        return frozenset({self.dense, self.match, self.teacher, self.init} - {""})


@dataclass(frozen=True)
class GridFile:
    """A recipe of several runs, as its YAML file has it."""

    base: str = ""
    """YAML file of the single training that every run varies, in the same folder."""
    workers: int = 2
    """Trainings at once; each has `threads` of the base recipe."""
    set: list[str] = field(default_factory=list)
    """Settings of every run as key=value."""
    runs: list[Any] = field(default_factory=list)
    """The runs, each with the keys of a `GridRun`."""


@dataclass(frozen=True)
class Grid:
    """Trainings ready to run: `base` recipe, names of runs and their overrides in order."""

    base: Path
    workers: int
    runs: list[GridRun]

    def run(self, name: str) -> GridRun:
        """The run called `name`."""
        return next(run for run in self.runs if run.name == name)


def read_grid(path: Path, overrides: list[str]) -> Grid:
    """Read a grid; `overrides` (key=value) apply to every run and win.

    Raises:
        AsrError: for unknown keys, settings that contradict each other, two runs of one name,
            references to a run that comes later.
    """
    content = from_mapping(GridFile, read_yaml(path), str(path))
    runs = [
        from_mapping(GridRun, _flat(run), f"{path}: run {i + 1}")
        for i, run in enumerate(content.runs)
    ]
    names: list[str] = []
    for run in runs:
        for needed in sorted(run.needs):
            if needed not in names:
                raise AsrError(
                    f"{path}: run {run.name!r} needs {needed!r}, which is not a run above it"
                )
        if not run.name or run.name in names:
            raise AsrError(f"{path}: every run needs a name of its own, found {run.name!r}")
        names.append(run.name)
    if content.workers < 1:
        raise AsrError(f"{path}: workers={content.workers}: at least 1")
    runs = [replace(run, set=[*content.set, *run.set, *overrides]) for run in runs]
    grid = Grid(path.parent / content.base, content.workers, runs)
    for run in runs:  # a misspelt key of the last run must not wait for the others
        try:
            check_pruning(settings_of(grid, run.name).pruning)
        except AsrError as error:
            raise AsrError(f"{path}: run {run.name!r}: {error}") from None
    return grid


def _flat(run: Any) -> Any:
    """The run with one list of settings: YAML can nest an anchor in a list, but not join them."""

    def words(entry: Any) -> list[Any]:
        if not isinstance(entry, list):
            return [entry]
        return [word for part in entry for word in words(part)]

    if isinstance(run, dict) and isinstance(run.get("set"), list):
        return run | {"set": words(run["set"])}
    return run


def selected(grid: Grid, names: Collection[str]) -> Grid:
    """The grid with these runs and those that they need. Raises AsrError for unknown names."""
    if unknown := set(names) - {run.name for run in grid.runs}:
        raise AsrError(f"--only: not runs of this grid: {', '.join(sorted(unknown))}")
    needed = set(names)
    while more := set[str]().union(*(grid.run(name).needs for name in needed)) - needed:
        needed |= more
    return replace(grid, runs=[run for run in grid.runs if run.name in needed])


def overrides_of(grid: Grid, run: GridRun) -> list[str]:
    """The key=value words of a run; those it needs must be finished."""
    words = _words(run, grid)
    if run.match:
        settings = load(Run, grid.base, words)
        record = read_record(folder_of(grid, run.match) / "record.json")
        model = replace(settings.model, outputs=record.settings["model"]["outputs"])
        words.append(f"model.hidden={matching_hidden(model, record.model.nonzeros)}")
    return words


def _words(run: GridRun, grid: Grid | None = None) -> list[str]:
    """key=value words of a run; without a grid, `later` stands for the files of other runs."""

    def file(name: str) -> str:
        return f"{folder_of(grid, name)}/model.asr" if grid else "later"

    words = [f"name={run.name}", f"group={run.group}"]
    words += [f"label={run.label}"] if run.label else []
    # Before the run's own settings: a method that is named there is not overridden without a word.
    words += ["pruning.method=threshold_ramp"] if run.dense else []
    words += run.set
    words += [f"pruning.dense={file(run.dense)}"] if run.dense else []
    words += [f"distillation.teacher={file(run.teacher)}"] if run.teacher else []
    words += [f"init={file(run.init)}"] if run.init else []
    return words


def matching_hidden(dimensions: Model, parameters: int, within: float = 0.05) -> int:
    """Hidden units with which a dense network of these dimensions has about `parameters`.

    Raises:
        AsrError: if no width comes within that fraction of it.
    """

    def size(hidden: int) -> int:
        return count_parameters(replace(dimensions, hidden=hidden))

    above = 1
    while size(above) < parameters:
        above *= 2
    hidden = bisect.bisect_left(range(1, above + 1), parameters, key=size) + 1
    best = min((max(1, hidden - 1), hidden), key=lambda h: abs(size(h) - parameters))
    if abs(size(best) - parameters) > within * parameters:
        raise AsrError(
            f"no dense network of these dimensions has about {parameters:,} parameters: "
            f"{best} hidden units give {size(best):,}. Use smaller convolutions."
        )
    return best


def settings_of(grid: Grid, name: str) -> Run:
    """Settings of the run called `name`, with `later` for each file of another run."""
    return load(Run, grid.base, _words(grid.run(name)))


def folder_of(grid: Grid, name: str) -> Path:
    """Run folder of the run called `name`."""
    return run_folder(settings_of(grid, name))


def run_grid(grid: Grid, results: Path, console: Console | None = None) -> list[str]:
    """Run what is not finished, `grid.workers` at a time; copy each record to `results`.

    If a training fails, those that need it fail too; the others continue. `results` keeps no record
    of an earlier run of the name of one that failed. On SIGTERM it stops its trainings, waits for
    them and exits with status 143; the same command continues them. Returns the names of the runs
    that failed.
    """
    console = console or Console(stderr=True, markup=False, highlight=False)
    with _sigterm() as stop:
        failed = _run_grid(grid, results, console, stop)
    if stop.is_set():
        console.print("stopped: run the same command to continue")
        raise SystemExit(128 + signal.SIGTERM)
    return failed


def _run_grid(grid: Grid, results: Path, console: Console, stop: threading.Event) -> list[str]:
    waiting, finished, failed = list(grid.runs), set[str](), list[str]()
    active: dict[str, tuple[subprocess.Popen[bytes], float, Path | None]] = {}

    def fail(name: str, *why: str) -> None:
        failed.append(name)
        # The record of an earlier run of this name would be taken for that of this one.
        (results / f"{name}.json").unlink(missing_ok=True)
        console.print(f"{name}: FAILED", *why, sep="\n")

    try:
        while (waiting or active) and not stop.is_set():
            for run in list(waiting):
                if lacking := run.needs & set(failed):
                    waiting.remove(run)
                    fail(run.name, f"it needs {', '.join(sorted(lacking))}")
                elif run.needs <= finished and len(active) < grid.workers and not stop.is_set():
                    waiting.remove(run)
                    try:
                        active[run.name] = _start(grid, run, console)
                    except (AsrError, OSError) as error:
                        fail(run.name, str(error))
            time.sleep(0.2)
            for name, (process, since, log) in list(active.items()):
                if process.poll() is None:
                    continue
                del active[name]
                if process.returncode or not (folder_of(grid, name) / "record.json").exists():
                    fail(name, *(_end_of(log) if log else []))
                    continue
                finished.add(name)
                copy(folder_of(grid, name) / "record.json", results / f"{name}.json")
                _report(name, results / f"{name}.json", time.monotonic() - since, console)
    finally:
        for process, _, _ in active.values():
            process.send_signal(signal.SIGTERM)
        for process, _, _ in active.values():
            process.wait()
    return failed


def records_of(grid: Grid, results: Path) -> list[Path]:
    """The records that `run_grid` has copied to `results`, in the order of the runs.

    `results` may also hold records of runs that were renamed or removed from the file.
    """
    paths = [results / f"{run.name}.json" for run in grid.runs]
    return [path for path in paths if path.is_file()]


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, which would end this process and leave its trainings behind.

    An exception from the handler could come between the start of a training and its entry here.
    Only the main thread of a process gets signals; in others the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(
    grid: Grid, run: GridRun, console: Console
) -> tuple[subprocess.Popen[bytes], float, Path | None]:
    """The process, when it was started, and its log; None if it writes to the terminal."""
    words = overrides_of(grid, run)
    folder = folder_of(grid, run.name)
    check_folder_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    alone = grid.workers == 1
    if not (folder / "record.json").exists():
        follow = "" if alone else f", log in {log}"
        console.print(f"{run.name}: training{follow}")
    command = [sys.executable, "-m", "asr", "train", str(grid.base), *words]
    # Large pages, from glibc 2.35 on: a tenth less time for a step, and the same numbers.
    defaults = {"OMP_NUM_THREADS": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    environment = defaults | os.environ
    if alone:  # its progress bar can be displayed
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        return process, time.monotonic(), None
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    return process, time.monotonic(), log


def _end_of(log: Path) -> list[str]:
    """The last lines of a log, which may be damaged: the disk may be full."""
    try:
        return log.read_bytes().decode(errors="replace").splitlines()[-8:]
    except OSError:
        return []


def copy(source: Path, target: Path) -> None:
    """Copy a result of a run, whole or not at all."""
    atomic_write_bytes(target, source.read_bytes())


def _report(name: str, path: Path, seconds: float, console: Console) -> None:
    record = read_record(path)
    rates = {name: tested.wer for name, tested in record.evaluation.items()}
    if not rates and record.training.dev_wer is not None:
        rates = {"dev": record.training.dev_wer}
    found = ", ".join(f"{name} {100 * wer:.1f} %" for name, wer in rates.items())
    console.print(
        f"{name}: {record.model.nonzeros:,} non-zeros, WER {found} ({seconds:.0f} s)",
    )
