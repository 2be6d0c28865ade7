"""Word error rate against sparsity: the paper's main claim on the built-in 1,500-word corpus.

    make sparsity            # or: python recipes/sparsity.py [key=value for every run ...]

Trains the grid of `sparsity.yaml`, two trainings at a time with one thread each, skipping what
is finished and resuming what was interrupted; copies the records to `results/sparsity/`, and
writes table, plot and the section of RESULTS.md from them. A run whose sparsity lands further
than `pruning.tolerance` from the one expected fails, and with it this script.
"""

import sys
from pathlib import Path

from rich.console import Console

from asr.errors import AsrError
from asr.report import print_table, read_records, report
from asr.train.grid import read_grid, run_grid

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "sparsity"


def main(
    overrides: list[str],
    grid: Path = HERE / "sparsity.yaml",
    results: Path = RESULTS,
    markdown: Path = HERE / "RESULTS.md",
) -> int:
    console = Console()
    plan = read_grid(grid, overrides)
    failed = run_grid(plan, results, console)
    report(results, results, markdown, title="WER against sparsity")
    print_table(read_records(results), console)
    if failed:
        console.print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"sparsity: {error}")
