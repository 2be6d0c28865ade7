"""One recurrent layer, sparse against every dense alternative that is installed, on a CPU.

    python recipes/benchmarks/recurrent.py [--quick] [--only gru-800] [--allow-busy] [--again]

A bidirectional layer of as many inputs as hidden units over 250 frames (10 s of audio at 40 ms),
N utterances at once. All variants run in one process, in turn, on the same input. Weights are
Gaussian, pruned by magnitude in each pattern. GRU: hidden 512, 800 and 1760, N 1, 8 and 32; LSTM
and plain RNN: hidden 800, N 1 and 8; all with 1 and with 2 threads. Sparsities 81.25, 90.6 and
93.75 %, and with 2 threads and N 1 or 8 also 50, 75 and 87.5 %, to find the sparsity from which
sparse is faster.

Every condition is a part of the record and is written when it is done; run the same command to
continue. The error is the largest difference of an output from torch (or numpy) in fp32 with the
same weights, for one utterance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lib.cells import fastest
from lib.dense_layer import DenseLayer
from lib.layers import LayerWeights
from lib.script import Script, finish, rows, show, start
from lib.sparse import MAIN, OTHERS, SparseLayer, Variant, runs_here, sparse_layer
from lib.speed_tables import USUAL, recurrent_display
from lib.weights import prune_layer, random_layer

from asr.benchmark.dense import Computation
from asr.sparse.kernels import CellKind, Recurrent

SPARSITIES = (0.8125, 0.90625, 0.9375)
CROSSOVER = (0.5, 0.75, 0.875)
FRAMES = 250
TOO_SLOW = 2.5
"""A dense alternative this many times slower than the fastest at N = 8 is left out at N = 32."""


@dataclass(frozen=True)
class Condition:
    """The conditions of one part of the record."""

    cell: CellKind
    hidden: int
    columns: int
    threads: int

    @property
    def key(self) -> str:
        return f"{self.cell}-{self.hidden}-n{self.columns}-t{self.threads}"

    def runs(self, every: bool) -> Iterator[tuple[Variant, float]]:
        """The sparse layers to time, with their sparsities."""
        sparsities = list(SPARSITIES) if every else [USUAL]
        if every and self.threads == 2 and self.columns <= 8:
            sparsities += CROSSOVER
        for variant in MAIN:
            for sparsity in sparsities:
                yield variant, sparsity
        for variant in OTHERS:
            if self.columns <= 8 and runs_here(variant):
                yield variant, USUAL


def conditions(quick: bool) -> list[tuple[CellKind, int, tuple[int, ...]]]:
    """Cell, hidden units, numbers of utterances."""
    if quick:
        return [("gru", 64, (1, 2)), ("lstm", 64, (1,))]
    grid: list[tuple[CellKind, int, tuple[int, ...]]] = [
        ("gru", hidden, (1, 8, 32)) for hidden in (800, 512, 1760)
    ]
    return [*grid, ("lstm", 800, (1, 8)), ("rnn_relu", 800, (1, 8))]


class Layers:
    """The sparse layers of one cell and size; each is prepared and checked once."""

    def __init__(self, weights: LayerWeights, frames: int) -> None:
        self.weights = weights
        generator = np.random.default_rng(2)
        self.x = generator.standard_normal((1, frames, weights.inputs), np.float32)
        self._made: dict[tuple[str, float], tuple[SparseLayer, float]] = {}

    def get(self, variant: Variant, sparsity: float) -> tuple[SparseLayer, float]:
        """The layer and its largest error."""
        key = (variant.name, sparsity)
        if key not in self._made:
            pruned = prune_layer(self.weights, variant.pattern, sparsity)
            expected = reference(pruned, self.x)
            same = [v for v in (*MAIN, *OTHERS) if v.pattern == variant.pattern]
            for other in same if sparsity == USUAL else same[:1]:
                if runs_here(other):
                    made = sparse_layer(pruned, other)
                    error = float(np.abs(made.layer(self.x)[0] - expected).max())
                    self._made[other.name, sparsity] = (made, error)
        return self._made[key]


def reference(weights: LayerWeights, x: np.ndarray) -> np.ndarray:
    """The layer's outputs in fp32: torch's, or numpy's where torch is not installed."""
    found = DenseLayer(weights, 1).alternatives(x, ("torch fp32",)).found
    if found:
        return found["torch fp32"].output()
    exact = sparse_layer(weights, Variant("reference", "element", kernel="numpy"))
    return exact.layer(x)[0]


