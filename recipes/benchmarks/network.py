"""A whole network on 10 s of audio: the native backend against all installed dense runtimes.

    python recipes/benchmarks/network.py [--quick] [--only 5x800] [--allow-busy] [--again]

From features to log-probabilities of one utterance: convolutions (11 x 5 and 5 x 5), 5 x 800 or
3 x 512 bidirectional GRU with directions summed, output layer, with 1 and 2 threads. The dense
alternatives compute the same network with batch norms folded; in the sparse ones 90.6 % of the
weights of recurrent layers are zero. Both ways to compute the features are timed as well. The error
is the largest difference of a log-probability from torch in fp32 with the same weights.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lib.script import Script, finish, rows, show, start
from lib.sparse import MAIN, Variant
from lib.speed_tables import network_display
from lib.weights import random_tensors

from asr.benchmark.dense import NAMES, Computation, DenseAlternatives, DenseNetwork
from asr.features.logmel import features as native_features
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.native_network import Network

SPARSITY = 0.90625
SECONDS = 10
SIZES = {"5x800": (5, 800), "3x512": (3, 512)}
VARIANTS = (*MAIN, Variant("element, exact", "element", exact=True))


def dimensions_of(layers: int, hidden: int) -> Model:
    """Dimensions of a network of the benchmark; its batch norms are folded."""
    return Model(layers=layers, hidden=hidden, batch_norm=False)


def sparse_networks(
    dimensions: Model, features: np.ndarray, threads: int
) -> tuple[dict[str, Callable[[], object]], dict[str, dict[str, Any]]]:
    """The native backend on a network pruned in each pattern: calls, and details for the record."""
    lengths = np.full(len(features), features.shape[1])
    calls: dict[str, Callable[[], object]] = {}
    details = {}
    for variant in VARIANTS:
        tensors = random_tensors(dimensions, variant.pattern, SPARSITY)
        network = Network(tensors, dimensions, exact=variant.exact)
        dense = DenseNetwork(tensors, dimensions, threads)
        expected = dense.alternatives(features, ("torch fp32",)).found["torch fp32"].output()
        calls[variant.name] = lambda network=network: network.log_probs(
            features, lengths, threads=threads
        )
        kernels = network.describe()
        details[variant.name] = {
            "variant": variant.name,
            "sparsity": SPARSITY,
            "kernel": ", ".join(sorted({k for n, k in kernels.items() if ".weight_" in n})),
            "error": float(np.abs(calls[variant.name]()[0] - expected).max()),
        }
    return calls, details


def dense_networks(
    dimensions: Model, features: np.ndarray, threads: int, names: Sequence[str] = NAMES
) -> tuple[DenseAlternatives, dict[str, Callable[[], object]], dict[str, dict[str, Any]]]:
    """The dense alternatives of a random network: their calls, and details for the record."""
    dense = DenseNetwork(random_tensors(dimensions), dimensions, threads)
    alternatives = dense.alternatives(features, names)
    expected = alternatives.found["torch fp32"].output()
    details = {
        name: {"error": float(np.abs(computation.output() - expected).max())}
        for name, computation in alternatives.found.items()
    }
    return alternatives, {n: c.run for n, c in alternatives.found.items()}, details


def frontends(samples: np.ndarray) -> dict[str, Computation]:
    """Both ways to compute features from samples."""
    import torch

    from asr.features.logmel_torch import features as torch_features

    settings = Frontend()

    def slow() -> Any:
        with torch.inference_mode():
            return torch_features(samples, settings)

    return {
        "features, torch": Computation(slow, lambda: slow().numpy()),
        "features, native": Computation(
            lambda: native_features(samples, settings), lambda: native_features(samples, settings)
        ),
    }


def measure(script: Script, size: str, dimensions: Model, threads: int, seconds: float) -> None:
    """Measure one network with a number of threads and record it."""
    generator = np.random.default_rng(4)
    samples = 0.1 * generator.standard_normal(round(seconds * 16000), np.float32)
    fronts = frontends(samples)
    features = np.ascontiguousarray(fronts["features, native"].output())[None]
    alternatives, calls, details = dense_networks(dimensions, features, threads)
    kinds = dict.fromkeys(calls, "dense")
    ours, described = sparse_networks(dimensions, features, threads)
    calls |= ours
    details |= described
    kinds |= dict.fromkeys(ours, "sparse")
    calls |= {name: computation.run for name, computation in fronts.items()}
    kinds |= dict.fromkeys(fronts, "features")
    difference = fronts["features, native"].output() - fronts["features, torch"].output()
    details["features, native"] = {"error": float(np.abs(difference).max())}
    measured = script.measure(calls, slot_seconds=0.15, kinds=kinds)
    results = rows(measured, kinds, details)
    key = f"{size}-t{threads}"
    part = {
        "size": size,
        "threads": threads,
        "audio_seconds": seconds,
        "results": results,
        "absent": alternatives.absent,
    }
    script.record.add(key, part, measured.other_load)
    show(key, results, alternatives.absent)


def main(arguments: Sequence[str]) -> int:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--only", default="", help="only keys that begin with this, such as 5x800-t2"
        )

    script = start("network", __doc__ or "", network_display, arguments, add)
    sizes = {"2x32": (2, 32)} if script.quick else SIZES
    for size, (layers, hidden) in sizes.items():
        for threads in (2, 1):
            key = f"{size}-t{threads}"
            if key.startswith(script.options.only) and not script.done(key):
                dimensions = dimensions_of(layers, hidden)
                measure(script, size, dimensions, threads, 1 if script.quick else SECONDS)
    return 0


if __name__ == "__main__":
    finish(main)
