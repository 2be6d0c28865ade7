"""What the trainings of a grid cost: steps, memory, and how soon each reaches an error rate.

    python recipes/shipped/cost.py RUN_FOLDER ... --reach NAME ... [-o RECORD.json] [--allow-busy]

Each run folder (`runs/shipped/dense`) is of a finished training. The clock of a training that was
paused, or ran beside others, says little. So a step of each network is timed here, on one thread:
before its masks are final, and after. Hours are the numbers of these steps times their seconds.

`--reach` names some of the trainings: for each, the table has the epochs and the hours after which
another network's error rate on the dev sets was first as low as the one that was kept there. Epochs
of a pruned network count once it has all its zeros. `build.py` calls this script.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from lib.steps import a_batch, flush_denormal, trainer_of

from asr.benchmark.timing import TimingRun, interleave
from asr.errors import AsrError
from asr.model.file import load_model
from asr.model.torch_network import DeepSpeech
from asr.pruning import FixedMask, Pruner, Rule
from asr.report.measurements import DisplayColumn, table_of, write_measurement
from asr.report.records import read_record
from asr.report.schema import RunRecord
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train.record import command

BEFORE, FINAL = "before the masks are final", "masks final"


@dataclass(frozen=True)
class Epoch:
    """A validation: after how many steps, and the error rate."""

    steps: int
    wer: float


@dataclass(frozen=True)
class Training:
    """A finished training."""

    folder: Path
    record: RunRecord
    epochs: tuple[Epoch, ...]

    @property
    def kept(self) -> float:
        """The error rate of the epoch that was kept."""
        rate = self.record.training.dev_wer
        return 1.0 if rate is None else rate

    @property
    def final(self) -> int:
        """Steps until the network had all its zeros; all steps where nothing is pruned."""
        pruning = self.record.pruning
        if pruning is None:
            return self.record.training.steps
        if not pruning.curve:  # fixed masks: they were there from the start
            return 0
        last = pruning.curve[-1][1]
        return next(step for step, sparsity in pruning.curve if sparsity == last)

    def reach(self, wer: float) -> tuple[int, int] | None:
        """Epochs and steps until the error rate was at most `wer`; None: never."""
        for count, epoch in enumerate(self.epochs, 1):
            pruned = self.record.pruning is None or epoch.steps >= self.final
            if pruned and epoch.wer <= wer:
                return count, epoch.steps
        return None


def read_training(folder: Path) -> Training:
    """Record and validations of a run folder. Raises AsrError for a training without them."""
    path = folder / "metrics.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["dev_wer"]]
        epochs = tuple(Epoch(int(row["step"]), float(row["dev_wer"])) for row in rows)
    except OSError as error:
        raise AsrError(f"{path}: cannot be read ({error.strerror})") from None
    except (KeyError, ValueError) as error:
        raise AsrError(f"{path}: not the metrics of a training ({error})") from None
    if not epochs:
        raise AsrError(f"{path}: no validation in it")
    return Training(folder, read_record(folder / "record.json"), epochs)


def steps_of(training: Training) -> dict[str, Callable[[], object]]:
    """Steps of the network as it trained: dense, and with its masks final if it is pruned."""
    settings = load(Run, training.folder / "config.yaml")
    batch = a_batch(settings.data.batch_limit, settings.model.mels)
    precision, name = settings.training.precision, training.record.name
    step = partial(trainer_of, precision=precision, settings=settings.optimiser)
    found = {f"{name}, {BEFORE}": partial(step(DeepSpeech(settings.model).train()), batch)}
    if training.record.pruning:
        network = load_model(training.folder / "model.asr").model.train()
        pruner = Pruner(network, Rule(FixedMask(), settings.pruning.tensors))
        network.keep_zeros(pruner.masks())
        found[f"{name}, {FINAL}"] = partial(step(network, pruner=pruner), batch)
    return found


def hours(training: Training, steps: int, seconds: Mapping[str, float]) -> float:
    """Hours that `steps` steps take, by the seconds of one before and after the masks are final."""
    before = min(steps, training.final)
    last = seconds.get(f"{training.record.name}, {FINAL}", 0.0)
    spent = before * seconds[f"{training.record.name}, {BEFORE}"] + (steps - before) * last
    return spent / 3600


def row_of(
    training: Training, goals: Sequence[Training], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """A row of the record."""
    record, figures = training.record, training.record.training
    row: dict[str, Any] = {
        "network": record.label,
        "nonzeros": record.model.nonzeros,
        "steps_per_second": 1 / seconds[f"{record.name}, {BEFORE}"],
        "final_steps_per_second": None,
        "memory": round(figures.peak_memory_mib or 0),
        "hours": hours(training, figures.steps, seconds),
        "wer": training.kept,
    }
    if last := seconds.get(f"{record.name}, {FINAL}"):
        row["final_steps_per_second"] = 1 / last
    for goal in goals:
        found = training.reach(goal.kept)
        row[f"reach {goal.record.name}"] = (
            f"{found[0]} ({hours(training, found[1], seconds):.1f})" if found else "never"
        )
    return row


def columns_of(goals: Sequence[Training]) -> list[DisplayColumn]:
    return [
        DisplayColumn("Network", "network"),
        DisplayColumn("Non-zeros", "nonzeros", "count"),
        DisplayColumn("Steps a second", "steps_per_second", ".2f"),
        DisplayColumn("Once the masks are final", "final_steps_per_second", ".2f"),
        DisplayColumn("Peak memory, MiB", "memory", "count"),
        DisplayColumn("Hours", "hours", ".1f"),
        DisplayColumn("Dev WER %", "wer", "percent"),
        *(
            DisplayColumn(f"Epochs (hours) to {100 * goal.kept:.1f} %", f"reach {goal.record.name}")
            for goal in goals
        ),
    ]


def notes_of(
    trainings: Sequence[Training], goals: Sequence[Training], timed: TimingRun
) -> list[str]:
    steps = " or ".join(f"{n:,}" for n in sorted({t.record.training.steps for t in trainings}))
    load = timed.other_load
    return [
        f"{steps} steps each. A step is forward, CTC, backward, clipping and AdamW with a batch as "
        "large as in the training, timed on one thread"
        + (f" beside other programs, which used {load:.0%} of a core" if timed.busy else "")
        + "; decoding, augmentation and validation come on top.",
        "Hours by these steps. Peak memory is that of the process that ended the training.",
        "Dev WER: all dev sets together, greedy, in the epoch that was kept.",
        *(f"{100 * goal.kept:.1f} % is that of {goal.record.label}." for goal in goals),
    ]


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--reach", nargs="*", default=[], metavar="NAME")
    parser.add_argument("-o", "--output", type=Path, help="the record, .json")
    parser.add_argument("--allow-busy", action="store_true", help="measure beside other programs")
    arguments = parser.parse_args(words)
    trainings: dict[str, Training] = {}
    for folder in arguments.folders:
        if folder.name in trainings:
            raise AsrError(f"two of the run folders are called {folder.name}")
        trainings[folder.name] = read_training(folder)
    if missing := [name for name in arguments.reach if name not in trainings]:
        raise AsrError(f"--reach: not among the run folders: {', '.join(missing)}")
    goals = [trainings[name] for name in arguments.reach]
    torch.set_num_threads(1)
    calls = {name: step for t in trainings.values() for name, step in steps_of(t).items()}
    with flush_denormal():
        timed = interleave(calls, allow_busy=arguments.allow_busy)
    seconds = {name: timing.seconds for name, timing in timed.timings.items()}
    columns = columns_of(goals)
    rows = [row_of(training, goals, seconds) for training in trainings.values()]
    print(table_of(columns, rows).text())
    if arguments.output:
        write_measurement(
            *(arguments.output, "training_cost", "the grid of recipes/shipped", command()),
            *(columns, rows, notes_of(list(trainings.values()), goals, timed)),
            {"steps": {name: timing.to_plain() for name, timing in timed.timings.items()}},
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"cost: {error}")
