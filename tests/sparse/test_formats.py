"""Tensors are decoded as they were encoded, and are small when sparse."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sparse_arrays import in_banks, in_blocks, pruned

from asr.errors import AsrError
from asr.sparse.csr import from_dense
from asr.sparse.formats import decode, decode_csr, encode, is_csr
from asr.sparse.layout import DTYPES
from asr.sparse.quantise import row_scales

fast = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def arrays_of(dtype: str) -> st.SearchStrategy[np.ndarray]:
    limits = {} if "int" in dtype else {"allow_nan": False, "allow_infinity": False}
    return hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7),
        elements=hnp.from_dtype(np.dtype(dtype), **limits),
        fill=st.just(0),
    )


@fast
@given(st.sampled_from(sorted(DTYPES)).flatmap(arrays_of), st.booleans())
def test_every_type_and_shape_comes_back_exactly(array, compress):
    encoded = encode(array, compress=compress)
    again = decode(encoded)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert np.array_equal(again, array)
    assert again.flags.writeable
    assert encoded.layout.nonzeros == np.count_nonzero(array)
    assert encoded.layout.stored_bytes == len(encoded.blob)
    assert encoded.layout.dense_bytes == array.nbytes


@fast
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=2, max_side=9),
        elements=st.just(0.0) | st.floats(-65504, 65504, width=32),
    )
)
def test_fp16_preserves_the_pattern_and_rounds_to_half_precision(array):
    again = decode(encode(array, "fp16"))
    assert again.dtype == np.float32
    assert np.array_equal(again != 0, array != 0)
    assert np.all(np.abs(again - array) <= np.maximum(np.abs(array) * 2.0**-11, 2.0**-24))


def test_fp16_rounds_values_that_would_vanish_to_the_smallest_number_of_their_sign():
    array = np.array([[1e-30, -1e-12, 0.0, 1.0]], np.float32)
    assert decode(encode(array, "fp16")).tolist() == [[2.0**-24, -(2.0**-24), 0.0, 1.0]]


@fast
@example(np.array([[3.3895342e38], [np.finfo(np.float32).max]], np.float32))
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=9),
        elements=st.just(0.0) | st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_int8_preserves_the_pattern_and_errs_by_at_most_one_scale_of_the_row(array):
    encoded = encode(array, "int8")
    again = decode(encoded)
    assert again.dtype == np.float32
    assert np.array_equal(again != 0, array != 0)
    rows = array.reshape(len(array), -1)
    scales = row_scales(rows)[:, None].astype(np.float64)
    error = np.abs(again.reshape(rows.shape).astype(np.float64) - rows)
    assert (error <= scales * np.where(np.abs(rows) < scales / 2, 1, 0.5001)).all()
    largest = np.abs(rows).max(axis=1)
    assert (scales[:, 0] <= np.maximum(largest / 127 * (1 + 2.0**-14), 2.0**-126)).all()


@pytest.mark.parametrize("values", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("make", [pruned, in_blocks])
def test_a_file_that_is_read_and_written_again_has_the_same_bytes(values, make):
    encoded = encode(make((48, 64), 0.7), values)
    assert encode(decode(encoded), values) == encoded


def test_int8_does_not_change_vectors_scalars_and_other_types():
    for array in (
        np.float32([1, 1 / 3]),
        np.array(1 / 3, np.float32),
        np.full((2, 2), 1 / 3),
        np.full((2, 2), 300, np.int16),
        np.zeros((0, 4), np.float32),
    ):
        encoded = encode(array, "int8")
        assert np.array_equal(decode(encoded), array)
        assert encoded.layout.values == array.dtype.name


def test_int8_bytes_are_the_mask_the_scales_and_the_integers():
    array = np.zeros((2, 9), np.float32)
    array[0, 1], array[0, 2], array[1, 8] = 127.0, -2.0, -0.5
    encoded = encode(array, "int8")
    assert encoded.layout.compression == "none"
    mask = bytes([0b01100000, 0b00000000, 0b01000000])
    scales = row_scales(array).tobytes()
    assert encoded.blob == mask + scales + np.int8([127, -2, -127]).tobytes()
    assert row_scales(array)[0] == 1.0


def test_fp16_does_not_change_integers_and_double_precision():
    for array in (np.array(300, np.int64), np.array([1e300, 1 / 3])):
        assert decode(encode(array, "fp16")) == pytest.approx(array, abs=0)


def test_fp16_refuses_a_weight_beyond_its_range_and_names_it():
    with pytest.raises(AsrError, match=r"weight of 65520, beyond 65504: choose fp32 or int8"):
        encode(np.array([1, -65520], np.float32), "fp16")


def test_minus_zero_is_a_zero_like_others_under_a_bitmask():
    array = np.array([-0.0] * 30 + [1.0], np.float32)
    encoded = encode(array)
    assert encoded.layout.encoding == "bitmask"
    assert not np.signbit(decode(encoded)).any()
    assert encoded.layout.nonzeros == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    with pytest.raises(AsrError, match="NaN or infinity"):
        encode(np.array([0, bad], np.float32))


@pytest.mark.parametrize("dtype", ["bool", "complex64", "O", "U3"])
def test_types_that_no_file_can_hold_are_refused(dtype):
    with pytest.raises(AsrError, match="which a model file cannot hold"):
        encode(np.zeros(3, dtype))


def test_bytes_on_disk_do_not_depend_on_byte_order_or_memory_order():
    array = pruned((24, 40), 0.8)
    plain = encode(array)
    assert encode(array.astype(">f4")) == plain
    assert encode(np.asfortranarray(array)) == plain
    assert decode(plain).dtype.isnative


@pytest.mark.parametrize(
    ("sparsity", "encoding"), [(0.0, "dense"), (0.02, "dense"), (0.05, "bitmask")]
)
def test_the_smaller_encoding_is_chosen(sparsity, encoding):
    # A mask costs one bit of 32 for each element: it pays from 1/32 zeros on.
    assert encode(pruned((64, 64), sparsity)).layout.encoding == encoding


def test_without_compression_the_bytes_are_the_values():
    array = pruned((8, 40), 0.9)
    encoded = encode(array, compress=False)
    assert encoded.blob == array.tobytes()
    assert (encoded.layout.encoding, encoded.layout.compression) == ("dense", "none")


def test_bitmask_bytes_are_the_mask_row_by_row_then_the_values():
    array = np.zeros((2, 5), np.float32)
    array[0, 1], array[1, 4] = 2.0, -3.0
    encoded = encode(array)
    assert encoded.layout.compression == "none"  # 10 bytes have nothing to deflate
    assert encoded.blob == bytes([0b01000000, 0b01000000]) + np.float32([2, -3]).tobytes()


@pytest.mark.parametrize("shape", [(384, 640), (384, 128)])
@pytest.mark.parametrize(("values", "fraction"), [("fp16", 1 / 18), ("fp32", 1 / 10)])
def test_gaussian_weights_with_90_percent_zeros_shrink_as_promised(shape, values, fraction):
    # The promise to users is 1/8 and 1/6; the code for it does better, and is held to that.
    array = pruned(shape, 0.9)
    assert len(encode(array, values).blob) <= fraction * array.nbytes


@pytest.mark.parametrize(("values", "mebibytes"), [("fp32", 3.5), ("fp16", 2.1), ("int8", 1.4)])
def test_the_recurrent_matrix_of_a_large_gru_at_90_percent_zeros_has_its_promised_size(
    values, mebibytes
):
    array = pruned((5280, 1760), 0.9)
    assert len(encode(array, values).blob) <= mebibytes * 2**20


@pytest.mark.parametrize("values", ["fp32", "fp16", "int8"])
def test_blocks_are_smaller_than_the_same_weights_with_a_bit_for_each(values):
    array = in_blocks((384, 640), 0.9)
    encoded = encode(array, values)
    assert (encoded.layout.encoding, encoded.layout.pattern) == ("block", "block")
    assert encoded.layout.mask_bytes == 24 * 640 // 8
    scattered = encode(
        np.random.default_rng(1).permutation(array.ravel()).reshape(384, 640), values
    )
    assert scattered.layout.encoding == "bitmask"
    assert len(encoded.blob) < len(scattered.blob) - 10_000
    if values == "fp32":
        assert np.array_equal(decode(encoded), array)


def test_a_stored_block_may_contain_zeros():
    array = in_blocks((64, 96), 0.8)
    rows, columns = np.nonzero(array)
    array[rows[5], columns[5]] = 0
    for values in ("fp32", "fp16", "int8"):
        encoded = encode(array, values)
        assert encoded.layout.encoding == "block"
        assert encoded.layout.kept == encoded.layout.nonzeros + 1
        assert np.array_equal(decode(encoded) != 0, array != 0)
        assert decode_csr(encoded).kept == encoded.layout.kept


def test_block_bytes_are_a_bit_for_each_block_then_the_values_row_by_row():
    array = np.zeros((32, 3), np.float32)
    ahead, behind = np.random.default_rng(0).normal(0, 1, (2, 16)).astype(np.float32)
    array[:16, 1], array[16:, 0] = ahead, behind
    encoded = encode(array)
    assert encoded.layout.compression == "none"
    assert encoded.blob[:1] == bytes([0b01010000])
    assert encoded.blob[1:] == ahead.tobytes() + behind.tobytes()


@pytest.mark.parametrize("values", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize(
    ("array", "pattern"),
    [
        (pruned((50, 70), 0.9), "element"),
        (pruned((3, 33), 0.5), "element"),
        (pruned((700, 2), 0.5), "element"),
        (in_banks((40, 96), 3), "bank"),
        (in_banks((33, 70), 2), "bank"),
        (in_banks((40000, 32), 3), "bank"),
        (in_blocks((48, 70), 0.9), "block"),
        (in_blocks((16, 1), -1) * np.float32([[1] + [0] * 30]), "block"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.shape),
)
def test_a_matrix_is_read_as_csr_without_its_zeros(array, pattern, values):
    encoded = encode(array, values)
    assert is_csr(encoded.layout)
    rows = decode_csr(encoded)
    assert rows.pattern == encoded.layout.pattern == pattern
    dense = decode(encoded)
    assert np.array_equal(rows.to_dense(), dense)
    expected = from_dense(dense)
    assert rows.shape == expected.shape
    for name in ("starts", "columns", "values"):
        found = getattr(rows, name)
        assert found.dtype == getattr(expected, name).dtype
        assert np.array_equal(found, getattr(expected, name))


def test_reading_a_long_matrix_as_csr_makes_no_dense_copy():
    array = pruned((2**15, 512), 0.97)  # 64 MiB
    encoded = encode(array, "fp16")
    tracemalloc.start()
    try:
        rows = decode_csr(encoded)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(rows.to_dense(), decode(encoded))
    assert peak < array.nbytes / 2


def test_only_masked_float32_matrices_are_read_as_csr():
    for array in (np.ones((3, 4), np.float32), pruned((40,), 0.9), pruned((4, 5, 6), 0.9)):
        encoded = encode(array)
        assert not is_csr(encoded.layout)
        with pytest.raises(AsrError, match="not a float32 matrix"):
            decode_csr(encoded)


def test_a_mask_that_repeats_itself_takes_few_bytes():
    # 8 consecutive rows have the same non-zero columns, so the mask has 24 x 640 different bits; a
    # scattered mask of the same density takes 7 kB.
    generator = np.random.default_rng(0)
    kept = np.repeat(generator.random((24, 640)) < 0.1, 8, axis=0)
    array = np.where(kept, generator.integers(1, 2**15, kept.shape), 0).astype(np.int16)
    encoded = encode(array)
    assert encoded.layout.encoding == "bitmask"
    assert len(encoded.blob) < encoded.layout.nonzeros * 2 + 4000


@pytest.mark.parametrize("values", ["fp32", "fp16", "int8"])
def test_a_few_blocks_among_zeros_can_be_written_and_read(values):
    array = np.zeros((1024, 1024), np.float32)
    array[:16, 3] = 1.0
    assert np.allclose(decode(encode(array, values)), array, atol=0.01)


def test_a_tensor_of_almost_only_zeros_stays_within_what_a_reader_grants():
    array = np.zeros((1000, 4000), np.float32)
    array[7, 7] = 1
    encoded = encode(array)
    assert array.nbytes / 260 < len(encoded.blob) < array.nbytes / 200
    assert np.array_equal(decode(encoded), array)
