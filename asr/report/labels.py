"""Where to write beside the marks of a plot, so that no text covers a mark, a line or a text."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""

SIZE = 8.5
"""Size of label text in points."""


@dataclass(frozen=True)
class Label:
    """Text for the mark at (x, y), whose interval reaches from `low` to `high`; data units."""

    x: float
    y: float
    low: float
    high: float
    text: str
    colour: str


def overlap(one: Box, other: Box) -> float:
    """Shared area of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def choose(
    anchors: Sequence[Box],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
) -> list[tuple[float, float]]:
    """Centre of each text, given the box of its mark, the text's size and what else is there.

    One text after the other takes the place around its mark that covers least; texts already
    placed weigh most, then the frame's edge, then marks and lines, then distance.
    """
    taken: list[Box] = []
    centres = []
    for anchor, (width, height) in zip(anchors, sizes, strict=True):
        best = min(
            _places(anchor, width, height),
            key=lambda place: (
                place[1] + _cost(_box(place[0], width, height), taken, obstacles, frame)
            ),
        )[0]
        centres.append(best)
        taken.append(_box(best, width, height))
    return centres


def _places(anchor: Box, width: float, height: float) -> list[tuple[tuple[float, float], float]]:
    """Candidate centres around a mark, each with what its distance costs."""
    x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
    reach_x, reach_y = (anchor[2] - anchor[0] + width) / 2, (anchor[3] - anchor[1] + height) / 2
    places = []
    for ring in range(4):
        for step in range(16):
            angle = step * math.pi / 8
            across, up = math.cos(angle), math.sin(angle)
            # Out to the box around mark and text in this direction, then a ring further.
            scale = 1 / max(abs(across) / reach_x, abs(up) / reach_y)
            distance = scale + ring * 0.6 * height
            places.append(
                ((x + distance * across, y + distance * up), 12.0 * ring + 0.4 * (step % 4))
            )
    return places


def _box(centre: tuple[float, float], width: float, height: float) -> Box:
    x, y = centre
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _cost(box: Box, taken: Sequence[Box], obstacles: Sequence[Box], frame: Box) -> float:
    area = (box[2] - box[0]) * (box[3] - box[1])
    outside = area - overlap(box, frame)
    covered = sum(overlap(box, other) for other in obstacles)
    return 50 * sum(overlap(box, other) for other in taken) + 20 * outside + 2 * covered


def place(axes: "Axes", labels: Sequence[Label]) -> None:
    """Write `labels` beside their marks; the layout of the figure must be final."""
    pixels = axes.figure.dpi / 72
    mark = 4.5 * pixels
    anchors, obstacles = [], _lines(axes, step=2 * pixels)
    for label in labels:
        x, y = axes.transData.transform((label.x, label.y))
        low, high = (axes.transData.transform((label.x, v))[1] for v in (label.low, label.high))
        anchors.append((x - mark, y - mark, x + mark, y + mark))
        obstacles += [anchors[-1], (x - 3 * pixels, low, x + 3 * pixels, high)]
    texts = [
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(0, 0),
            textcoords="offset points",
            color=label.colour,
            fontsize=SIZE,
            ha="center",
            va="center",
            annotation_clip=False,
            zorder=4,
        )
        for label in labels
    ]
    extents = [text.get_window_extent() for text in texts]
    sizes = [(extent.width + 2 * pixels, extent.height + 1 * pixels) for extent in extents]
    box = axes.bbox
    centres = choose(anchors, sizes, obstacles, (box.x0, box.y0, box.x1, box.y1))
    for label, text, centre in zip(labels, texts, centres, strict=True):
        x, y = axes.transData.transform((label.x, label.y))
        text.set_position(((centre[0] - x) / pixels, (centre[1] - y) / pixels))


def _lines(axes: "Axes", step: float) -> list[Box]:
    """The drawn lines as small boxes, `step` pixels apart."""
    boxes = []
    for line in axes.lines:
        points = axes.transData.transform(line.get_xydata())
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            pieces = max(1, int(math.hypot(x1 - x0, y1 - y0) / step))
            for piece in range(pieces):
                x, y = x0 + (x1 - x0) * piece / pieces, y0 + (y1 - y0) * piece / pieces
                boxes.append((x - step / 2, y - step / 2, x + step / 2, y + step / 2))
    return boxes


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions at least `gap` apart, near `values`, in their order, within low and high.

    Where they do not all fit, they share the room evenly.
    """
    order = sorted(range(len(values)), key=lambda index: (values[index], index))
    if len(values) > 1:
        gap = min(gap, (high - low) / (len(values) - 1))
    # Blocks of texts that touch: [sum of wished starts, members].
    blocks: list[tuple[float, int]] = []
    for index in order:
        wish, members = values[index], 1
        while blocks and blocks[-1][0] + blocks[-1][1] * gap > wish:
            first, others = blocks.pop()
            wish = (first * others + (wish - others * gap) * members) / (others + members)
            members += others
        blocks.append((wish, members))
    positions = [start + gap * i for start, members in blocks for i in range(members)]
    for i, position in enumerate(positions):
        positions[i] = max(position, low + gap * i)
    for i in reversed(range(len(positions))):
        positions[i] = min(positions[i], high - gap * (len(positions) - 1 - i))
    result = [0.0] * len(values)
    for index, position in zip(order, positions, strict=True):
        result[index] = position
    return result
