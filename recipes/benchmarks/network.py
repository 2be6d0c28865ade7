"""A whole network on 10 s of audio: the native backend against all installed dense runtimes.

    python recipes/benchmarks/network.py [--quick] [--only 5x800] [--allow-busy] [--again]

From features to log-probabilities: convolutions (11 x 5 and 5 x 5), 5 x 800 or 3 x 512
bidirectional GRU with directions summed, output layer, with 1 and 2 threads, for one utterance; and
for 2 and 4 utterances of 3 s at once, as a server meets them. The dense alternatives compute the
same network with batch norms folded; in the sparse ones 90.6 % of the weights of recurrent layers
are zero. Both ways to compute the features are timed as well, and with one thread the parts of the
bank network. The error is the largest difference of a log-probability from torch in fp32 with the
same weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
VARIANTS = (*MAIN, Variant("element, exact", "element", exact=True))


@dataclass(frozen=True)
class Condition:
    """The conditions of one part of the record."""

    layers: int
    hidden: int
    threads: int
    utterances: int = 1
    seconds: float = SECONDS

    @property
    def size(self) -> str:
        return f"{self.layers}x{self.hidden}"

    @property
    def key(self) -> str:
        several = f"-n{self.utterances}" if self.utterances > 1 else ""
        return f"{self.size}{several}-t{self.threads}"


CONDITIONS = (
    *(Condition(5, 800, threads) for threads in (2, 1)),
    *(Condition(3, 512, threads) for threads in (2, 1)),
    *(Condition(3, 512, 1, utterances, seconds=3) for utterances in (2, 4)),
)


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


def stages(dimensions: Model, features: np.ndarray) -> dict[str, Callable[[], object]]:
    """The parts of the bank network, each on what the part before makes of one utterance."""
    network = Network(random_tensors(dimensions, "bank", SPARSITY), dimensions)
    frames = dimensions.output_length(features.shape[1])
    convolved = network.convolve(features[0], 0, frames)[None]
    calls: dict[str, Callable[[], object]] = {
        "bank: convolutions": lambda: network.convolve(features[0], 0, frames)
    }

    def recurrent() -> np.ndarray:
        rows = convolved
        for layer in network.layers:
            rows, _ = layer(rows, threads=1)
        return rows

    x = recurrent()[0]
    calls["bank: recurrent layers"] = recurrent
    calls["bank: output layer"] = lambda: network.outputs(x)
    return calls


def measure(script: Script, condition: Condition) -> None:
    """Measure one network with a number of threads and record it."""
    generator = np.random.default_rng(4)
    dimensions, threads = dimensions_of(condition.layers, condition.hidden), condition.threads
    samples = 0.1 * generator.standard_normal(round(condition.seconds * 16000), np.float32)
    fronts = frontends(samples)
    one = fronts["features, native"].output()
    features = np.repeat(one[None], condition.utterances, axis=0)
    alternatives, calls, details = dense_networks(dimensions, features, threads)
    kinds = dict.fromkeys(calls, "dense")
    ours, described = sparse_networks(dimensions, features, threads)
    calls |= ours
    details |= described
    kinds |= dict.fromkeys(ours, "sparse")
    if condition.utterances == 1:
        parts = {name: computation.run for name, computation in fronts.items()}
        if threads == 1:
            parts |= stages(dimensions, features)
        calls |= parts
        kinds |= dict.fromkeys(parts, "part")
        difference = one - fronts["features, torch"].output()
        details["features, native"] = {"error": float(np.abs(difference).max())}
    measured = script.measure(calls, slot_seconds=0.15, kinds=kinds)
    results = rows(measured, kinds, details)
    part = {
        "size": condition.size,
        "threads": threads,
        "utterances": condition.utterances,
        "audio_seconds": condition.seconds,
        "results": results,
        "absent": alternatives.absent,
    }
    script.record.add(condition.key, part, measured.other_load)
    show(condition.key, results, alternatives.absent)


def main(arguments: Sequence[str]) -> int:
    script = start("network", __doc__ or "", network_display, arguments, only="5x800-t2")
    tiny = (Condition(2, 32, 1, seconds=1), Condition(2, 32, 1, 2, seconds=1))
    for condition in tiny if script.quick else CONDITIONS:
        if condition.key.startswith(script.options.only) and not script.done(condition.key):
            measure(script, condition)
    return 0


if __name__ == "__main__":
    finish(main)
