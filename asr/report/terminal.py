"""The few columns that matter, on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.report.comparison import comparison
from asr.report.grouping import Network, datasets, mean, networks
from asr.report.schema import Record
from asr.report.tables import count, megabytes, speed_cell, wer_cell

if TYPE_CHECKING:
    from rich.console import Console


def print_table(records: Sequence[Record], console: "Console | None" = None) -> None:
    """Label, non-zeros, WER with interval, file sizes and speed, then the comparisons."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    names = datasets(records)
    table = Table()
    table.add_column("network", overflow="fold")
    for heading in ("non-zeros", *(f"WER %, {name}" for name in names or ["not tested"])):
        table.add_column(heading, justify="right")
    table.add_column("file, MB", justify="right")
    table.add_column("packed, MB", justify="right")
    timed = any(record.speed for record in records)
    if timed:
        table.add_column("packed / dense, s", justify="right")
    for network in networks(records):
        cells = [network.label, count(network.nonzeros)]
        cells += [wer_cell(network, name) for name in names] or ["-"]
        cells += [_megabytes(network, "model_bytes"), _megabytes(network, "packed_bytes")]
        cells += [speed_cell(network)] if timed else []
        table.add_row(*map(Text, cells))
    console.print(table)
    for pair in comparison(records):
        console.print(Text(str(pair)))


def _megabytes(network: Network, key: str) -> str:
    sizes = [getattr(record.files, key) for record in network.records]
    known = [size for size in sizes if size is not None]
    return megabytes(mean(known)) if known else "-"
