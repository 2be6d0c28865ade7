"""Tables of trainings from their records, as CSV too, and the one for a terminal."""

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from asr.errors import counted
from asr.report.comparison import comparison
from asr.report.grouping import NetworkSeeds, datasets, mean, networks
from asr.report.schema import RunRecord
from asr.report.table import Column, Table, count, megabytes

if TYPE_CHECKING:
    from rich.console import Console

_Cell = Callable[[NetworkSeeds], str]


def _spread(values: Sequence[float | None], show: Callable[[float], str]) -> str:
    """The value; of several seeds the mean and the range; `-` where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    low, high = show(min(known)), show(max(known))
    return low if low == high else f"{show(mean(known))} ({low}-{high})"


def wer_cell(network: NetworkSeeds, dataset: str) -> str:
    """`18.5 (16.9-20.1)`; of several seeds the mean, the range over seeds and their number."""
    found = network.evaluations(dataset)
    if not found:
        tested = any(record.evaluation for record in network.records)
        return "-" if tested else "not tested"
    if len(found) > 1:
        low, high = min(e.wer for e in found), max(e.wer for e in found)
        average = mean([e.wer for e in found])
        return f"{100 * average:.1f} ({100 * low:.1f}-{100 * high:.1f} over {len(found)} seeds)"
    one = found[0]
    return f"{100 * one.wer:.1f} ({100 * one.wer_low:.1f}-{100 * one.wer_high:.1f})"


def _tensors_cell(network: NetworkSeeds) -> str:
    """Sparsity of the least and of the most pruned tensor, over all seeds."""
    pruned = [r.pruning for r in network.records if r.pruning]
    if not pruned:
        return "-"
    low = min(pruning.sparsity_min for pruning in pruned)
    high = max(pruning.sparsity_max for pruning in pruned)
    return f"{100 * low:.1f}-{100 * high:.1f}"


def speed_cell(network: NetworkSeeds) -> str:
    """Seconds of the packed and of the dense network, and how many times faster packed is."""
    speeds = [r.speed for r in network.records if r.speed]
    if not speeds:
        return "-"
    packed = mean([s.packed_seconds for s in speeds])
    dense = mean([s.dense_seconds for s in speeds])
    return f"{packed:.3g} / {dense:.3g} ({dense / packed:.2f}x)"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _cer_cell(network: NetworkSeeds, dataset: str) -> str:
    return _spread([100 * e.cer for e in network.evaluations(dataset)], "{:.1f}".format)


def _figures(show: Callable[[float], str], get: Callable[[RunRecord], float | None]) -> _Cell:
    return lambda network: _spread([get(record) for record in network.records], show)


def _columns(records: Sequence[RunRecord]) -> list[tuple[Column, _Cell]]:
    """Every column, the ones that matter most first."""
    names = datasets(records)
    dev = (Column("Dev WER %"), _figures(_percent, lambda r: r.training.dev_wer))
    columns: list[tuple[Column, _Cell]] = [
        (Column("Network", numeric=False), lambda n: n.label),
        (Column("Non-zeros"), _figures(count, lambda r: r.model.nonzeros)),
        (
            Column("Sparsity of prunable tensors, %"),
            _figures("{:.1f}".format, lambda r: 100 * r.model.prunable_sparsity),
        ),
        (Column("Packed file, MB"), _figures(megabytes, lambda r: r.files.packed_bytes)),
        *((Column(f"WER %, {name}"), partial(wer_cell, dataset=name)) for name in names),
        *([] if names else [dev]),
        *((Column(f"CER %, {name}"), partial(_cer_cell, dataset=name)) for name in names),
        (Column("Parameters"), _figures(count, lambda r: r.model.parameters)),
        (Column("Least to most sparse tensor, %"), _tensors_cell),
        (Column("Dense fp32 file, MB"), _figures(megabytes, lambda r: r.files.model_bytes)),
        (Column("Cell", numeric=False), lambda n: n.first.model.cell),
        (Column("Hidden"), lambda n: f"{n.first.model.layers} x {n.first.model.hidden}"),
        (Column("Tokenizer", numeric=False), lambda n: n.first.model.tokenizer),
        (Column("Training, s"), _figures(count, lambda r: r.training.seconds)),
        (Column("Peak memory, MiB"), _figures(count, lambda r: r.training.peak_memory_mib)),
        (Column("Seed"), lambda n: ", ".join(str(r.seed) for r in n.records)),
    ]
    if any(record.distillation for record in records):
        teacher = Column("Teacher's loss", numeric=False)
        columns.append((teacher, lambda n: str(n.first.distillation or "-")))
    if any(record.training.average for record in records):
        average = _figures("{:g}".format, lambda r: r.training.average)
        columns.append((Column("Averaged, decay"), average))
    if any(record.speed for record in records):
        columns.append((Column("Packed / dense, s"), speed_cell))
    return columns


def networks_table(records: Sequence[RunRecord]) -> Table:
    """One row a network; several seeds of one network make one row."""
    columns = _columns(records)
    rows = tuple(tuple(cell(n) for _, cell in columns) for n in networks(records))
    return Table("Networks", tuple(column for column, _ in columns), rows)


def tensors_table(records: Sequence[RunRecord]) -> Table | None:
    """Sparsity in percent and thresholds of each pruned tensor, one column a sparse run.

    None when no run was pruned. A tensor is listed when any run set a threshold for it or
    zeroed some of it.
    """
    pruned = [(record, record.pruning) for record in records if record.pruning]
    cells: dict[str, dict[int, str]] = {}
    for index, (record, pruning) in enumerate(pruned):
        for tensor in record.model.tensors:
            limits = pruning.thresholds.get(tensor.name, {})
            if limits or tensor.nonzeros < tensor.elements:
                thresholds = ", ".join(f"{key} {value:.3g}" for key, value in limits.items())
                text = f"{100 * tensor.sparsity:.1f}" + (f" ({thresholds})" if thresholds else "")
                cells.setdefault(tensor.name, {})[index] = text
    if not cells:
        return None
    headings = [_run_label(record, records) for record, _ in pruned]
    rows = tuple(
        (name, *(row.get(index, "-") for index in range(len(pruned))))
        for name, row in cells.items()
    )
    columns = (Column("Tensor", numeric=False, code=True), *(Column(text) for text in headings))
    return Table("Sparsity by tensor, % (thresholds)", columns, rows)


def runs_table(records: Sequence[RunRecord]) -> Table:
    """The command, code, machine and day of every run."""
    columns = (
        Column("Run", numeric=False),
        Column("Command", numeric=False, code=True),
        Column("Revision", numeric=False),
        Column("Machine", numeric=False),
        Column("Threads"),
        Column("Date", numeric=False),
    )
    rows = tuple(
        (_run_label(r, records), r.command, str(r.git), str(r.machine), str(r.threads), r.date[:10])
        for r in records
    )
    return Table("Commands", columns, rows)


def _run_label(record: RunRecord, records: Sequence[RunRecord]) -> str:
    """The label, with the seed or the name where another run has the same label."""
    same = [other for other in records if other.label == record.label]
    if len(same) == 1:
        return record.label
    if len({other.seed for other in same}) == len(same):
        return f"{record.label}, seed {record.seed}"
    return f"{record.label} [{record.name}]"


def notes(records: Sequence[RunRecord]) -> list[str]:
    """What the figures mean and under which conditions they were measured, a line each."""
    lines = [
        "WER and CER in percent; in brackets the 95 % interval by bootstrap. MB are 10^6 bytes."
    ]
    if any(len(network.records) > 1 for network in networks(records)):
        lines.append(
            "Of a network trained with several seeds: the mean, in brackets the lowest and highest "
            "seed, and in the plot the lowest and highest bound of their intervals. The CSV has "
            "each seed."
        )
    for name in datasets(records):
        lines += _conditions(name, records)
    speeds = [r.speed for r in records if r.speed]
    for audio, threads, runs in dict.fromkeys(
        (s.audio_seconds, s.threads, s.median_of) for s in speeds
    ):
        lines.append(
            f"Speed: seconds for {audio:g} s of audio, packed and dense in one process, "
            f"{counted(threads, 'thread')}, median of {runs}."
        )
    if any(record.distillation for record in records):
        lines.append(
            "Teacher's loss: what of the teacher is followed (frame: posteriors frame by frame; "
            "nonblank: the same, weighted by the teacher's probability of tokens other than "
            "blank; sequence: CTC of its best transcript), and its fraction of the loss. Training "
            "of the teacher is not counted in the training time of those it taught."
        )
    if any(record.training.average for record in records):
        lines.append(
            "Averaged: the network is an exponential moving average of the weights over optimiser "
            "steps with this decay."
        )
    untested = [_run_label(r, records) for r in records if not r.evaluation]
    if len(untested) == len(records):
        lines.append("Dev WER: all dev sets together, greedy, in the epoch that was kept.")
    elif untested:
        lines.append(f"Not tested: {'; '.join(untested)}.")
    return lines


def _conditions(dataset: str, records: Sequence[RunRecord]) -> list[str]:
    """How a test set was used; a line for each way, with the runs where there are several."""
    tested = [r for r in records if dataset in r.evaluation]
    conditions = [r.evaluation[dataset].conditions for r in tested]
    lines = []
    for one in dict.fromkeys(conditions):
        labels = [r.label for r, other in zip(tested, conditions, strict=True) if other == one]
        only = "" if len(labels) == len(tested) else f" (only {', '.join(labels)})"
        lines.append(f"{dataset}: {one}{only}.")
    return lines


def to_csv(records: Sequence[RunRecord]) -> str:
    """Every run with unrounded figures: fractions, bytes, seconds."""
    averaged = any(record.training.average for record in records)
    rows = [_csv_row(record, datasets(records), averaged) for record in records]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _csv_row(record: RunRecord, names: Sequence[str], averaged: bool) -> dict[str, object]:
    model, pruning, speed = record.model, record.pruning, record.speed
    row: dict[str, object] = {
        key: getattr(record, key) for key in ("recipe", "name", "group", "label", "seed")
    }
    for key in ("cell", "layers", "hidden", "tokenizer", "parameters", "nonzeros"):
        row[key] = getattr(model, key)
    row["prunable_sparsity"] = f"{model.prunable_sparsity:.6f}"
    row["pruning_method"] = getattr(pruning, "method", None)
    for key in ("sparsity_min", "sparsity_max"):
        row[f"tensor_{key}"] = getattr(pruning, key, None)
    for name in names:
        test = record.evaluation.get(name)
        for key in ("wer", "wer_low", "wer_high", "cer"):
            row[f"{name} {key}"] = getattr(test, key, None)
    for key in ("kind", "weight", "temperature"):
        row[f"distillation {key}"] = getattr(record.distillation, key, None)
    for key in ("model_bytes", "packed_bytes", "packed_values"):
        row[key] = getattr(record.files, key)
    row["training_seconds"] = record.training.seconds
    row["peak_memory_mib"] = record.training.peak_memory_mib
    if averaged:
        row["average"] = record.training.average
    for key in ("dense_seconds", "packed_seconds", "audio_seconds", "threads", "median_of"):
        row[f"speed {key}"] = getattr(speed, key, None)
    row |= {"command": record.command, "revision": str(record.git), "machine": str(record.machine)}
    return row | {"threads": record.threads, "date": record.date}


def main_columns(records: Sequence[RunRecord]) -> list[str]:
    """Headings of the few columns that matter: size, sparsity, word errors, bytes, speed."""
    wers = [f"WER %, {name}" for name in datasets(records)] or ["Dev WER %"]
    speed = "Packed / dense, s"
    return [
        "Network",
        "Non-zeros",
        "Sparsity of prunable tensors, %",
        *wers,
        "Packed file, MB",
        speed,
    ]


def print_table(records: Sequence[RunRecord], console: "Console | None" = None) -> None:
    """The few columns that matter on a terminal, then the comparisons at equal size."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    console.print(networks_table(records).select(main_columns(records)).rich())
    for pair in comparison(records):
        console.print(Text(str(pair)))
