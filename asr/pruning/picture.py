"""Pictures of a pruned model: how sparse each tensor and gate is, and where its weights lie.

Needs matplotlib, which is imported when a picture is drawn. No pyplot: no global state, no display.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.pruning.statistics import Statistics, TensorStatistics, gate_names, statistics, weights_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

PANELS = 48
"""Patterns drawn at most; `patterns` chooses others."""
CELLS = 512
"""A panel has at most about this many cells across; a cell may stand for several weights."""
_WIDTH = 11.0
_INK, _GRID, _BAR = "#1c1d22", "#dcdde3", "#9dbfe0"
_DOTS = ("#cc4f1a", "#23886a", "#9a4fa3", "#b07800")


def draw(
    model: nn.Module | Mapping[str, Tensor], patterns: Iterable[str] | None = None, title: str = ""
) -> "Figure":
    """A figure of a model, or of its weights by name: bars of sparsity, and the kept weights.

    patterns: which tensors, as in `statistics`. The bars show every one of these, with a dot a
    gate. A panel is drawn of each that has zeros, gates side by side, rows downwards; the darker a
    cell, the more of its weights are kept. Save it with `figure.savefig("pattern.png")`. Raises
    AsrError for a pattern that matches nothing.
    """
    from matplotlib.figure import Figure

    stats = statistics(model, patterns)
    weights = weights_of(model)
    sparse = [t for t in stats.tensors if t.nonzeros < t.elements]
    displayed = sparse[:PANELS]
    rows = -(-len(displayed) // 2)
    heights = [1.1 + 0.24 * len(stats.tensors), 0.1 + 2.0 * rows]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained", facecolor="white")
    parts = figure.add_gridspec(2, 1, height_ratios=heights)
    top, bottom = figure.add_subfigure(parts[0]), figure.add_subfigure(parts[1])
    _bars(top.subplots(), stats, title)
    if displayed:
        panels = bottom.subplots(rows, 2, squeeze=False).ravel()
        for axes, t in zip(panels, displayed, strict=False):
            _panel(axes, t, weights[t.name].detach(), len(gate_names(t.name, weights)) or 1)
        for axes in panels[len(displayed) :]:
            axes.set_visible(False)
    caption = f"darker: more weights kept; {len(displayed)} of {len(sparse)} tensors with zeros"
    bottom.suptitle(caption if displayed else "no tensor has a zero", fontsize=9, color=_INK)
    return figure


def _bars(axes: "Axes", stats: Statistics, title: str) -> None:
    """Sparsity of each tensor as a bar, of its gates as dots."""
    places = range(len(stats.tensors))
    axes.barh(places, [100 * t.sparsity for t in stats.tensors], height=0.7, color=_BAR)
    names = list(dict.fromkeys(gate for t in stats.tensors for gate in t.gates))
    for index, gate in enumerate(names):
        found = [(p, t.gates[gate]) for p, t in zip(places, stats.tensors, strict=True) if t.gates]
        colour, marker = _DOTS[index % len(_DOTS)], "osD^v<>"[index % 7]
        x, y = [100 * sparsity for _, sparsity in found], [place for place, _ in found]
        axes.plot(x, y, marker, color=colour, markersize=4, label=f"{gate} gate")
    for place, t in zip(places, stats.tensors, strict=True):
        axes.text(101, place, f"{t.sparsity:.1%}", fontsize=8, va="center", color=_INK)
    axes.set_yticks(places, [t.name for t in stats.tensors], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("sparsity, %", fontsize=9)
    axes.grid(axis="x", color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    sums = f"prunable tensors {stats.prunable_sparsity:.1%}, whole model {stats.model_sparsity:.1%}"
    axes.set_title(f"{title}: {sums}" if title else sums, loc="left", fontsize=10)
    if names:
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.07, 1), fontsize=8, frameon=False, borderaxespad=0
        )


def _panel(axes: "Axes", t: TensorStatistics, weight: Tensor, gates: int) -> None:
    """The kept weights of one tensor."""
    rows, columns = weight.shape[0] // gates, weight.flatten(1).shape[1]
    side = max(1, -(-columns * gates // CELLS), -(-rows // CELLS))
    parts = [density(part, side) for part in weight.chunk(gates)]
    gap = max(1, parts[0].shape[1] // 40)
    image = _side_by_side(parts, gap)
    # Of a hundred weights only a few stay: shades are spread over the densities that there are.
    axes.imshow(image, cmap=_shades(), vmin=0.0, vmax=max(float(np.nanmax(image)), 1e-9))
    if not 1 / 3 < image.shape[1] / image.shape[0] < 12:
        axes.set_aspect("auto")
    starts = [index * (parts[0].shape[1] + gap) for index in range(gates)]
    axes.set_xticks([start - 0.5 for start in starts], list(t.gates) or ["0"], ha="left")
    axes.set_yticks([-0.5, image.shape[0] - 0.5], ["0", f"{rows}"])
    axes.tick_params(labelsize=7, length=2, colors=_INK)
    axes.spines[:].set_visible(False)
    cell = "" if side == 1 else f", a cell {side}x{side}"
    axes.set_title(
        f"{t.name}  {rows}x{columns}{cell}  {t.sparsity:.1%}", loc="left", fontsize=8, color=_INK
    )


def density(weight: Tensor, side: int) -> np.ndarray:
    """Fraction of weights that are not zero in each cell of side x side weights.

    weight (rows, ...): all dimensions but the first are taken as one. Cells at the lower and right
    edge hold what is left. Returns (ceil(rows / side), ceil(columns / side)).
    """
    kept = (weight.flatten(1) != 0).to("cpu", torch.float32).numpy()
    starts = [np.arange(0, length, side) for length in kept.shape]
    sums = np.add.reduceat(np.add.reduceat(kept, starts[0], axis=0), starts[1], axis=1)
    heights, widths = (np.diff([*s, n]) for s, n in zip(starts, kept.shape, strict=True))
    return np.asarray(sums / np.outer(heights, widths))


def _side_by_side(parts: Sequence[np.ndarray], gap: int) -> np.ndarray:
    """Images of one height in a row; between them NaN, which is drawn as nothing."""
    space = np.full((parts[0].shape[0], gap), np.nan, dtype=parts[0].dtype)
    row = [image for part in parts for image in (part, space)]
    return np.concatenate(row[:-1], axis=1)


def _shades() -> "Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("kept", ["#f1f3f7", "#2d6fb8", "#0b1f3a"])
    return shades.with_extremes(bad="white")


def draw_curves(
    together: Sequence[tuple[int, float]],
    tensors: Mapping[str, Sequence[tuple[int, float]]],
    last: int,
    title: str = "",
) -> "Figure":
    """Sparsity over optimiser steps up to `last`: of all tensors together, thick, and of each.

    Points are (step, sparsity after it); sparsity keeps its value until the next point.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), layout="constrained", facecolor="white")
    axes = figure.subplots()

    def line(points: Sequence[tuple[int, float]], **style: Any) -> None:
        steps = [0, *(step for step, _ in points), last]
        percent = [0.0, *(100 * sparsity for _, sparsity in points), 100 * points[-1][1]]
        axes.plot(steps, percent, drawstyle="steps-post", **style)

    for number, points in enumerate(tensors.values()):
        label = f"each of {len(tensors)} tensors" if number == 0 else None
        line(points, color=_BAR, linewidth=0.8, label=label)
    line(together, color=_INK, linewidth=1.8, label="together")
    axes.set_xlim(0, last)
    axes.set_ylim(0, 100)
    axes.set_xlabel("optimiser steps", fontsize=9)
    axes.set_ylabel("sparsity, %", fontsize=9)
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.set_title(title, loc="left", fontsize=10)
    return figure
