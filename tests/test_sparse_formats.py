"""Tensors survive the way to disk and back, small when sparse, and bad bytes are refused."""

import dataclasses
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from asr.errors import AsrError
from asr.sparse.formats import DTYPES, Encoded, decode, encode

quick = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def pruned(shape: tuple[int, ...], sparsity: float, seed: int = 0) -> np.ndarray:
    """Gaussian weights whose smallest are zero."""
    weights = np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32)
    weights[np.abs(weights) < np.quantile(np.abs(weights), sparsity)] = 0
    return weights


def arrays_of(dtype: str) -> st.SearchStrategy[np.ndarray]:
    limits = {} if "int" in dtype else {"allow_nan": False, "allow_infinity": False}
    return hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7),
        elements=hnp.from_dtype(np.dtype(dtype), **limits),
        fill=st.just(0),
    )


@quick
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


@quick
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=2, max_side=9),
        elements=st.just(0.0) | st.floats(-65504, 65504, width=32),
    )
)
def test_fp16_keeps_the_pattern_and_rounds_to_half_precision(array):
    again = decode(encode(array, "fp16"))
    assert again.dtype == np.float32
    assert np.array_equal(again != 0, array != 0)
    assert np.all(np.abs(again - array) <= np.maximum(np.abs(array) * 2.0**-11, 2.0**-24))


def test_fp16_rounds_what_would_vanish_to_the_smallest_number_of_its_sign():
    array = np.array([[1e-30, -1e-12, 0.0, 1.0]], np.float32)
    assert decode(encode(array, "fp16")).tolist() == [[2.0**-24, -(2.0**-24), 0.0, 1.0]]


def test_fp16_leaves_integers_and_double_precision_alone():
    for array in (np.array(300, np.int64), np.array([1e300, 1 / 3])):
        assert decode(encode(array, "fp16")) == pytest.approx(array, abs=0)


def test_fp16_refuses_a_weight_beyond_its_range_and_names_it():
    with pytest.raises(AsrError, match=r"weight of 65520, beyond 65504: choose fp32"):
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


def test_a_mask_that_repeats_itself_costs_next_to_nothing():
    # 16 consecutive rows keep the same columns: beside its 16-bit values the tensor has 24 x 640
    # bits to say, where a scattered mask of the same density costs 14 kB.
    generator = np.random.default_rng(0)
    kept = np.repeat(generator.random((24, 640)) < 0.1, 16, axis=0)
    array = np.where(kept, generator.integers(1, 2**15, kept.shape), 0).astype(np.int16)
    encoded = encode(array)
    assert encoded.layout.encoding == "bitmask"
    assert len(encoded.blob) < encoded.layout.nonzeros * 2 + 4000


def test_a_tensor_of_almost_only_zeros_stays_within_what_a_reader_grants():
    array = np.zeros((1000, 4000), np.float32)
    array[7, 7] = 1
    encoded = encode(array)
    assert array.nbytes / 260 < len(encoded.blob) < array.nbytes / 200
    assert np.array_equal(decode(encoded), array)


GOOD = encode(pruned((32, 33), 0.9))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (33, 33)},
        {"shape": (2**21, 2**21)},
        {"shape": (0, 2**62)},
        {"shape": (1,) * 9},
        {"dtype": "float64"},
        {"dtype": "object"},
        {"values": "float16"},
        {"values": "int64"},
        {"encoding": "dense"},
        {"encoding": "pickle"},
        {"compression": "none"},
        {"compression": "lzma"},
        {"nonzeros": GOOD.layout.nonzeros + 1},
        {"nonzeros": 33 * 33},
        {"raw_bytes": GOOD.layout.raw_bytes + 1},
        {"stored_bytes": GOOD.layout.stored_bytes - 1},
    ],
    ids=str,
)
def test_a_layout_that_contradicts_its_bytes_is_refused(change):
    assert decode(GOOD).shape == (32, 33)
    with pytest.raises(AsrError):
        decode(Encoded(dataclasses.replace(GOOD.layout, **change), GOOD.blob))


def test_a_layout_may_not_ask_for_more_memory_than_its_bytes_justify():
    # 30 kB of zeros, deflated to 45 bytes, would become a tensor of 1 MB.
    blob = zlib.compressobj(9, zlib.DEFLATED, -15)
    blob = blob.compress(bytes(30000)) + blob.flush()
    layout = dataclasses.replace(
        GOOD.layout, shape=(240000,), nonzeros=0, raw_bytes=30000, stored_bytes=len(blob)
    )
    with pytest.raises(AsrError, match="more memory than"):
        decode(Encoded(layout, blob))


def raw_bitmask(mask: bytes, values: list[float], elements: int, nonzeros: int) -> Encoded:
    raw = mask + np.float32(values).tobytes()
    layout = dataclasses.replace(
        GOOD.layout,
        shape=(elements,),
        compression="none",
        nonzeros=nonzeros,
        raw_bytes=len(raw),
        stored_bytes=len(raw),
    )
    return Encoded(layout, raw)


def test_masks_and_values_that_contradict_each_other_are_refused():
    assert decode(raw_bitmask(b"\xc0", [1, 2], 5, 2)).tolist() == [1, 2, 0, 0, 0]
    for bad, message in [
        (raw_bitmask(b"\xe0", [1, 2], 5, 2), "a mask that contradicts"),
        (raw_bitmask(b"\x81", [1, 2], 5, 2), "a mask that contradicts"),  # beyond the last element
        (raw_bitmask(b"\xc0", [1, 0], 5, 2), "another number of non-zero values"),
        (raw_bitmask(b"\xc0", [1, np.inf], 5, 2), "NaN or infinity"),
    ]:
        with pytest.raises(AsrError, match=message):
            decode(bad)


@pytest.mark.parametrize("damage", ["cut", "longer", "bomb", "noise"])
def test_deflate_streams_of_another_size_are_refused(damage):
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    blob = {
        "cut": GOOD.blob[:-3],
        "longer": GOOD.blob + b"\0",
        "bomb": coder.compress(bytes(10**6)) + coder.flush(),
        "noise": bytes(range(256)) * 2,
    }[damage]
    layout = dataclasses.replace(GOOD.layout, stored_bytes=len(blob))
    with pytest.raises(AsrError, match="inflate"):
        decode(Encoded(layout, blob))
