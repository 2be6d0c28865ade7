"""A picture for many methods at about equal size: one line a network, best first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.report.comparison import TOLERANCE
from asr.report.grouping import Network, datasets, networks
from asr.report.plots import INK, MANY, Picture, blank_figure, colour_of, finish, save
from asr.report.schema import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPTION = (
    "Word error rate of each network, best first. Dots: one for each seed; bars: the mean and the "
    "95 % interval, of several seeds from the lowest to the highest bound."
)


def is_comparison_of_methods(records: Sequence[Record]) -> bool:
    """Whether half of the networks, and at least MANY, have about equally many non-zeros."""
    sizes = [network.nonzeros for network in networks(records)]
    alike = max((sum(abs(x - y) <= TOLERANCE * y for x in sizes) for y in sizes), default=0)
    return alike >= MANY and 2 * alike >= len(sizes)


def methods_plot(records: Sequence[Record]) -> Picture | None:
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
        _panel(axes, name, found, groups)
    return save(figure, "methods")


def _panel(axes: "Axes", name: str, found: Sequence[Network], groups: Sequence[str]) -> None:
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
