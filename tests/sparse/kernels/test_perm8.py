"""perm8 computes the same integers as numpy, bit for bit, on every instruction set."""

import numpy as np
import pytest
from sparse_arrays import zeros_and_weights

from asr.sparse.csr import from_dense
from asr.sparse.kernels import levels, library, prepare

HERE = levels() if library() else ()
CASES = [
    ("element", (96, 128), 0.1),
    ("element", (75, 101), 0.3),
    ("element", (1, 1), 1.0),
    ("element", (7, 33), 0.5),
    ("element", (20, 1500), 0.09),
    ("bank", (96, 128), 3 / 32),
    ("bank", (75, 352), 2 / 32),
    ("bank", (33, 96), 1 / 32),
    ("bank", (64, 64), 4 / 32),
    ("bank", (40, 160), 6 / 32),
    ("bank", (1, 32), 31 / 32),
    ("bank", (50, 100), 2 / 32),
]


def by_integers(dense: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What perm8 computes: weights rounded by row and inputs by column to signed bytes."""
    most = np.abs(dense).max(axis=1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        words = np.rint(dense * np.where(most > 0, 127.0 / most, 0)[:, None]).astype(np.int64)
    scales = (most / 127.0).astype(np.float32)
    top = np.abs(x).max(axis=1)
    by = np.where(top > np.float32(1e-30), np.float32(127) / np.maximum(top, np.float32(1e-30)), 0)
    inputs = np.rint(x * by.astype(np.float32)[:, None]).astype(np.int64)
    sums = (inputs @ words.T).astype(np.float32)
    return sums * (scales[None] * (top / np.float32(127))[:, None])


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize(("pattern", "shape", "keep"), CASES)
def test_every_instruction_set_gives_the_bits_of_the_integer_model(name, pattern, shape, keep):
    dense = zeros_and_weights(pattern, shape, keep)
    matrix = prepare(from_dense(dense), kernel="perm8", level=name)
    for columns in range(1, 18):
        x = np.random.default_rng(columns).normal(0, 1, (columns, shape[1])).astype(np.float32)
        expected = by_integers(dense, x)
        assert np.array_equal(matrix(x), expected)
        bias = np.random.default_rng(0).normal(0, 1, shape[0]).astype(np.float32)
        assert np.allclose(matrix(x, bias), expected + bias, rtol=1e-6, atol=1e-6)
