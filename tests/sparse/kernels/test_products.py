"""Every kernel computes the product with its matrix, on every instruction set, for any shape."""

import copy
import itertools
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from sparse_arrays import zeros_and_weights

from asr.errors import AsrError
from asr.sparse import kernels
from asr.sparse.csr import CsrMatrix, from_dense
from asr.sparse.kernels import KERNELS, LEVELS, Matrix, choose, levels, library, prepare

HERE = levels() if library() else ()
RUNS = [
    (kernel, name) for kernel, entry in KERNELS.items() for name in HERE if entry.runs_on(name)
] + [("numpy", "plain")]
SHAPES = {
    "whole groups": (96, 128),
    "odd": (75, 101),
    "one element": (1, 1),
    "one row": (1, 70),
    "one column": (70, 1),
    "fewer than a group": (7, 33),
    "many columns": (20, 1500),
}


def bound(kernel: str, dense: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Largest error of each output: see `Kernel.error`."""
    kept = np.count_nonzero(dense, axis=1)
    size = np.abs(dense).max(axis=1) * np.sqrt(kept) + 1e-9
    return KERNELS[kernel].error * np.abs(x).max(axis=1)[:, None] * size * 2 + 1e-7


def check(matrix: Matrix, dense: np.ndarray, columns: int, seed: int = 1) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (columns, dense.shape[1])).astype(np.float32)
    bias = generator.normal(0, 1, dense.shape[0]).astype(np.float32)
    exact = x.astype(np.float64) @ dense.T.astype(np.float64)
    allowed = bound(matrix.kernel, dense, x)
    assert (np.abs(matrix(x) - exact) <= allowed).all()
    assert (np.abs(matrix(x, bias) - (exact + bias)) <= allowed + 1e-6).all()


@pytest.mark.parametrize("pattern", ["element", "bank", "block"])
@pytest.mark.parametrize(("kernel", "name"), RUNS)
def test_a_kernel_multiplies_any_pattern_and_shape(kernel, name, pattern):
    for shape in SHAPES.values():
        dense = zeros_and_weights(pattern, shape, 0.15)
        matrix = prepare(from_dense(dense), kernel=kernel, level=name)
        assert matrix.kernel == kernel
        for columns in range(1, 10):
            check(matrix, dense, columns)


@pytest.mark.parametrize(("kernel", "name"), RUNS)
def test_a_kernel_multiplies_what_is_empty_dense_or_uneven(kernel, name):
    dense = zeros_and_weights("element", (50, 90), 1.0)
    nothing = np.zeros_like(dense)
    holes = dense.copy()
    holes[[0, 17, 49]] = 0
    holes[:, [0, 31, 32, 89]] = 0
    uneven = dense * (np.random.default_rng(3).random((50, 90)) < np.linspace(0, 1, 50)[:, None])
    tiny = (dense * 1e-20).astype(np.float32)
    for weights in (nothing, dense, holes, uneven.astype(np.float32), tiny):
        if weights is tiny and kernel == "block16-fp16":
            continue  # fp16 has no such numbers
        matrix = prepare(from_dense(weights), kernel=kernel, level=name)
        for columns in (1, 8, 19):
            check(matrix, weights, columns)


@pytest.mark.parametrize(("kernel", "name"), RUNS)
def test_no_rows_no_columns_and_no_inputs_are_products_too(kernel, name):
    for shape in ((0, 5), (5, 0), (0, 0)):
        matrix = prepare(from_dense(np.zeros(shape, np.float32)), kernel=kernel, level=name)
        bias = np.ones(shape[0], np.float32)
        assert np.array_equal(
            matrix(np.ones((3, shape[1]), np.float32), bias), np.ones((3, shape[0]), np.float32)
        )
    matrix = prepare(from_dense(np.eye(20, dtype=np.float32)), kernel=kernel, level=name)
    assert matrix(np.empty((0, 20), np.float32)).shape == (0, 20)


@pytest.mark.parametrize(("kernel", "name"), RUNS)
def test_sums_do_not_overflow_where_all_weights_and_inputs_are_largest(kernel, name):
    dense = np.full((33, 3000), 0.7, np.float32)
    matrix = prepare(from_dense(dense), kernel=kernel, level=name)
    x = np.full((8, 3000), -2.0, np.float32)
    assert np.allclose(matrix(x), -4200.0, rtol=5e-3)
    assert np.allclose(matrix(x[:1]), -4200.0, rtol=5e-3)


@pytest.mark.parametrize(("kernel", "name"), RUNS)
def test_the_error_bound_holds_for_inputs_of_zeros_and_huge_or_tiny_numbers(kernel, name):
    dense = zeros_and_weights("element", (40, 70), 0.3)
    matrix = prepare(from_dense(dense), kernel=kernel, level=name)
    for scale in (0.0, 1e-38, 1e-25, 1e20):
        x = np.float32(scale) * np.random.default_rng(0).normal(0, 1, (9, 70)).astype(np.float32)
        exact = x.astype(np.float64) @ dense.T.astype(np.float64)
        assert (
            np.abs(matrix(x) - exact) <= bound(kernel, dense, x) * (1 if scale else 0)
        ).all() or (np.abs(matrix(x) - exact).max() <= 1e-7)


@pytest.mark.parametrize(("kernel", "name"), RUNS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_input_gives_a_non_finite_output(kernel, name, bad):
    dense = np.ones((20, 40), np.float32)
    x = np.ones((3, 40), np.float32)
    x[1, 7] = bad
    with np.errstate(invalid="ignore"):
        y = prepare(from_dense(dense), kernel=kernel, level=name)(x)
    assert not np.isfinite(y[1]).any()
    assert np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize(("kernel", "name"), RUNS)
def test_columns_do_not_affect_each_other(kernel, name):
    dense = zeros_and_weights("element", (64, 96), 0.2)
    matrix = prepare(from_dense(dense), kernel=kernel, level=name)
    x = np.random.default_rng(0).normal(0, 1, (11, 96)).astype(np.float32)
    together = matrix(x)
    alone = np.concatenate([matrix(x[n : n + 1]) for n in range(11)])
    assert np.abs(together - alone).max() < 1e-5


def test_rows_of_very_different_counts_are_sorted_and_come_out_in_place():
    if not library() or "avx512bw" not in HERE:
        pytest.skip("no perm16 here")
    generator = np.random.default_rng(0)
    fraction = np.exp(generator.normal(-3, 1.0, 480))[:, None]
    dense = (generator.normal(0, 1, (480, 320)) * (generator.random((480, 320)) < fraction)).astype(
        np.float32
    )
    matrix = prepare(from_dense(dense), kernel="perm16")
    for columns in (1, 5, 8):
        check(matrix, dense, columns)
    assert matrix.bytes / matrix.nnz < 4.5  # 7.9 unsorted


def test_padding_is_small():
    if not library() or "avx512bw" not in HERE:
        pytest.skip("no perm16 here")
    for pattern, most in (("element", 3.5), ("bank", 2.4)):
        dense = zeros_and_weights(pattern, (512, 512), 3 / 32)
        matrix = prepare(from_dense(dense), kernel="perm16")
        assert matrix.bytes / matrix.nnz < most, pattern


def test_the_choice_is_by_pattern_precision_and_instruction_set():
    assert choose("element", 0.9, "avx512vnni") == "perm16"
    assert choose("bank", 0.9, "avx512bw") == "perm16"
    assert choose("element", 0.9, "avx512vnni", exact=True) == "perm32"
    assert choose("element", 0.9, "avx512f") == "perm32"
    assert choose("element", 0.9, "avx2") == "perm8"
    assert choose("bank", 0.9, "avx2vnni") == "perm8"
    assert choose("element", 0.9, "avx2", values="fp16") == "perm32"
    assert choose("element", 0.9, "avx2", exact=True) == "perm32"
    assert choose("element", 0.6, "avx2", exact=True) == "block16-fp32"
    assert choose("element", 0.6, "avx2") == "perm8"
    assert choose("element", 0.62, "avx512bw", exact=True) == "perm32"
    assert choose("element", 0.9, "neon") == choose("bank", 0.9, "neondot") == "perm8"
    assert choose("element", 0.9, "neon", exact=True) == "csr"
    assert choose("element", 0.9, "plain") == "csr"
    assert choose("block", 0.9, "avx2") == choose("block", 0.9, "neon") == "block16-fp16"
    assert choose("block", 0.9, "plain") == "block16-fp32"
    assert choose("block", 0.9, "avx512vnni", values="int8") == "block16-int8"
    assert choose("element", 0.1, "avx512vnni") == "block16-fp32"
    assert choose("element", 0.9, None) == "numpy"
    for pattern, name, values, exact in itertools.product(
        ("element", "bank", "block"), LEVELS, ("auto", "fp32", "fp16", "int8"), (True, False)
    ):
        for sparsity in (0.0, 0.9):
            chosen = KERNELS[choose(pattern, sparsity, name, values, exact)]
            assert chosen.runs_on(name)
            assert not exact or chosen.values == "fp32"


def bad_rows(**changes):
    good = from_dense(np.eye(4, 6, dtype=np.float32))
    fields = {"shape": good.shape, "starts": good.starts, "columns": good.columns}
    return CsrMatrix(**(fields | {"values": good.values} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": np.array([0, 1, 2, 6], np.int32)}, "outside"),
        ({"columns": np.array([0, -1, 2, 3], np.int32)}, "outside"),
        ({"columns": np.array([0, 1, 2], np.int32)}, "3 columns"),
        ({"columns": np.array([0, 1, 2, 2**40])}, "outside"),
        ({"columns": np.array([0.0, 1, 2, 3])}, "columns of a sparse matrix"),
        ({"starts": np.array([0, 1, 2, 3, 9])}, "follow one another"),
        ({"starts": np.array([1, 1, 2, 3, 4])}, "follow one another"),
        ({"starts": np.array([0, 3, 2, 3, 4])}, "follow one another"),
        ({"starts": np.array([0, 1, 2, 3])}, "starts"),
        ({"starts": np.array([0, 4, 4, 4, 4]), "columns": np.array([0, 2, 1, 3])}, "ascend"),
        ({"starts": np.array([0, 4, 4, 4, 4]), "columns": np.array([0, 1, 1, 3])}, "ascend"),
        ({"values": np.array([1, 2, np.nan, 4], np.float32)}, "not finite"),
        ({"values": np.array([1, 2, 1e39, 4], np.float64)}, "not finite"),
        ({"shape": (-1, 6)}, "at most"),
        ({"shape": (4, 2**25)}, "at most"),
    ],
)
def test_arrays_that_are_not_a_matrix_are_refused(changes, message):
    with pytest.raises(AsrError, match=message):
        prepare(bad_rows(**changes))


def test_impossible_requests_are_refused_with_the_reason():
    rows = from_dense(np.eye(16, dtype=np.float32))
    with pytest.raises(AsrError, match="kernel 'fast'"):
        prepare(rows, kernel="fast")
    with pytest.raises(AsrError, match="instruction set 'sse9'"):
        prepare(rows, level="sse9")
    with pytest.raises(AsrError, match="values 'fp8'"):
        choose("element", 0.9, "plain", values="fp8")  # type: ignore[arg-type]
    if library():
        with pytest.raises(AsrError, match="needs avx512bw"):
            prepare(rows, kernel="perm16", level="plain")
        with pytest.raises(AsrError, match="not exact"):
            prepare(rows, kernel="block16-int8", exact=True)
        with pytest.raises(AsrError, match="computes in int8, not in fp32"):
            prepare(rows, "fp32", kernel="block16-int8")
        with pytest.raises(AsrError, match="too large for fp16"):
            prepare(from_dense(np.full((16, 1), 1e6, np.float32)), kernel="block16-fp16")


def test_a_matrix_too_wide_for_16_bit_indices_takes_another_kernel():
    wide = np.zeros((3, 70_000), np.float32)
    wide[0, 69_999], wide[2, 65_536] = 2, 3
    matrix = prepare(from_dense(wide))
    x = np.ones((2, 70_000), np.float32)
    assert np.array_equal(matrix(x), [[2, 0, 3], [2, 0, 3]])
    if library():
        assert matrix.kernel == "csr"
        with pytest.raises(AsrError, match="at most"):
            prepare(from_dense(wide), kernel="block16-fp32")


def test_weights_that_fp16_cannot_hold_stay_fp32_unless_asked_for():
    dense = zeros_and_weights("block", (64, 200), 0.1)
    for scale in (1e-9, 1e9):
        matrix = prepare(from_dense((dense * np.float32(scale)).astype(np.float32)))
        assert KERNELS[matrix.kernel].values == "fp32"
        x = np.ones((1, 200), np.float32)
        assert np.allclose(matrix(x)[0], dense.sum(axis=1) * scale, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("columns", [8192, 8193])
def test_the_widest_matrix_of_perm16_and_one_column_more(columns):
    if "avx512bw" not in HERE:
        pytest.skip("no perm16 here")
    dense = zeros_and_weights("element", (40, columns), 0.02)
    matrix = prepare(from_dense(dense))
    assert matrix.kernel == ("perm16" if columns == 8192 else "perm32")
    for count in (1, 8):
        check(matrix, dense, count)


@pytest.mark.parametrize("kernel", ["perm16", "perm32"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 8, 12, 16, 31])
def test_banks_of_every_count(count, kernel):
    if "avx512bw" not in HERE:
        pytest.skip("no AVX-512 here")
    for width in (32, 64, 96, 100, 352):
        dense = zeros_and_weights("bank", (50, width), count / 32)
        matrix = prepare(from_dense(dense, "bank" if width % 32 == 0 else None), kernel=kernel)
        for columns in (1, 3, 8):
            check(matrix, dense, columns)


def test_inputs_of_another_shape_or_type_are_refused():
    matrix = prepare(from_dense(np.eye(16, dtype=np.float32)))
    good = np.ones((2, 16), np.float32)
    with pytest.raises(AsrError, match="input is"):
        matrix(np.ones((2, 15), np.float32))
    with pytest.raises(AsrError, match="float32"):
        matrix(np.ones((2, 16)))
    with pytest.raises(AsrError, match="bias is"):
        matrix(good, np.ones(15, np.float32))
    with pytest.raises(AsrError, match="out is"):
        matrix(good, out=np.ones((3, 16), np.float32))
    with pytest.raises(AsrError, match="contiguous"):
        matrix(good, out=np.ones((16, 2), np.float32).T)


def test_views_are_read_as_they_look_and_out_is_written():
    dense = zeros_and_weights("element", (32, 48), 0.3)
    matrix = prepare(from_dense(dense))
    x = np.random.default_rng(0).normal(0, 1, (6, 96)).astype(np.float32)
    out = np.zeros((3, 32), np.float32)
    result = matrix(x[::2, ::2], out=out)
    assert result is out
    assert np.array_equal(out, matrix(np.ascontiguousarray(x[::2, ::2])))


def test_an_out_that_is_read_too_is_refused():
    matrix = prepare(from_dense(np.eye(16, k=1, dtype=np.float32)))
    both = np.ones((3, 16), np.float32)
    with pytest.raises(AsrError, match="overlap"):
        matrix(both, out=both)
    with pytest.raises(AsrError, match="overlap"):
        matrix(np.ones((3, 16), np.float32), both[1], both)


def test_a_copy_is_the_matrix_and_pickling_is_refused():
    matrix = prepare(from_dense(np.eye(16, dtype=np.float32)))
    assert copy.deepcopy(matrix) is matrix
    assert copy.copy(matrix) is matrix
    with pytest.raises(TypeError, match="store its CsrMatrix"):
        pickle.dumps(matrix)


def test_several_threads_use_one_matrix():
    dense = zeros_and_weights("element", (160, 200), 0.2)
    matrix = prepare(from_dense(dense))
    inputs = [np.random.default_rng(n).normal(0, 1, (8, 200)).astype(np.float32) for n in range(4)]
    expected = [matrix(x) for x in inputs]
    wrong = []

    def work(n: int) -> None:
        for _ in range(50):
            if not np.array_equal(matrix(inputs[n]), expected[n]):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_without_the_library_numpy_multiplies_and_is_named():
    code = (
        "import numpy as np\n"
        "from asr.sparse.kernels import *\n"
        "from asr.sparse.csr import from_dense\n"
        "m = prepare(from_dense(np.eye(20, dtype=np.float32)))\n"
        "x = np.arange(20, dtype=np.float32)[None]\n"
        "assert m.kernel == 'numpy' and np.array_equal(m(x), x), m\n"
        "c = Cell('gru', *[prepare(from_dense(np.ones((60, 20), np.float32)))] * 2,"
        " *[np.zeros(60, np.float32)] * 2)\n"
        "y, h = Recurrent([c])(np.ones((2, 3, 20), np.float32))\n"
        "assert y.shape == (2, 3, 20) and np.array_equal(y[:, -1], h[0])\n"
        "from asr.errors import AsrError\n"
        "try:\n    prepare(from_dense(np.eye(4, dtype=np.float32)), kernel='csr')\n"
        "except AsrError as e:\n    print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ASR_NATIVE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "needs the C library, which was not built" in done.stdout


def test_a_library_of_another_version_is_not_used():
    code = (
        "import sys, asr.sparse.kernels\n"
        "module = sys.modules['asr.sparse.kernels.library']\n"
        "module.VERSION += 1\n"
        "assert module.library() is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_exported_name_exists():
    assert all(hasattr(kernels, name) for name in kernels.__all__)
