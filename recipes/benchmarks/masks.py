"""What the uneven rows of real masks cost beside random masks, in bytes and in time.

    python recipes/benchmarks/masks.py [MODEL ...] [--quick] [--allow-busy] [--again]

Training does not prune every row alike, and a layout that pads groups of rows to the longest of
them pays for that. Each recurrent layer of the MODELs (by default the committed trained network)
runs with its own mask and with a random mask of the same sparsity in each matrix. In addition,
layers of 800 units run with densities of rows that are drawn from log-normal distributions. One
thread, 250 frames.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib.layers import CellWeights, LayerWeights, layer_of
from lib.script import Script, finish, named, start
from lib.sparse import Variant, sparse_layer
from lib.tables import masks_display
from lib.weights import random_layer

from asr.model.metadata import Metadata
from asr.report.table import Column, Table
from asr.sparse import read
from asr.sparse.csr import from_dense

TRAINED = Path(__file__).parents[2] / "tests" / "data" / "spoken.asr"
SKEWS = (0.5, 1.0)
SPARSITY = 0.90625
FRAMES = 250


def changed(layer: LayerWeights, change: Callable[[np.ndarray], np.ndarray]) -> LayerWeights:
    """The layer with a change of both matrices of each cell."""
    return LayerWeights(
        layer.cell,
        tuple(
            CellWeights(change(c.weight_ih), change(c.weight_hh), c.bias_ih, c.bias_hh)
            for c in layer.cells
        ),
    )


def shuffled(matrix: np.ndarray) -> np.ndarray:
    """The same values at random places: a random mask of the same sparsity."""
    flat = matrix.ravel().copy()
    np.random.default_rng(6).shuffle(flat)
    return flat.reshape(matrix.shape)


def skewed(matrix: np.ndarray, sigma: float) -> np.ndarray:
    """The matrix pruned to log-normal densities of rows, `1 - SPARSITY` on average."""
    generator = np.random.default_rng(7)
    kept = generator.lognormal(0.0, sigma, len(matrix))
    kept = np.minimum(kept * (1 - SPARSITY) / kept.mean(), 1.0)
    return np.where(generator.random(matrix.shape) < kept[:, None], matrix, 0.0).astype(np.float32)


def row_spread(layer: LayerWeights) -> float:
    """Standard deviation over mean of the non-zero weights per row, over all matrices."""
    counts = [
        np.count_nonzero(m, axis=1) / max(np.count_nonzero(m, axis=1).mean(), 1e-9)
        for c in layer.cells
        for m in (c.weight_ih, c.weight_hh)
    ]
    return float(np.concatenate(counts).std())


def layers(paths: Sequence[Path], quick: bool) -> Iterator[tuple[str, LayerWeights, LayerWeights]]:
    """Name, layer with its mask, layer with a random one."""
    for name, path in named(paths).items():
        tensors, plain = read(path)
        dimensions = Metadata.from_plain(plain).model
        for i in range(dimensions.layers):
            layer = layer_of(tensors, dimensions, i)
            yield f"{name}, layer {i + 1}", layer, changed(layer, shuffled)
    wide = random_layer("gru", *(2 * [64 if quick else 800]))
    for sigma in SKEWS:
        layer = changed(wide, lambda matrix, sigma=sigma: skewed(matrix, sigma))
        yield f"{wide.hidden} units, log-normal rows {sigma:g}", layer, changed(layer, shuffled)


def pattern_of(layer: LayerWeights) -> str:
    """The pattern of the recurrent matrix of the first cell."""
    return from_dense(layer.cells[0].weight_hh).pattern


def measure(script: Script, key: str, real: LayerWeights, other: LayerWeights) -> None:
    """Measure one layer with both masks, for one and for eight utterances at once."""
    frames = 12 if script.quick else FRAMES
    masks = {"its mask": real, "random mask": other}
    made = {name: sparse_layer(layer, Variant(name, "element")) for name, layer in masks.items()}
    calls: dict[str, Callable[[], object]] = {}
    details: dict[str, dict[str, Any]] = {}
    for columns in (1, 8):
        shape = (columns, frames, real.inputs)
        x = np.random.default_rng(8).standard_normal(shape, np.float32)
        for name, layer in made.items():
            label = f"{name}, N = {columns}"
            calls[label] = lambda layer=layer, x=x: layer.layer(x, threads=1)
            details[label] = {**layer.describe(), "row_spread": row_spread(masks[name])}
    measured = script.measure(calls)
    results = [
        {"name": name, "kind": "sparse", **timing.to_plain(), **details[name]}
        for name, timing in measured.timings.items()
    ]
    part = {"layer": key, "pattern": pattern_of(real), "threads": 1, "results": results}
    script.record.add(key, part, measured.other_load)
    ratio = results[0]["seconds"] / results[1]["seconds"]
    print(f"\n{table(key, results).text()}")
    print(f"one utterance takes {ratio:.2f} times as long with its mask as with a random one")


def table(key: str, results: Sequence[dict[str, Any]]) -> Table:
    """Time, bytes, sparsity and spread of the rows of each mask."""
    cells = tuple(
        (
            row["name"],
            f"{1e3 * row['seconds']:.3f}",
            f"{row['bytes_per_kept']:.2f}",
            f"{100 * row['sparsity']:.1f}",
            f"{row['row_spread']:.2f}",
            row["kernel"],
        )
        for row in results
    )
    numbers = ("ms", "bytes per kept weight", "zeros, %", "spread of rows")
    columns = (Column(key, numeric=False), *map(Column, numbers), Column("kernel", numeric=False))
    return Table(key, columns, cells)


def main(arguments: Sequence[str]) -> int:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("models", nargs="*", type=Path, default=[TRAINED])

    script = start("masks", __doc__ or "", masks_display, arguments, add)
    for key, real, other in layers(script.options.models, script.quick):
        if not script.done(key):
            measure(script, key, real, other)
    return 0


if __name__ == "__main__":
    finish(main)
