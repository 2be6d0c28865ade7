"""What the trainings of a grid cost: steps, memory, and how soon each reaches an error rate.

    python recipes/shipped/cost.py RUN_FOLDER ... --reach NAME ... [-o RECORD.json]

Each run folder (`runs/shipped/dense`) is of a finished training. `--reach` names some of them: for
each, the table has the epochs and the hours after which another network's error rate on the dev
sets was first as low as the best of that one. `build.py` calls it.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.report.measurements import DisplayColumn, table_of, write_measurement
from asr.report.records import read_record
from asr.report.schema import RunRecord
from asr.train.record import command


@dataclass(frozen=True)
class Epoch:
    """A validation: after how many seconds of training, and the error rate."""

    seconds: float
    wer: float


@dataclass(frozen=True)
class Training:
    """A finished training."""

    record: RunRecord
    epochs: tuple[Epoch, ...]

    @property
    def best(self) -> float:
        """The lowest error rate of a validation."""
        return min(epoch.wer for epoch in self.epochs)

    def reach(self, wer: float) -> tuple[int, float] | None:
        """Epochs and hours until the error rate was at most `wer`; None: never."""
        for count, epoch in enumerate(self.epochs, 1):
            if epoch.wer <= wer:
                return count, epoch.seconds / 3600
        return None


def read_training(folder: Path) -> Training:
    """Record and validations of a run folder. Raises AsrError for a training without them."""
    path = folder / "metrics.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["dev_wer"]]
        epochs = tuple(Epoch(float(row["seconds"]), float(row["dev_wer"])) for row in rows)
    except OSError as error:
        raise AsrError(f"{path}: cannot be read ({error.strerror})") from None
    except (KeyError, ValueError) as error:
        raise AsrError(f"{path}: not the metrics of a training ({error})") from None
    if not epochs:
        raise AsrError(f"{path}: no validation in it")
    return Training(read_record(folder / "record.json"), epochs)


def row_of(training: Training, goals: Sequence[Training]) -> dict[str, Any]:
    """A row of the record."""
    record, figures = training.record, training.record.training
    row: dict[str, Any] = {
        "network": record.label,
        "nonzeros": record.model.nonzeros,
        "steps_per_second": figures.steps / figures.seconds,
        "memory": round(figures.peak_memory_mib or 0),
        "hours": figures.seconds / 3600,
        "wer": training.best,
    }
    for goal in goals:
        found = training.reach(goal.best)
        row[f"reach {goal.record.name}"] = (
            "never" if found is None else f"{found[0]} ({found[1]:.1f})"
        )
    return row


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--reach", nargs="*", default=[], metavar="NAME")
    parser.add_argument("-o", "--output", type=Path, help="the record, .json")
    arguments = parser.parse_args(words)
    trainings = {folder.name: read_training(folder) for folder in arguments.folders}
    if missing := [name for name in arguments.reach if name not in trainings]:
        raise AsrError(f"--reach: not among the run folders: {', '.join(missing)}")
    goals = [trainings[name] for name in arguments.reach]
    columns = [
        DisplayColumn("Network", "network"),
        DisplayColumn("Non-zeros", "nonzeros", "count"),
        DisplayColumn("Steps a second", "steps_per_second", ".2f"),
        DisplayColumn("Peak memory, MiB", "memory", "count"),
        DisplayColumn("Hours", "hours", ".1f"),
        DisplayColumn("Best dev WER %", "wer", "percent"),
        *(
            DisplayColumn(f"Epochs (hours) to {100 * goal.best:.1f} %", f"reach {goal.record.name}")
            for goal in goals
        ),
    ]
    rows = [row_of(training, goals) for training in trainings.values()]
    print(table_of(columns, rows).text())
    if arguments.output:
        steps = {training.record.training.steps for training in trainings.values()}
        notes = [
            f"{' or '.join(f'{count:,}' for count in sorted(steps))} steps each, one thread; two "
            "trainings and other programs ran at a time, so hours and steps a second compare only "
            "roughly. Dev error rates are greedy.",
            *(f"{100 * goal.best:.1f} % is the best of {goal.record.label}." for goal in goals),
        ]
        write_measurement(
            *(arguments.output, "training_cost", "the grid of recipes/shipped", command()),
            *(columns, rows, notes),
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"cost: {error}")
