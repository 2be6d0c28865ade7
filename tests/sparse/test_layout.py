"""A layout that contradicts itself, its bytes or the memory it asks for is refused."""

import dataclasses
import zlib

import numpy as np
import pytest
from sparse_arrays import in_banks, in_blocks, pruned

from asr.errors import AsrError
from asr.sparse.formats import Encoded, decode, decode_csr, encode

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
        {"encoding": "block"},
        {"encoding": "block", "pattern": "block"},
        {"pattern": "block"},
        {"pattern": "bank"},
        {"pattern": "any"},
        {"values": "int8"},
        {"kept": GOOD.layout.kept + 1},
        {"kept": 33 * 33},
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
        GOOD.layout, shape=(240000,), nonzeros=0, kept=0, raw_bytes=30000, stored_bytes=len(blob)
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
        kept=nonzeros,
        raw_bytes=len(raw),
        stored_bytes=len(raw),
    )
    return Encoded(layout, raw)


def test_masks_and_values_that_contradict_each_other_are_refused():
    assert decode(raw_bitmask(b"\xc0", [1, 2], 5, 2)).tolist() == [1, 2, 0, 0, 0]
    for bad, message in [
        (raw_bitmask(b"\xe0", [1, 2], 5, 2), "a mask that contradicts"),
        (raw_bitmask(b"\x81", [1, 2], 5, 2), "a mask that contradicts"),  # beyond the last element
        (raw_bitmask(b"\xc0", [1, 0], 5, 2), "another number of non-zeros"),
        (raw_bitmask(b"\xc0", [1, np.inf], 5, 2), "NaN or infinity"),
    ]:
        with pytest.raises(AsrError, match=message):
            decode(bad)


@pytest.mark.parametrize("damage", ["truncated", "longer", "bomb", "noise"])
def test_deflate_streams_of_another_size_are_refused(damage):
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    blob = {
        "truncated": GOOD.blob[:-3],
        "longer": GOOD.blob + b"\0",
        "bomb": coder.compress(bytes(10**6)) + coder.flush(),
        "noise": bytes(range(256)) * 2,
    }[damage]
    layout = dataclasses.replace(GOOD.layout, stored_bytes=len(blob))
    with pytest.raises(AsrError, match="inflate"):
        decode(Encoded(layout, blob))


BANKS = encode(in_banks((8, 64), 3))
BLOCKS = encode(in_blocks((32, 24), 0.8))
SCALED = encode(pruned((32, 33), 0.9), "int8")


@pytest.mark.parametrize("reader", [decode, decode_csr])
def test_a_pattern_that_the_mask_does_not_follow_is_refused(reader):
    wrong = dataclasses.replace(encode(pruned((40, 64), 0.9)).layout, pattern="bank")
    with pytest.raises(AsrError, match="without equal counts in its banks"):
        reader(Encoded(wrong, encode(pruned((40, 64), 0.9)).blob))
    narrow = encode(pruned((40, 31), 0.9))
    with pytest.raises(AsrError, match="has pattern 'bank'"):
        reader(Encoded(dataclasses.replace(narrow.layout, pattern="bank"), narrow.blob))
    for change in ({"pattern": "element"}, {"shape": (24, 32)}, {"encoding": "bitmask"}):
        with pytest.raises(AsrError):
            reader(Encoded(dataclasses.replace(BLOCKS.layout, **change), BLOCKS.blob))
    assert reader(BANKS).shape == (8, 64)


@pytest.mark.parametrize("scale", [-1.0, np.nan, np.inf, 3e38, 0.0, 1e-45])
@pytest.mark.parametrize("reader", [decode, decode_csr])
def test_impossible_scales_are_refused(reader, scale):
    layout = dataclasses.replace(
        SCALED.layout, compression="none", stored_bytes=SCALED.layout.raw_bytes
    )
    values = np.full(layout.kept, 2, np.int8).tobytes()
    mask = np.packbits(decode(SCALED) != 0).tobytes()
    good = np.full(32, 0.5, np.float32)
    assert np.count_nonzero(decode(Encoded(layout, mask + good.tobytes() + values)))
    good[np.flatnonzero(decode(SCALED).any(axis=1))[0]] = scale
    if scale == 1e-45:
        values = values.replace(b"\2", b"\0", 1)
    with pytest.raises(AsrError, match=r"scale that is|NaN or infinity|number of non-zeros"):
        reader(Encoded(layout, mask + good.tobytes() + values))


def test_a_tensor_without_elements_asks_for_no_scales():
    layout = dataclasses.replace(
        GOOD.layout,
        shape=(2**38, 0),
        values="int8",
        encoding="dense",
        nonzeros=0,
        kept=0,
        raw_bytes=2**40,
        stored_bytes=2**33,
    )
    with pytest.raises(AsrError, match="against its shape or encoding"):
        layout.check()
