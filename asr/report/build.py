"""A folder of records to tables, plots and a page, and to the marked part of a Markdown file."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from asr.errors import AsrError, counted
from asr.files import atomic_write_bytes, check_folder_writable, check_writable
from asr.report import measurements, plots, tables
from asr.report.comparison import comparison
from asr.report.page import page
from asr.report.records import read_records
from asr.report.schema import RunRecord
from asr.report.table import Table, days, escape


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
    check_folder_writable(out)
    check_writable(results_markdown)
    if measured := measurements.read_measurements(sources):
        return _report_measurements(measured, _link(sources), out, results_markdown, title)
    records = read_records(sources)
    recipes = sorted({record.recipe for record in records})
    title = title or f"{', '.join(recipes)}: word error rate and non-zeros"
    pictures = _pictures(records)
    files = {
        "table.md": f"# {escape(title)}\n\n{markdown(records, list(pictures))}".encode(),
        "table.csv": tables.to_csv(records).encode(),
        "report.html": page(
            title,
            list(pictures.values()),
            _tables(records),
            [str(pair) for pair in comparison(records)],
            tables.notes(records),
            _made(records),
        ).encode(),
    }
    for name, (_, picture) in pictures.items():
        files |= {f"{name}.svg": picture.svg, f"{name}.png": picture.png}
    changed = {out / name: content for name, content in files.items()}
    if results_markdown is not None:
        path = Path(results_markdown)
        if len(recipes) != 1:
            raise AsrError(
                f"{path}: records of several recipes ({', '.join(recipes)}) cannot go between "
                "the markers of one; report one recipe's records at a time"
            )
        content = section(records, _relative(out, path), _relative(_link(sources), path))
        changed[path] = _between_markers(path, recipes[0], content)
    return _write(changed)


def _pictures(records: Sequence[RunRecord]) -> dict[str, tuple[str, plots.Picture]]:
    """Caption and picture by the name of its files."""
    if plots.is_comparison_of_methods(records):
        first = plots.METHODS_CAPTION, plots.methods_plot(records)
    else:
        first = plots.WER_CAPTION, plots.wer_plot(records)
    both = {"plot": first, "pruning": (plots.PRUNING_CAPTION, plots.pruning_plot(records))}
    return {name: (text, drawn) for name, (text, drawn) in both.items() if drawn}


def _report_measurements(
    records: Sequence[measurements.Measurement],
    source: Path,
    out: Path,
    results_markdown: str | Path | None,
    title: str,
) -> list[Path]:
    content, recipe = measurements.markdown(records), records[0].recipe
    commands = measurements.commands(records).markdown()
    made = f"Made by asr report from {measurements.made_from(records)}."
    whole = f"# {escape(title or recipe)}\n\n{content}\n{commands}\n{made}\n"
    changed = {out / "table.md": whole.encode()}
    if results_markdown is not None:
        path = Path(results_markdown)
        link = _relative(source, path)
        content += (
            f"\nMade from {measurements.made_from(records)}; [commands and figures]({link}).\n"
        )
        changed[path] = _between_markers(path, recipe, content)
    return _write(changed)


def _write(changed: dict[Path, bytes]) -> list[Path]:
    """Write the files whose content differs; the paths of all."""
    for path, content in changed.items():
        if not path.is_file() or path.read_bytes() != content:
            atomic_write_bytes(path, content)
    return list(changed)


def section(records: Sequence[RunRecord], pictures: str, source: str) -> str:
    """The short form for a file of many results: what matters, and a link to the records."""
    wide = tables.networks_table(records).select(tables.main_columns(records))
    parts = [part.markdown() for part in wide.parts()]
    if drawn := _pictures(records).get("plot"):
        parts.append(f"![{drawn[0]}]({pictures}plot.png)\n")
    parts.append(_findings(records))
    parts.append(f"{_made(records)} [Commands, settings and every tensor]({source}).\n")
    return "\n".join(parts)


def markdown(records: Sequence[RunRecord], pictures: Sequence[str] = ()) -> str:
    """The whole report; `pictures` are those that lie beside it."""
    networks, *others = _tables(records)
    parts = [part.markdown() for part in networks.parts()]
    parts += [f"![{name}]({name}.png)\n" for name in pictures]
    parts.append(_findings(records))
    parts += [table.folded() for table in others]
    parts.append(f"{_made(records)} [CSV](table.csv)\n")
    return "\n".join(parts)


def _findings(records: Sequence[RunRecord]) -> str:
    """Comparisons at equal size, and what the figures mean, as lists."""
    pairs = [str(pair) for pair in comparison(records)]
    lists = {"Sparse and dense of equal non-zeros:": pairs, "Figures:": tables.notes(records)}
    return "\n".join(
        f"{heading}\n\n" + "".join(f"- {escape(line)}\n" for line in lines)
        for heading, lines in lists.items()
        if lines
    )


def _tables(records: Sequence[RunRecord]) -> list[Table]:
    tensors = tables.tensors_table(records)
    return [
        tables.networks_table(records),
        *([tensors] if tensors else []),
        tables.runs_table(records),
    ]


def _made(records: Sequence[RunRecord]) -> str:
    when = days([record.date for record in records])
    return f"Made by asr report from the records of {counted(len(records), 'run')} ({when})."


def _link(sources: Sequence[str | Path]) -> Path:
    """What to link to as the source: the file, or the folder of several."""
    first = Path(sources[0])
    return first if len(sources) == 1 else first.parent


def _relative(target: Path, markdown_file: Path) -> str:
    """A link from a Markdown file to a file, or to a folder, which ends with a slash."""
    relative = os.path.relpath(target.resolve(), markdown_file.resolve().parent)
    link = quote(Path(relative).as_posix())
    if target.is_file():
        return link
    return "" if link == "." else f"{link}/"


def _between_markers(path: Path, recipe: str, content: str) -> bytes:
    """The text of `path` with `content` between the recipe's markers."""
    start, end = f"<!-- asr report: {recipe} -->", f"<!-- end: {recipe} -->"
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        raise AsrError(f"{path}: not a text in UTF-8") from None
    except OSError as error:
        raise AsrError(
            f"{path}: cannot be read ({error.strerror}); make it with the lines\n{start}\n{end}"
        ) from error
    lines = text.split("\n")
    at = [[i for i, line in enumerate(lines) if line.strip() == marker] for marker in (start, end)]
    if [len(found) for found in at] != [1, 1] or at[0] > at[1]:
        raise AsrError(
            f"{path}: the report goes between two lines, each once and in this order; "
            f"add them in the right place:\n{start}\n{end}"
        )
    return "\n".join(
        [*lines[: at[0][0] + 1], "", *content.split("\n"), *lines[at[1][0] :]]
    ).encode()
