"""Tensor <-> bytes on disk: pure functions with an exact round trip, and no CPU's layout.

Two encodings, both little-endian and in row order:

`dense`    the values of all elements.
`bitmask`  one bit for each element that is not zero (`np.packbits`, the last byte filled up with
           zero bits), then the values of those elements.

Two compressions: `none` and `deflate`, a raw deflate stream (`zlib` with `wbits=-15`) in which
the values lie in byte planes, the lowest byte of every value first. Mask and planes are deflated
each by itself: sign and exponent of weights are few symbols, the rest of the mantissa is noise,
and only apart does each get the code that fits it.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError

Array = NDArray[Any]
Values = Literal["fp32", "fp16"]

ENCODINGS = ("dense", "bitmask")
COMPRESSIONS = ("none", "deflate")
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64")
}
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 2**40

# A reader allocates what a tensor's header asks for, so stored bytes must justify it: at most this
# many bytes of tensor for each. Weights that are 99 % zero ask for about 130; what would ask for
# more, almost nothing but zeros, is deflated less or not at all.
MAX_EXPANSION = 256
FREE_BYTES = 4096

# Scattered weights repeat nothing, so searching for repeats only costs: 8 % of a file at 90 %
# zeros. Regular masks repeat a lot. Huffman codes alone shrink a byte to a bit at most, which
# MAX_EXPANSION always allows for float32.
_STRATEGIES = ((zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY), (zlib.Z_HUFFMAN_ONLY,))

_HALF_MAX = 65504.0
_HALF_TINY = np.float16(2.0**-24)


@dataclass(frozen=True)
class Layout:
    """How one tensor lies on disk: with its bytes, everything that is needed to read it back."""

    shape: tuple[int, ...]
    dtype: str
    """Of the tensor that is handed back; a key of `DTYPES`."""
    values: str
    """Of the values on disk: `dtype` itself, or float16 for float32."""
    encoding: str
    compression: str
    nonzeros: int
    raw_bytes: int
    """Before deflate."""
    stored_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def dense_bytes(self) -> int:
        """Bytes of the tensor in memory."""
        return self.elements * DTYPES[self.dtype].itemsize

    @property
    def mask_bytes(self) -> int:
        return -(-self.elements // 8) if self.encoding == "bitmask" else 0

    def check(self) -> None:
        """Raises AsrError unless the parts fit each other and justify what is allocated."""
        if self.dtype not in DTYPES or self.encoding not in ENCODINGS:
            raise AsrError(f"has dtype {self.dtype!r:.40} and encoding {self.encoding!r:.40}")
        if self.values != self.dtype and (self.values, self.dtype) != ("float16", "float32"):
            raise AsrError(f"has {self.values!r:.40} values for {self.dtype}")
        if self.compression not in COMPRESSIONS:
            raise AsrError(f"has compression {self.compression!r:.40}")
        # Of dimensions that are not 0: numpy too refuses huge ones beside a 0.
        if len(self.shape) > MAX_DIMENSIONS or math.prod(n or 1 for n in self.shape) > MAX_ELEMENTS:
            raise AsrError("is too large")
        stored_values = self.nonzeros if self.encoding == "bitmask" else self.elements
        raw_bytes = self.mask_bytes + stored_values * DTYPES[self.values].itemsize
        if self.nonzeros > self.elements or self.raw_bytes != raw_bytes:
            raise AsrError("has counts and sizes that contradict its shape")
        if self.compression == "none" and self.stored_bytes != self.raw_bytes:
            raise AsrError("has other stored bytes than raw bytes without compression")
        if not _justified(self.dense_bytes, self.stored_bytes):
            raise AsrError(f"asks for more memory than {self.stored_bytes} stored bytes justify")


@dataclass(frozen=True)
class Encoded:
    """A tensor's layout and its bytes."""

    layout: Layout
    blob: bytes


