"""A table of plain text, written as Markdown, or for a terminal by rich."""

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

WIDEST = 8
"""Columns of a table on a page; more do not fit beside each other."""


@dataclass(frozen=True)
class Column:
    """Heading, and how its cells are set."""

    heading: str
    numeric: bool = True
    code: bool = False


@dataclass(frozen=True)
class Table:
    """Cells of plain text, not yet escaped for any format."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """GitHub's pipe table."""
        lines = [
            [escape(column.heading) for column in self.columns],
            ["--:" if column.numeric else ":--" for column in self.columns],
        ]
        for row in self.rows:
            cells = zip(row, self.columns, strict=True)
            lines.append([_code(cell) if c.code else escape(cell) for cell, c in cells])
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def rich(self) -> "RichTable":
        """For a console of rich."""
        from rich.box import SIMPLE
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=SIMPLE, pad_edge=False)
        for column in self.columns:
            justify = "right" if column.numeric else "left"
            table.add_column(column.heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def text(self) -> str:
        """Aligned text, as wide as it needs to be, so that a pipe shortens nothing."""
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=1000, no_color=True).print(self.rich())
        lines = [line.rstrip() for line in out.getvalue().splitlines()]
        return textwrap.dedent("\n".join(line for line in lines if line))

    def select(self, headings: Sequence[str]) -> "Table":
        """The columns with these headings, in this order; those that are not there are skipped."""
        places = {column.heading: place for place, column in enumerate(self.columns)}
        chosen = [places[heading] for heading in headings if heading in places]
        return replace(
            self,
            columns=tuple(self.columns[place] for place in chosen),
            rows=tuple(tuple(row[place] for place in chosen) for row in self.rows),
        )

    def folded(self, keys: int = 1) -> str:
        """Markdown of its parts, folded below its title until somebody opens it."""
        inside = "\n".join(part.markdown() for part in self.parts(keys))
        return f"<details><summary>{escape(self.title)}</summary>\n\n{inside}\n</details>\n"

    def parts(self, keys: int = 1, widest: int = WIDEST) -> list["Table"]:
        """Tables of at most `widest` columns, each with the first `keys` columns."""
        headings = [column.heading for column in self.columns]
        step = widest - keys
        rest = headings[keys:]
        return [
            self.select([*headings[:keys], *rest[start : start + step]])
            for start in range(0, max(len(rest), 1), step)
        ]


def escape(text: str) -> str:
    """`text` escaped so that Markdown shows it as it is."""
    return re.sub(r"([\\`*\[\]<|])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    # A pipe ends a cell even inside code; a longer fence makes room for backticks.
    text = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text else ""


def count(value: float) -> str:
    """`904,000`."""
    return f"{round(value):,}"


def megabytes(value: float) -> str:
    """Bytes as 10^6 bytes in three digits: `3.70`, `0.260`."""
    return count(value / 1e6) if value >= 999.5e6 else f"{value / 1e6:#.3g}".rstrip(".")


def days(dates: Sequence[str]) -> str:
    """The day of some ISO dates, or the first and the last."""
    found = sorted({date[:10] for date in dates})
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"
