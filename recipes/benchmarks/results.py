"""Write the tables of the committed benchmark records into recipes/RESULTS.md, between markers.

python recipes/benchmarks/results.py
"""

from collections.abc import Sequence
from pathlib import Path

from asr.benchmark.script import FOLDER, finish
from asr.benchmark.tables import write_results
from asr.errors import AsrError

RESULTS = Path("recipes/RESULTS.md")


def main(arguments: Sequence[str]) -> int:
    if len(arguments) not in (0, 2):
        raise AsrError("give nothing, or the folder of records and the Markdown file")
    folder, results = map(Path, arguments) if arguments else (FOLDER, RESULTS)
    write_results(folder, results)
    print(results)
    return 0


if __name__ == "__main__":
    finish(main)
