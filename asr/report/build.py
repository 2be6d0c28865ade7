"""A folder of records to table, plots and page, and to the marked part of a Markdown file."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from asr.errors import AsrError
from asr.files import atomic_write_bytes
from asr.report import measurements, methods, plots, tables
from asr.report.comparison import comparison
from asr.report.page import page
from asr.report.records import read_records
from asr.report.schema import Record

_WER_CAPTION = (
    "Word error rate against non-zero parameters, with 95 % intervals. Beside the marks: sparsity "
    "of the prunable tensors of sparse networks, hidden units of dense ones."
)
_PRUNING_CAPTION = "Sparsity of the prunable tensors while the sparse networks trained."


def report(
    sources: str | Path | Iterable[str | Path],
    out_folder: str | Path,
    results_markdown: str | Path | None = None,
    title: str = "",
) -> list[Path]:
    """Write table.md, table.csv, report.html and the plots (PNG, SVG) of records; give the paths.

    With `results_markdown` the part of that file between the recipe's markers is rewritten, and
    nothing outside. The same records give the same bytes; files that would not change are not
    touched. Records of measurements (`measurements.py`) give table.md and their part of the file
    alone. Raises AsrError for no record, a record that breaks the schema, or missing markers.
    """
    sources = [sources] if isinstance(sources, str | Path) else list(sources)
    out = Path(out_folder)
    if measured := measurements.read_measurements(sources):
        return _report_measurements(measured, out, results_markdown, title)
    records = read_records(sources)
    recipes = sorted({record.recipe for record in records})
    title = title or f"{', '.join(recipes)}: word error rate and non-zeros"
    plot = methods.methods_plot if methods.is_comparison_of_methods(records) else plots.wer_plot
    pictures = {"plot": plot(records), "pruning": plots.pruning_plot(records)}
    drawn = {name: picture for name, picture in pictures.items() if picture}
    captions = {"plot": _caption(records), "pruning": _PRUNING_CAPTION}
    files = {
        "table.md": f"# {tables.plain(title)}\n\n{markdown(records, '', list(drawn))}".encode(),
        "table.csv": tables.to_csv(records).encode(),
        "report.html": page(
            title,
            [(captions[name], picture) for name, picture in drawn.items()],
            _tables(records),
            [str(pair) for pair in comparison(records)],
            tables.notes(records),
            _made(records),
        ).encode(),
    }
    for name, picture in drawn.items():
        files |= {f"{name}.svg": picture.svg, f"{name}.png": picture.png}
    changed = {out / name: content for name, content in files.items()}
    if results_markdown is not None:
        path = Path(results_markdown)
        if len(recipes) != 1:
            raise AsrError(
                f"{path}: records of several recipes ({', '.join(recipes)}) cannot go between "
                "the markers of one; report one recipe's records at a time"
            )
        content = markdown(records, _link(out, path), list(drawn))
        changed[path] = _between_markers(path, recipes[0], content)
    return _write(changed)


def _report_measurements(
    records: Sequence[measurements.Measurement],
    out: Path,
    results_markdown: str | Path | None,
    title: str,
) -> list[Path]:
    content = measurements.markdown(records)
    recipe = records[0].recipe
    changed = {out / "table.md": f"# {tables.plain(title or recipe)}\n\n{content}".encode()}
    if results_markdown is not None:
        path = Path(results_markdown)
        changed[path] = _between_markers(path, recipe, content)
    return _write(changed)


def _write(changed: dict[Path, bytes]) -> list[Path]:
    """Write files whose content is another now; the paths of all."""
    for path, content in changed.items():
        if not path.is_file() or path.read_bytes() != content:
            atomic_write_bytes(path, content)
    return list(changed)


def markdown(records: Sequence[Record], folder: str, pictures: Sequence[str]) -> str:
    """The report as Markdown; `folder` is the prefix of links to the files written beside it."""
    networks, *others = _tables(records)
    parts = [networks.markdown()]
    parts += [f"![{_caption(records)}]({folder}plot.png)\n"] if "plot" in pictures else []
    pairs = [str(pair) for pair in comparison(records)]
    lists = {"Sparse and dense of equal non-zeros:": pairs, "Figures:": tables.notes(records)}
    for heading, lines in lists.items():
        if lines:
            parts.append(f"{heading}\n\n" + "".join(f"- {tables.plain(line)}\n" for line in lines))
    for table in others:
        summary = f"<summary>{tables.plain(table.title)}</summary>"
        parts.append(f"<details>{summary}\n\n{table.markdown()}\n</details>\n")
    parts.append(f"{tables.plain(_made(records))} [CSV]({folder}table.csv)\n")
    return "\n".join(parts)


def _caption(records: Sequence[Record]) -> str:
    return methods.CAPTION if methods.is_comparison_of_methods(records) else _WER_CAPTION


def _tables(records: Sequence[Record]) -> list[tables.Table]:
    tensors = tables.tensors_table(records)
    return [
        tables.networks_table(records),
        *([tensors] if tensors else []),
        tables.runs_table(records),
    ]


def _made(records: Sequence[Record]) -> str:
    days = sorted({record.date[:10] for record in records})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    runs = f"{len(records)} run{'s' if len(records) != 1 else ''}"
    return f"Made by asr report from the records of {runs} ({when}) and nothing else."


def _link(out: Path, markdown_file: Path) -> str:
    """The prefix of links from a Markdown file to what lies in the folder `out`."""
    relative = Path(os.path.relpath(out.resolve(), markdown_file.resolve().parent)).as_posix()
    return "" if relative == "." else quote(relative) + "/"


def _between_markers(path: Path, recipe: str, content: str) -> bytes:
    """What `path` holds, with `content` between the recipe's markers."""
    start, end = f"<!-- asr report: {recipe} -->", f"<!-- end: {recipe} -->"
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise AsrError(
            f"{path}: cannot be read ({error.strerror}); make it with the lines\n{start}\n{end}"
        ) from error
    lines = text.split("\n")
    at = [[i for i, line in enumerate(lines) if line.strip() == marker] for marker in (start, end)]
    if [len(found) for found in at] != [1, 1] or at[0] > at[1]:
        raise AsrError(
            f"{path}: the report goes between two lines, each once and in this order; "
            f"add where it is wanted:\n{start}\n{end}"
        )
    return "\n".join(
        [*lines[: at[0][0] + 1], "", *content.split("\n"), *lines[at[1][0] :]]
    ).encode()
