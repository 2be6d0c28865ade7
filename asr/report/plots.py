"""Two pictures from records: word error rate against non-zeros, and sparsity over training.

Drawn without pyplot, so no global state and no display. The same records give the same bytes:
SVG ids come from a fixed salt, and neither file carries a date or the program's version.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from asr.report.grouping import Network, Wer, datasets, networks
from asr.report.labels import SIZE, Label, place, spread
from asr.report.schema import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

INK, PAPER, GRID = "#1c1d22", "#fefefe", "#dcdde3"
"""Colours of text, ground and grid; the page swaps them for those of a dark screen."""
_COLOURS = (
    *("#2d6fb8", "#cc4f1a", "#b07800", "#23886a", "#9a4fa3"),
    *("#6c6f7a", "#4a55c8", "#c03a63", "#76752a", "#3a8fa6"),
)
_MARKERS = "osD^vPX*<>"
_DASHES = {"small-dense": (0, (1, 2)), "dense": "-"}
_Dashes = Literal["-", "--", ":"]
_LINES: tuple[_Dashes, ...] = ("-", "--", ":")
_WIDTH = 7.0
MANY = 5
"""From so many networks of about equal size on, marks over non-zeros would cover each other, and
curves of one colour could not be told apart."""


@dataclass(frozen=True)
class Picture:
    """One figure as bytes of both kinds."""

    svg: bytes
    png: bytes


@dataclass(frozen=True)
class Series:
    """Networks that share a colour and a marker, from few non-zeros to many."""

    name: str
    group: str
    networks: tuple[Network, ...]


def series(records: Sequence[Record]) -> list[Series]:
    """Networks by group, cell and units, and sparse ones by width as well."""
    found: dict[tuple[str, str, str, int | None], list[Network]] = {}
    all_units = [record.model.tokenizer for record in records]
    usual = max(dict.fromkeys(all_units), key=all_units.count, default="")
    names = {}
    for network in networks(records):
        first = network.first
        width = first.model.hidden if first.pruning else None
        key = (first.model.cell, first.model.tokenizer, first.group, width)
        found.setdefault(key, []).append(network)
        of = f", {first.model.tokenizer}" if first.model.tokenizer != usual else ""
        wide = f" {width}" if width else ""
        names[key] = f"{first.model.cell.upper()}{wide}{of}, {first.group.replace('-', ' ')}"
    return [
        Series(names[key], key[2], tuple(sorted(members, key=lambda n: n.nonzeros)))
        for key, members in found.items()
    ]


def wer_plot(records: Sequence[Record]) -> Picture | None:
    """WER in percent against non-zero parameters, one panel a test set; None without any test."""
    names = datasets(records)
    if not names:
        return None
    figure = blank_figure(height=0.9 + 3.7 * len(names))
    all_series = series(records)
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    drawn: dict[str, Line2D] = {}
    labels = [
        _wer_panel(axes, name, all_series, drawn) for axes, name in zip(panels, names, strict=True)
    ]
    figure.legend(
        list(drawn.values()),
        list(drawn),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        labelcolor=INK,
        fontsize=9,
    )
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, texts in zip(panels, labels, strict=True):
        place(axes, texts)
    return save(figure, "wer")


def _wer_panel(
    axes: "Axes", dataset: str, all_series: Sequence[Series], drawn: "dict[str, Line2D]"
) -> list[Label]:
    labels, highest, lowest = [], 0.0, 100.0
    for index, one in enumerate(all_series):
        colour = colour_of(index)
        tested = [(network, network.wer(dataset)) for network in one.networks]
        points = [(network, wer) for network, wer in tested if wer is not None]
        if not points:
            continue
        x = [network.nonzeros for network, _ in points]
        for at, (_, wer) in zip(x, points, strict=True):
            _interval(axes, at, wer, colour)
        style = _DASHES.get(one.group, "--") if len(points) > 1 else "none"
        (line,) = axes.plot(
            x,
            [100 * wer.wer for _, wer in points],
            color=colour,
            linestyle=style,
            linewidth=1.3,
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=6,
            zorder=3,
        )
        drawn.setdefault(one.name, line)
        for at, (network, wer) in zip(x, points, strict=True):
            labels.append(
                Label(at, 100 * wer.wer, 100 * wer.low, 100 * wer.high, _short(network), colour)
            )
        highest = max(highest, *(100 * wer.high for _, wer in points))
        lowest = min(lowest, *(100 * wer.low for _, wer in points))
    axes.set_title(dataset, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_ylabel("word error rate, %")
    axes.set_xlabel("non-zero parameters")
    # From zero where that costs little: half the height is then half the errors.
    axes.set_ylim(0 if lowest < 0.6 * highest else 0.9 * lowest, 1.07 * highest + 0.5)
    _count_axis(axes, labels)
    finish(axes)
    return labels


def _interval(axes: "Axes", x: float, wer: Wer, colour: str) -> None:
    axes.vlines(x, 100 * wer.low, 100 * wer.high, color=colour, linewidth=1.3, alpha=0.55)
    for bound in (wer.low, wer.high):
        axes.plot(x, 100 * bound, marker="_", color=colour, markersize=6, alpha=0.55)


def _short(network: Network) -> str:
    """Sparsity for a sparse network, width for a dense one; the legend tells the rest."""
    if network.first.pruning is None:
        return str(network.first.model.hidden)
    sparsities = [record.model.prunable_sparsity for record in network.records]
    return f"{100 * sum(sparsities) / len(sparsities):.0f} %"


def _count_axis(axes: "Axes", labels: Sequence[Label]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = min(label.x for label in labels), max(label.x for label in labels)
    margin = 1.25 if high > 2 * low else 1.7
    low, high = low / margin, high * margin
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = [m * 10**e for e in range(13) for m in (1, 1.5, 2, 3, 4, 5, 7)]
    if high / low > 12:
        ticks = [m * 10**e for e in range(13) for m in (1, 2, 5)]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))


def short_count(value: float) -> str:
    """`950`, `200 k`, `1.5 M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g} {letter}"
    return f"{value:.4g}"


def pruning_plot(records: Sequence[Record]) -> Picture | None:
    """Sparsity of the prunable tensors over optimiser steps; None when no run has a curve."""
    curves = [
        (style, record.training.steps, record.pruning.curve, network)
        for style, network in _styles(records)
        for record in network.records
        if record.pruning and record.pruning.curve
    ]
    if not curves:
        return None
    figure = blank_figure(height=3.6)
    axes = figure.subplots()
    # Of several seeds each has its line, and all together one label.
    ends: dict[tuple[str, str], Label] = {}
    total = max(max(steps, curve[-1][0]) for _, steps, curve, _ in curves)
    for (colour, dashes), training_steps, curve, network in curves:
        last = max(training_steps, curve[-1][0])
        steps = [0, *(step for step, _ in curve), last]
        sparsity = [0.0, *(100 * share for _, share in curve), 100 * curve[-1][1]]
        (line,) = axes.plot(steps, sparsity, drawstyle="steps-post", color=colour, linewidth=1.3)
        line.set_linestyle(dashes)
        end = Label(last, sparsity[-1], sparsity[-1], sparsity[-1], network.label, colour)
        ends.setdefault((network.first.recipe, network.first.name), end)
    axes.set_xlim(0, total)
    axes.set_ylim(0, 100)
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel("sparsity of prunable tensors, %")
    finish(axes)
    _label_ends(axes, list(ends.values()))
    return save(figure, "pruning")


def _styles(records: Sequence[Record]) -> list[tuple[tuple[str, _Dashes], Network]]:
    """Colour and dashes of each network's line: those of its series, but where many networks of
    one series would look alike, of its own."""
    styles: list[tuple[tuple[str, _Dashes], Network]] = []
    for index, one in enumerate(series(records)):
        sparse = [network for network in one.networks if network.first.pruning]
        for own, network in enumerate(sparse):
            alone = (colour_of(own), _LINES[own // len(_COLOURS) % len(_LINES)])
            styles.append((alone if len(sparse) >= MANY else (colour_of(index), "-"), network))
    return styles


def _label_ends(axes: "Axes", ends: Sequence[Label]) -> None:
    """Write right of the axes, each text tied to the end of its line."""
    # 5.2 % of the axis is a line of label text at this height of the figure.
    heights = spread([end.y for end in ends], gap=5.2, low=1, high=99)
    tie = {"arrowstyle": "-", "linewidth": 0.6, "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 0}
    for end, height in zip(ends, heights, strict=True):
        axes.annotate(
            end.text,
            (end.x, end.y),
            xytext=(1.05, height),
            textcoords=("axes fraction", "data"),
            color=end.colour,
            fontsize=SIZE,
            va="center",
            annotation_clip=False,
            arrowprops=tie | {"color": end.colour},
        )


def blank_figure(height: float) -> "Figure":
    """A figure of the usual width, `height` in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained", facecolor=PAPER)


def colour_of(index: int) -> str:
    """The colour of the series of this number; they repeat after ten."""
    return _COLOURS[index % len(_COLOURS)]


def finish(axes: "Axes") -> None:
    """Grid, ground and colours of all pictures."""
    axes.set_facecolor(PAPER)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_color(INK)


def save(figure: "Figure", salt: str) -> Picture:
    """The figure as bytes; `salt` keeps the ids of two SVGs on one page apart."""
    from matplotlib import rc_context

    svg, png = io.BytesIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "path"}):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return Picture(svg.getvalue(), png.getvalue())
