"""One HTML page that needs nothing else: inline pictures, system fonts, no script, no network."""

import re
from collections.abc import Mapping, Sequence
from html import escape

from asr.report.plots import GRID, INK, PAPER, Picture
from asr.report.table import Table

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1d22; --paper: #fefefe; --grid: #dcdde3;
  --soft: #5c5f6b; --band: #f4f5f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e7ec; --paper: #17181c; --grid: #3a3c45; --soft: #a3a6b3; --band: #1f2127; }
  svg { filter: brightness(1.3); } }
body { margin: 0 auto; max-width: 84rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, ul { max-width: 46rem; } ul { padding-left: 1.2rem; }
footer, figcaption { color: var(--soft); font-size: .9rem; }
figure { margin: 1rem 0; max-width: 48rem; }
.wide { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 26rem; height: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--grid); text-align: left;
  vertical-align: top; }
th { vertical-align: bottom; font-weight: 600; min-width: 3.5rem; }
td { white-space: nowrap; }
th.number, td.number { text-align: right; }
tbody th { position: sticky; left: 0; background: var(--paper); min-width: 9rem; }
tbody tr:nth-child(even) > * { background: var(--band); }
code { font: .85em ui-monospace, monospace; }
""".strip()


def page(
    title: str,
    pictures: Sequence[tuple[str, Picture]],
    tables: Sequence[Table],
    findings: Sequence[str],
    notes: Sequence[str],
    made: str,
) -> str:
    """The page as text. `pictures` are (caption, picture); all text is escaped here."""
    figures = [
        f'<figure>\n<div class="wide">\n{inline_svg(picture.svg, f"p{index}-", caption)}\n</div>\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>"
        for index, (caption, picture) in enumerate(pictures)
    ]
    body = [f"<h1>{escape(title)}</h1>", *figures[:1]]
    body += ["<h2>Sparse and dense of equal non-zeros</h2>", _list(findings)] if findings else []
    body += [_table(tables[0]), _list(notes), *figures[1:], *map(_table, tables[1:])]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n<footer><p>{escape(made)}</p></footer>\n</body>\n</html>\n"
    )


def _list(lines: Sequence[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(line)}</li>" for line in lines) + "\n</ul>"


def _table(table: Table) -> str:
    kinds = [' class="number"' if column.numeric else "" for column in table.columns]
    head = "".join(
        f'<th scope="col"{kind}>{escape(column.heading)}</th>'
        for kind, column in zip(kinds, table.columns, strict=True)
    )
    rows = []
    for row in table.rows:
        cells = [
            f"<code>{escape(cell)}</code>" if column.code else escape(cell)
            for cell, column in zip(row, table.columns, strict=True)
        ]
        rest = zip(cells[1:], kinds[1:], strict=True)
        others = "".join(f"<td{kind}>{cell}</td>" for cell, kind in rest)
        rows.append(f'<tr><th scope="row">{cells[0]}</th>{others}</tr>')
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="wide">\n<table>\n<thead><tr>{head}</tr>'
        "</thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>\n</div>"
    )


_COLOURS: Mapping[str, str] = {INK: "var(--ink)", PAPER: "none", GRID: "var(--grid)"}


def inline_svg(svg: bytes, prefix: str, description: str) -> str:
    """A matplotlib SVG as part of a page: ids of its own, the page's colours, any width."""
    text = svg.decode()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", text)
    for colour, name in _COLOURS.items():
        text = text.replace(colour, name)
    tag = re.sub(r' (width|height)="[^"]*"', "", text[: text.index(">")])
    label = f' role="img" aria-label="{escape(description)}"'
    return tag + label + text[text.index(">") :]
