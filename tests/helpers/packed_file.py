"""Tensors of a small model file, for tests of the file format."""

import struct

import numpy as np

PREFIX = struct.Struct("<8sIQ32s")
METADATA = {"kind": "test", "list": [1, 2.5, None, True], "unicode": "Zürich", "empty": {}}


def some_tensors() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    weights = generator.normal(0, 1, (24, 20)).astype(np.float32)
    weights[np.abs(weights) < 1.6] = 0
    return {
        "layer.weight": weights,
        "layer.bias": generator.normal(0, 1, 24).astype(np.float32),
        "tied.weight": weights,
        "count": np.array(7, np.int64),
        "nothing": np.zeros((0, 3), np.float32),
    }
