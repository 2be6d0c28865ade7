"""Writes the tables of all records into recipes/RESULTS.md, between their markers.

    python recipes/benchmarks/results.py [RECORDS RESULTS.md]

RECORDS is a folder of folders with records of one or more recipes. A recipe without markers in the
file is left out. Plots are written beside the records of trainings.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from lib.script import finish

from asr.errors import AsrError
from asr.report import report

RECIPES = Path(__file__).parents[1]


def recipes(folder: Path) -> dict[str, list[Path]]:
    """Records by recipe. Raises AsrError if there are none."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*/*.json")):
        try:
            recipe = json.loads(path.read_bytes())["recipe"]
        except (ValueError, TypeError, KeyError):
            raise AsrError(f"{path}: not a record") from None
        found.setdefault(recipe, []).append(path)
    if not found:
        raise AsrError(f"{folder}: no records in its folders; run recipes/benchmarks/recurrent.py")
    return found


def write_results(folder: Path, results: Path) -> list[str]:
    """Rewrite every section for which the file has markers; the names of the recipes."""
    try:
        text = results.read_text(encoding="utf-8")
    except OSError as error:
        raise AsrError(f"{results}: cannot be read ({error.strerror})") from None
    written = []
    for recipe, paths in recipes(folder).items():
        if f"<!-- asr report: {recipe} -->" in text:
            alone = len(list(paths[0].parent.glob("*.json"))) == len(paths)
            folder_of = paths[0].parent
            out = folder_of if alone else folder_of / recipe
            report(folder_of if alone else paths, out, results, recipe)
            written.append(recipe)
    return written


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", nargs="?", type=Path, default=RECIPES / "results")
    parser.add_argument("markdown", nargs="?", type=Path, default=RECIPES / "RESULTS.md")
    arguments = parser.parse_args(words)
    if len(words) == 1:
        raise AsrError("give no arguments, or the folder of records and the Markdown file")
    folder, results = arguments.records, arguments.markdown
    print(f"{results}: {', '.join(write_results(folder, results))}")
    return 0


if __name__ == "__main__":
    finish(main)
