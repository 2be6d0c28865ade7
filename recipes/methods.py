"""Methods of making a network small, at equal size: the table that the paper's readers ask for.

    make methods             # or: python recipes/methods.py [key=value for every run ...]

Trains the grid of `methods.yaml`, two trainings at a time with one thread each, skipping what is
finished and resuming what was interrupted; copies the records to `results/methods/`, and writes
table, plot and the section of RESULTS.md from them. Every method is sent to 90.6 % of each tensor;
a run that ends more than `pruning.tolerance` away fails, and with it this script, and the table
has what each tensor reached.
"""

import sys
from pathlib import Path

from rich.console import Console

from asr.errors import AsrError
from asr.report import print_table, read_records, report
from asr.train.grid import read_grid, run_grid

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "methods"


def main(
    overrides: list[str],
    grid: Path = HERE / "methods.yaml",
    results: Path = RESULTS,
    markdown: Path = HERE / "RESULTS.md",
) -> int:
    console = Console()
    plan = read_grid(grid, overrides)
    failed = run_grid(plan, results, console)
    report(results, results, markdown, title="Methods at equal sparsity")
    print_table(read_records(results), console)
    if failed:
        console.print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"methods: {error}")
