"""Pictures from records: word error rates against non-zeros or by method, sparsity over training.

Drawn without pyplot, so no global state and no display. The same records give the same bytes:
SVG ids come from a fixed salt, and neither file carries a date or the program's version.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from asr.report.comparison import TOLERANCE
from asr.report.grouping import NetworkSeeds, Wer, datasets, networks
from asr.report.schema import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

INK, PAPER, GRID = "#1c1d22", "#fefefe", "#dcdde3"
"""Colours of text, background and grid; the page replaces them by those of a dark screen."""
_COLOURS = (
    *("#2d6fb8", "#cc4f1a", "#b07800", "#23886a", "#9a4fa3"),
    *("#6c6f7a", "#4a55c8", "#c03a63", "#76752a", "#3a8fa6"),
)
_MARKERS = "osD^vPX*<>"
_DASHES = {"small-dense": (0, (1, 2)), "dense": "-"}
_Dashes = Literal["-", "--", ":", "-."]
_LINES: tuple[_Dashes, ...] = ("-", "--", ":", "-.")
_WIDTH = 7.0
MANY = 5
"""From this many networks of about equal size on, marks over non-zeros would cover each other, and
curves of one colour could not be distinguished."""
WER_CAPTION = "Word error rate against non-zero parameters, with 95 % intervals."
METHODS_CAPTION = (
    "Word error rate of each network, best first. Dots: one for each seed; bars: the mean and the "
    "95 % interval, of several seeds from the lowest to the highest bound."
)
PRUNING_CAPTION = "Sparsity of the prunable tensors while the sparse networks trained."


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
    networks: tuple[NetworkSeeds, ...]


def series(records: Sequence[RunRecord]) -> list[Series]:
    """Networks by group, cell and tokenizer, and sparse ones by width as well."""
    found: dict[tuple[str, str, str, int | None], list[NetworkSeeds]] = {}
    tokenizers = [record.model.tokenizer for record in records]
    usual = max(dict.fromkeys(tokenizers), key=tokenizers.count, default="")
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


def wer_plot(records: Sequence[RunRecord]) -> Picture | None:
    """WER in percent against non-zero parameters, one panel a test set; None without any test."""
    names = datasets(records)
    if not names:
        return None
    figure = blank_figure(height=0.9 + 3.7 * len(names))
    all_series = series(records)
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    drawn: dict[str, Line2D] = {}
    for axes, name in zip(panels, names, strict=True):
        _wer_panel(axes, name, all_series, drawn)
    _legend(figure, drawn)
    return save(figure, "wer")


def _wer_panel(
    axes: "Axes", dataset: str, all_series: Sequence[Series], drawn: "dict[str, Line2D]"
) -> None:
    bounds, nonzeros = [], []
    for index, one in enumerate(all_series):
        tested = [(network.nonzeros, network.wer(dataset)) for network in one.networks]
        points = [(x, wer) for x, wer in tested if wer is not None]
        if not points:
            continue
        colour = colour_of(index)
        for x, wer in points:
            _interval(axes, x, wer, colour)
            bounds += [100 * wer.low, 100 * wer.high]
            nonzeros.append(x)
        (line,) = axes.plot(
            [x for x, _ in points],
            [100 * wer.wer for _, wer in points],
            color=colour,
            linestyle=_DASHES.get(one.group, "--") if len(points) > 1 else "none",
            linewidth=1.3,
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=6,
            zorder=3,
        )
        drawn.setdefault(one.name, line)
    lowest, highest = min(bounds), max(bounds)
    axes.set_title(dataset, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_ylabel("word error rate, %")
    axes.set_xlabel("non-zero parameters")
    # From zero where that costs little: half the height is then half the errors.
    axes.set_ylim(0 if lowest < 0.6 * highest else 0.9 * lowest, 1.07 * highest + 0.5)
    _count_axis(axes, min(nonzeros), max(nonzeros))
    finish(axes)


def _legend(figure: "Figure", drawn: "Mapping[str, Line2D]") -> None:
    """Below all panels, two names beside each other."""
    figure.legend(
        list(drawn.values()),
        list(drawn),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        labelcolor=INK,
        fontsize=9,
    )


def _interval(axes: "Axes", x: float, wer: Wer, colour: str) -> None:
    axes.vlines(x, 100 * wer.low, 100 * wer.high, color=colour, linewidth=1.3, alpha=0.55)
    for bound in (wer.low, wer.high):
        axes.plot(x, 100 * bound, marker="_", color=colour, markersize=6, alpha=0.55)


def _count_axis(axes: "Axes", low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

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


def pruning_plot(records: Sequence[RunRecord]) -> Picture | None:
    """Sparsity of the prunable tensors over optimiser steps; None when no run has a curve."""
    curves = [
        (style, record.training.steps, record.pruning.curve, network)
        for style, network in _styles(records)
        for record in network.records
        if record.pruning and record.pruning.curve
    ]
    if not curves:
        return None
    labels = list(dict.fromkeys(network.label for *_, network in curves))
    figure = blank_figure(height=3.4 + 0.2 * -(-len(labels) // 2))
    axes = figure.subplots()
    # Of several seeds each has its line, and all together one name in the legend.
    drawn: dict[str, Line2D] = {}
    total = max(max(steps, curve[-1][0]) for _, steps, curve, _ in curves)
    for (colour, dashes), training_steps, curve, network in curves:
        last = max(training_steps, curve[-1][0])
        steps = [0, *(step for step, _ in curve), last]
        sparsity = [0.0, *(100 * fraction for _, fraction in curve), 100 * curve[-1][1]]
        (line,) = axes.plot(steps, sparsity, drawstyle="steps-post", color=colour, linewidth=1.3)
        line.set_linestyle(dashes)
        drawn.setdefault(network.label, line)
    axes.set_xlim(0, total)
    axes.set_ylim(0, 100)
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel("sparsity of prunable tensors, %")
    finish(axes)
    _legend(figure, drawn)
    return save(figure, "pruning")


def _styles(records: Sequence[RunRecord]) -> list[tuple[tuple[str, _Dashes], NetworkSeeds]]:
    """Colour and dashes of each network's line.

    Few networks of a series share its colour and differ in dashes; many have a colour each, and
    dashes where the colours repeat.
    """
    styles: list[tuple[tuple[str, _Dashes], NetworkSeeds]] = []
    for index, one in enumerate(series(records)):
        sparse = [network for network in one.networks if network.first.pruning]
        for own, network in enumerate(sparse):
            if len(sparse) >= MANY:
                style = colour_of(own), _LINES[own // len(_COLOURS) % len(_LINES)]
            else:
                style = colour_of(index), _LINES[own]
            styles.append((style, network))
    return styles


def is_comparison_of_methods(records: Sequence[RunRecord]) -> bool:
    """Whether half of the networks, and at least MANY, have about equally many non-zeros."""
    sizes = [network.nonzeros for network in networks(records)]
    alike = max((sum(abs(x - y) <= TOLERANCE * y for x in sizes) for y in sizes), default=0)
    return alike >= MANY and 2 * alike >= len(sizes)


def methods_plot(records: Sequence[RunRecord]) -> Picture | None:
    """WER in percent, one panel a test set; None without any test."""
    names = datasets(records)
    if not names:
        return None
    found = networks(records)
    groups = list(dict.fromkeys(network.first.group for network in found))
    heights = [0.28 * sum(bool(n.evaluations(name)) for n in found) + 0.8 for name in names]
    figure = blank_figure(height=sum(heights))
    panels = figure.subplots(len(names), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        _methods_panel(axes, name, found, groups)
    return save(figure, "methods")


def _methods_panel(
    axes: "Axes", name: str, found: Sequence[NetworkSeeds], groups: Sequence[str]
) -> None:
    tested = [(network, wer) for network in found if (wer := network.wer(name)) is not None]
    tested.sort(key=lambda pair: pair[1].wer, reverse=True)
    for row, (network, wer) in enumerate(tested):
        colour = colour_of(groups.index(network.first.group))
        low, mean, high = (100 * value for value in (wer.low, wer.wer, wer.high))
        axes.hlines(row, low, high, color=colour, linewidth=1.3, alpha=0.55)
        axes.plot([mean], [row], marker="|", markersize=11, markeredgewidth=2, color=colour)
        seeds = [100 * test.wer for test in network.evaluations(name)]
        if len(seeds) > 1:
            axes.plot(seeds, [row] * len(seeds), "o", markersize=4, color=colour)
    axes.set_yticks(range(len(tested)), [network.label for network, _ in tested])
    axes.set_ylim(-0.6, len(tested) - 0.4)
    axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel("word error rate, %")
    finish(axes)


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
