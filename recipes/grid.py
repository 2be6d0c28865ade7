"""Trains a grid of networks and writes its table, plot and section of RESULTS.md.

    python recipes/grid.py sparsity [key=value for every run ...]    # or: make sparsity
    python recipes/grid.py methods [key=value for every run ...]     # or: make methods
    python recipes/grid.py claims data.root=FOLDER [key=value ...] [--only RUN ...]

`sparsity` is word error rate against sparsity, the paper's main claim, on the built-in corpus
of 2,352 words. `methods` compares ways to make a network small, all at a sparsity of 90.6 % per
tensor. `claims` sets wide sparse networks beside dense ones on recordings, which lie in FOLDER.
The runs are listed in the YAML file of that name. Two trainings run at a time with one
thread each; finished ones are skipped and interrupted ones continue. With `--only` the other runs
are left out, but for those that the named ones need. Records are copied to `results/<grid>/`, and
the table has every run of the grid with a record there. A run that ends more than
`pruning.tolerance` away from the expected sparsity fails, and so does this script.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from asr.errors import AsrError
from asr.report import print_table, read_records, report
from asr.train.grid import read_grid, records_of, run_grid, selected

HERE = Path(__file__).parent
TITLES = {
    "sparsity": "WER against sparsity",
    "methods": "Methods at equal sparsity",
    "claims": "WER against non-zeros, on recordings",
}
"""The grids, with the titles of their plots."""


def main(
    words: list[str],
    folder: Path = HERE,
    results: Path | None = None,
    markdown: Path = HERE / "RESULTS.md",
) -> int:
    """Train the grid that the first word names; the others are settings of every run.

    `folder` holds the YAML file, `results` gets the records, `markdown` has the section to write.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", nargs="?", help=", ".join(TITLES))
    parser.add_argument("settings", nargs="*", help="key=value for every run")
    parser.add_argument("--only", nargs="+", metavar="RUN", help="runs to train (default: all)")
    arguments = parser.parse_args(words)
    name = arguments.grid
    if name not in TITLES:
        raise AsrError(f"the first word is the name of a grid: {', '.join(TITLES)}")
    results = results or HERE / "results" / name
    console = Console(markup=False, highlight=False)
    grid = read_grid(folder / f"{name}.yaml", arguments.settings)
    trained = selected(grid, arguments.only) if arguments.only else grid
    failed = run_grid(trained, results, console)
    if records := records_of(grid, results):
        report(records, results, markdown, title=TITLES[name])
        print_table(read_records(records), console)
    if failed:
        console.print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"grid: {error}")
