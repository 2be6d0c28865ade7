"""perm8 computes the same integers as numpy, bit for bit, on every instruction set."""

from dataclasses import replace

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


@pytest.mark.parametrize("name", HERE)
def test_rows_of_very_different_counts_are_sorted_and_come_out_in_place(name):
    generator = np.random.default_rng(0)
    fraction = np.exp(generator.normal(-3, 1.0, 480))[:, None]
    keep = generator.random((480, 320)) < fraction
    dense = (generator.normal(0, 1, (480, 320)) * keep).astype(np.float32)
    matrix = prepare(from_dense(dense), kernel="perm8", level=name)
    for columns in (1, 5, 8):
        x = generator.normal(0, 1, (columns, 320)).astype(np.float32)
        assert np.array_equal(matrix(x), by_integers(dense, x))
    assert matrix.bytes / matrix.nnz < 5  # 6.5 unsorted


@pytest.mark.skipif(not HERE, reason="no C library")
def test_a_bank_fills_its_vectors_and_two_banks_share_one_where_that_saves():
    for pattern, kept, most in (("bank", 2, 2.4), ("bank", 3, 2.9), ("bank", 4, 2.2)):
        dense = zeros_and_weights(pattern, (512, 512), kept / 32)
        matrix = prepare(from_dense(dense), kernel="perm8")
        assert matrix.bytes / matrix.nnz < most, kept
        assert matrix.struct is not None
        assert (matrix.struct.lanes, matrix.struct.pairs) == (32, 2 if kept == 2 else 1)
    dense = zeros_and_weights("element", (512, 512), 3 / 32)
    matrix = prepare(from_dense(dense), kernel="perm8")
    assert matrix.bytes / matrix.nnz < 4.2
    assert matrix.struct is not None
    assert matrix.struct.lanes == 8


@pytest.mark.parametrize("name", HERE)
def test_the_widest_matrix_and_sums_of_its_largest_numbers(name):
    dense = np.ones((9, 65528), np.float32)
    rows = replace(from_dense(dense), pattern="bank")  # whose layout is made faster
    matrix = prepare(rows, kernel="perm8", level=name)
    for sign in (1, -1):
        x = np.full((3, 65528), sign, np.float32)
        assert np.allclose(matrix(x), sign * 65528.0, rtol=1e-6)