def dense_errors(found: dict[str, Computation], expected: np.ndarray) -> dict[str, dict[str, Any]]:
    """Largest error of each dense alternative, for one utterance."""
    return {
        name: {"error": float(np.abs(computation.output() - expected).max())}
        for name, computation in found.items()
    }


def measure(
    script: Script,
    condition: Condition,
    layers: Layers,
    dense: DenseLayer,
    errors: dict[str, dict[str, Any]],
    too_slow: set[str],
) -> None:
    """Measure one condition and record it."""
    generator = np.random.default_rng(3)
    shape = (condition.columns, layers.x.shape[1], layers.weights.inputs)
    x = generator.standard_normal(shape, np.float32)
    alternatives = dense.alternatives(x)
    for name in too_slow:
        if alternatives.found.pop(name, None):
            alternatives.absent[name] = f"over {TOO_SLOW} times slower than the fastest at N = 8"
    calls: dict[str, Any] = {name: c.run for name, c in alternatives.found.items()}
    kinds, details = dict.fromkeys(calls, "dense"), dict(errors)
    every = condition.cell == "gru"
    for variant, sparsity in condition.runs(every):
        made, error = layers.get(variant, sparsity)
        name = f"{variant.name}, {100 * sparsity:.4g} %"
        calls[name] = sparse_call(made.layer, x, condition.threads)
        kinds[name] = "sparse"
        details[name] = {"variant": variant.name, **made.describe(), "error": error}
    measured = script.measure(calls, kinds=kinds)
    results = rows(measured, kinds, details)
    part = {
        "cell": condition.cell,
        "hidden": condition.hidden,
        "columns": condition.columns,
        "threads": condition.threads,
        "frames": shape[1],
        "results": results,
        "absent": alternatives.absent,
    }
    script.record.add(condition.key, part, measured.other_load)
    show(condition.key, results, alternatives.absent)
    best = fastest(results)
    if condition.columns == 8 and best is not None:
        limit = TOO_SLOW * best["seconds"]
        too_slow |= {r["name"] for r in results if r["kind"] == "dense" and r["seconds"] > limit}


def sparse_call(layer: Recurrent, x: np.ndarray, threads: int) -> Any:
    """What is timed: input projection, all steps and gates of both directions."""
    return lambda: layer(x, threads=threads)


def main(arguments: Sequence[str]) -> int:
    script = start("recurrent", __doc__ or "", recurrent_display, arguments, only="gru-800-n1")
    frames = 12 if script.quick else FRAMES
    for cell, hidden, columns in conditions(script.quick):
        todo = [
            Condition(cell, hidden, n, threads)
            for threads in (2, 1)
            for n in columns
            if Condition(cell, hidden, n, threads).key.startswith(script.options.only)
        ]
        todo = [condition for condition in todo if not script.done(condition.key)]
        if not todo:
            continue
        weights = random_layer(cell, hidden, hidden)
        layers = Layers(weights, frames)
        expected = reference(weights, layers.x)
        for threads in dict.fromkeys(condition.threads for condition in todo):
            dense = DenseLayer(weights, threads)
            errors = dense_errors(dense.alternatives(layers.x).found, expected)
            too_slow: set[str] = set()
            for condition in todo:
                if condition.threads == threads:
                    measure(script, condition, layers, dense, errors, too_slow)
    return 0


if __name__ == "__main__":
    finish(main)