def encode(array: Array, values: Values = "fp32", compress: bool = True) -> Encoded:
    """Encode one tensor: `bitmask` if that is smaller than `dense`, deflated if that is smaller.

    `values="fp16"` halves float32; all else keeps its type. float32 comes back exactly, but for
    -0.0, which under a bitmask is a zero like others and comes back as 0.0. With fp16 the pattern
    stays too: what would round to zero becomes the smallest number, 6e-8, of the same sign.
    `compress=False` writes dense values as they are, the quickest to write and read.

    Raises AsrError for NaN, infinity, a weight beyond 65504 with fp16, and other types.
    """
    if array.dtype.name not in DTYPES:
        raise AsrError(f"is of type {array.dtype}, which a model file cannot hold")
    flat = np.ascontiguousarray(array).reshape(-1)
    _refuse_nonfinite(flat)
    kept: Array = flat != 0
    nonzeros = int(np.count_nonzero(kept))
    half = values == "fp16" and array.dtype == np.float32
    stored = DTYPES["float16" if half else array.dtype.name]

    bitmask_bytes = -(-flat.size // 8) + nonzeros * stored.itemsize
    bitmask = compress and bitmask_bytes < flat.size * stored.itemsize
    mask = np.packbits(kept).tobytes() if bitmask else b""
    chosen = flat[kept] if bitmask else flat
    chosen = _to_half(chosen) if half else chosen
    chosen = chosen.astype(stored, copy=False)

    blob, compression = mask + chosen.tobytes(), "none"
    raw_bytes = len(blob)
    for strategies in _STRATEGIES if compress else ():
        deflated = _deflate([mask, *_byte_planes(chosen)], strategies)
        if len(deflated) < raw_bytes and _justified(flat.nbytes, len(deflated)):
            blob, compression = deflated, "deflate"
            break
    layout = Layout(
        shape=array.shape,
        dtype=array.dtype.name,
        values=stored.name,
        encoding="bitmask" if bitmask else "dense",
        compression=compression,
        nonzeros=nonzeros,
        raw_bytes=raw_bytes,
        stored_bytes=len(blob),
    )
    return Encoded(layout, blob)


def decode(encoded: Encoded) -> Array:
    """The tensor, writable and in this machine's byte order.

    Nothing is allocated before the layout has been checked, and no stream is inflated beyond the
    size that the layout declares. Raises AsrError if bytes and layout contradict each other.
    """
    layout, raw = encoded.layout, encoded.blob
    layout.check()
    if len(raw) != layout.stored_bytes:
        raise AsrError("has other bytes than its layout says")
    if layout.compression == "deflate":
        raw = _inflate(raw, layout.raw_bytes)
    stored = DTYPES[layout.values]
    values = np.frombuffer(raw, np.uint8, offset=layout.mask_bytes)
    if layout.compression == "deflate":
        values = values.reshape(stored.itemsize, -1).T.reshape(-1)
    values = values.view(stored)
    _refuse_nonfinite(values)
    if np.count_nonzero(values) != layout.nonzeros:
        raise AsrError("has another number of non-zero values than its layout says")

    native = np.dtype(layout.dtype)
    if layout.encoding == "dense":
        return values.astype(native).reshape(layout.shape)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8, layout.mask_bytes))
    kept = bits.view(np.bool_)
    if kept[layout.elements :].any() or np.count_nonzero(kept) != layout.nonzeros:
        raise AsrError("has a mask that contradicts its layout")
    array = np.zeros(layout.elements, native)
    array[kept[: layout.elements]] = values
    return array.reshape(layout.shape)


def _justified(dense_bytes: int, stored_bytes: int) -> bool:
    return dense_bytes <= MAX_EXPANSION * stored_bytes + FREE_BYTES


def _refuse_nonfinite(values: Array) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise AsrError("holds NaN or infinity")


def _to_half(values: Array) -> Array:
    largest = float(np.abs(values).max(initial=0))
    if largest > _HALF_MAX:
        raise AsrError(f"has a weight of {largest:g}, beyond {_HALF_MAX:g}: choose fp32 values")
    half = values.astype(np.float16)
    vanished = (half == 0) & (values != 0)
    half[vanished] = np.copysign(_HALF_TINY, values[vanished])
    return half


def _byte_planes(values: Array) -> list[bytes]:
    return [plane.tobytes() for plane in values.view(np.uint8).reshape(-1, values.itemsize).T]


def _deflate(sections: Iterable[bytes], strategies: Iterable[int]) -> bytes:
    """One raw deflate stream; for each section the strategy that makes it smallest.

    A synchronising flush ends every section on a whole byte without ending the stream, so that the
    sections simply follow one another.
    """
    parts = []
    for section in sections:
        tries = []
        for strategy in strategies:
            coder = zlib.compressobj(6, zlib.DEFLATED, -15, 9, strategy)
            tries.append(coder.compress(section) + coder.flush(zlib.Z_SYNC_FLUSH))
        parts.append(min(tries, key=len))
    end = zlib.compressobj(6, zlib.DEFLATED, -15)
    return b"".join([*parts, end.flush()])


def _inflate(blob: bytes, raw_bytes: int) -> bytes:
    decoder = zlib.decompressobj(-15)
    try:
        # One byte more than there should be: a stream of the right size then also reaches its end.
        raw = decoder.decompress(blob, raw_bytes + 1)
    except zlib.error:
        raise AsrError("cannot be inflated") from None
    if len(raw) != raw_bytes or not decoder.eof or decoder.unused_data:
        raise AsrError("inflates to another size than its layout says")
    return raw
