"""Tensor <-> bytes on disk: pure functions with an exact round trip, and no CPU's layout.

Every tensor is seen as a matrix: its first dimension are the rows, all others the columns. Three
encodings, all little-endian and in row order:

`dense`    the values of all elements.
`bitmask`  one bit for each element that is not zero (`np.packbits`, the last byte filled up with
           zero bits), then the values of those elements.
`block`    one bit for each block of 16 rows and one column that is kept, the blocks of the first
           16 rows first, then the values of all elements in kept blocks, still in row order.

Values are the tensor's own, or fp16, or int8. Of int8 each row has a scale, fp32, that its integers
are to be multiplied with; the scales stand between mask and values.

Two compressions: `none` and `deflate`, a raw deflate stream (`zlib` with `wbits=-15`) in which
scales and values lie in byte planes, the lowest byte of every number first. Mask and planes are
deflated each by itself: sign and exponent of weights are few symbols, the rest of the mantissa is
noise, and only apart does each get the code that fits it.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError
from asr.sparse.csr import BANK, BLOCK, CsrMatrix, Pattern, by_block, keeps_banks, pattern_of
from asr.sparse.quantise import from_int8, row_scales, to_half, to_int8

Array = NDArray[Any]
Values = Literal["fp32", "fp16", "int8"]

ENCODINGS = ("dense", "bitmask", "block")
PATTERNS = get_args(Pattern)
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

# Mask bits that are unpacked at once on the way to rows.
_CHUNK = 2**20


@dataclass(frozen=True)
class Layout:
    """How one tensor lies on disk: with its bytes, everything that is needed to read it back."""

    shape: tuple[int, ...]
    dtype: str
    """Of the tensor that is handed back; a key of `DTYPES`."""
    values: str
    """Of the values on disk: `dtype` itself, or float16 or int8 for float32."""
    pattern: str
    """That the zeros make, see `asr.sparse.csr`; `element` if the encoding is dense."""
    encoding: str
    compression: str
    nonzeros: int
    kept: int
    """Values on disk; a kept block may hold zeros."""
    raw_bytes: int
    """Before deflate."""
    stored_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the tensor seen as a matrix; one row if it has fewer dimensions."""
        if len(self.shape) < 2:
            return 1, self.elements
        return self.shape[0], math.prod(self.shape[1:])

    @property
    def dense_bytes(self) -> int:
        """Bytes of the tensor in memory."""
        return self.elements * DTYPES[self.dtype].itemsize

    @property
    def mask_bytes(self) -> int:
        if self.encoding == "dense":
            return 0
        return -(-self.elements // (8 * (BLOCK if self.encoding == "block" else 1)))

    @property
    def scales(self) -> int:
        """How many scales there are: one for each row of float32 weights stored as int8."""
        return self.matrix[0] if (self.values, self.dtype) == ("int8", "float32") else 0

    def check(self) -> None:
        """Raises AsrError unless the parts fit each other and justify what is allocated."""
        if self.dtype not in DTYPES or self.encoding not in ENCODINGS:
            raise AsrError(f"has dtype {self.dtype!r:.40} and encoding {self.encoding!r:.40}")
        if self.values != self.dtype and (
            self.values not in ("float16", "int8") or self.dtype != "float32"
        ):
            raise AsrError(f"has {self.values!r:.40} values for {self.dtype}")
        if self.compression not in COMPRESSIONS:
            raise AsrError(f"has compression {self.compression!r:.40}")
        # Of dimensions that are not 0: numpy too refuses huge ones beside a 0.
        if len(self.shape) > MAX_DIMENSIONS or math.prod(n or 1 for n in self.shape) > MAX_ELEMENTS:
            raise AsrError("is too large")
        self._check_pattern()
        raw_bytes = (
            self.mask_bytes
            + self.scales * DTYPES["float32"].itemsize
            + self.kept * DTYPES[self.values].itemsize
        )
        if self.nonzeros > self.kept or self.kept > self.elements or self.raw_bytes != raw_bytes:
            raise AsrError("has counts and sizes that contradict its shape")
        if self.compression == "none" and self.stored_bytes != self.raw_bytes:
            raise AsrError("has other stored bytes than raw bytes without compression")
        if not _justified(self.dense_bytes, self.raw_bytes, self.stored_bytes):
            raise AsrError(f"asks for more memory than {self.stored_bytes} stored bytes justify")

    def _check_pattern(self) -> None:
        rows, columns = self.matrix
        fits = {
            "dense": self.pattern == "element" and self.kept == self.elements,
            "bitmask": self.pattern in ("element", "bank") and self.kept == self.nonzeros,
            "block": self.pattern == "block" and rows % BLOCK == 0 and self.kept % BLOCK == 0,
        }
        masked = self.encoding != "dense"
        narrow = self.pattern == "bank" and columns < BANK
        # Without elements there may be billions of rows, for which nothing is ever allocated.
        empty = not self.elements and (masked or self.scales)
        if not fits[self.encoding] or narrow or empty:
            raise AsrError(f"has pattern {self.pattern!r:.40} with a shape or encoding unlike it")


@dataclass(frozen=True)
class Encoded:
    """A tensor's layout and its bytes."""

    layout: Layout
    blob: bytes


def encode(array: Array, values: Values = "fp32", compress: bool = True) -> Encoded:
    """Encode one tensor: by its mask if that is smaller than `dense`, deflated if that is smaller.

    `values="fp16"` halves float32, `"int8"` quarters float32 of two or more dimensions (one scale
    for each row; the error is at most half a scale, a whole one for the smallest weights); all
    else keeps its type. float32 comes back exactly, but for -0.0, which under a mask is a zero like
    others and comes back as 0.0. With fp16 and int8 the pattern stays too: what would round to
    zero becomes the smallest number of the same sign. `compress=False` writes all elements as they
    are, the quickest to write and read.

    Raises AsrError for NaN, infinity, a weight beyond 65504 with fp16, and other types.
    """
    if array.dtype.name not in DTYPES:
        raise AsrError(f"is of type {array.dtype}, which a model file cannot hold")
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    matrix = native.reshape((len(array), -1) if array.ndim >= 2 and array.size else (1, -1))
    _refuse_nonfinite(matrix)
    nonzero = matrix != 0
    stored = _stored_type(array, values)
    pattern, encoding, mask, keep = _choose(nonzero, stored.itemsize if compress else 0)

    chosen = matrix[keep] if keep is not None else matrix.reshape(-1)
    scales = np.empty(0, np.float32)
    narrower = stored.name if stored.name != array.dtype.name else ""
    if narrower == "float16":
        chosen = to_half(chosen)
    elif narrower == "int8":
        scales = row_scales(matrix)
        chosen = to_int8(chosen, _per_value(scales, keep, matrix.shape[1]))
    chosen = chosen.astype(stored, copy=False)
    scales = scales.astype(DTYPES["float32"], copy=False)

    blob, compression = mask + scales.tobytes() + chosen.tobytes(), "none"
    raw_bytes = len(blob)
    for strategies in _STRATEGIES if compress else ():
        deflated = _deflate([mask, *_byte_planes(scales), *_byte_planes(chosen)], strategies)
        if len(deflated) < raw_bytes and _justified(array.nbytes, raw_bytes, len(deflated)):
            blob, compression = deflated, "deflate"
            break
    layout = Layout(
        shape=array.shape,
        dtype=array.dtype.name,
        values=stored.name,
        pattern=pattern,
        encoding=encoding,
        compression=compression,
        nonzeros=int(np.count_nonzero(nonzero)),
        kept=chosen.size,
        raw_bytes=raw_bytes,
        stored_bytes=len(blob),
    )
    return Encoded(layout, blob)


def decode(encoded: Encoded) -> Array:
    """The tensor, writable and in this machine's byte order.

    Nothing is allocated before the layout has been checked, and no stream is inflated beyond the
    size that the layout declares. Raises AsrError if bytes and layout contradict each other.
    """
    layout = encoded.layout
    mask, scales, values = _sections(encoded)
    if layout.encoding == "dense":
        if layout.scales:
            values = from_int8(values.reshape(layout.matrix), scales[:, None])
        return _checked(values, layout).reshape(layout.shape)
    keep = _unpacked(layout, mask, 0, layout.matrix[0])
    _check_mask(layout, mask, int(np.count_nonzero(keep)))
    if layout.pattern == "bank" and not keeps_banks(keep):
        raise AsrError("has a mask that keeps no banks of equal counts")
    if layout.scales:
        values = from_int8(values, _per_value(scales, keep, 0))
    array = np.zeros(layout.matrix, layout.dtype)
    array[keep] = _checked(values, layout)
    return array.reshape(layout.shape)


def decode_csr(encoded: Encoded) -> CsrMatrix:
    """A float32 matrix with zeros as its kept elements; no dense copy is made on the way.

    Checks as `decode` does. Raises AsrError, also for a tensor that `is_csr` denies.
    """
    layout = encoded.layout
    if not is_csr(layout):
        raise AsrError("is no float32 matrix that was stored by its mask")
    mask, scales, values = _sections(encoded)
    counts, columns = _positions(layout, mask)
    _check_mask(layout, mask, len(columns))
    if layout.scales:
        values = from_int8(values, np.repeat(scales, counts))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    pattern: Pattern = layout.pattern  # type: ignore[assignment]  # `check` has seen it
    return CsrMatrix(layout.matrix, starts, columns, _checked(values, layout), pattern)


def is_csr(layout: Layout) -> bool:
    """Whether a tensor is a float32 matrix stored by its mask."""
    return layout.encoding != "dense" and layout.dtype == "float32" and len(layout.shape) == 2


def _stored_type(array: Array, values: Values) -> np.dtype[Any]:
    if array.dtype == np.float32:
        if values == "fp16":
            return DTYPES["float16"]
        if values == "int8" and array.ndim >= 2 and array.size:
            return DTYPES["int8"]
    return DTYPES[array.dtype.name]


def _choose(
    nonzero: NDArray[np.bool_], value_bytes: int
) -> tuple[Pattern, str, bytes, NDArray[np.bool_] | None]:
    """Pattern, encoding, mask and kept elements of a matrix; with 0 bytes a value it is dense."""
    bitmask_bytes = -(-nonzero.size // 8) + int(np.count_nonzero(nonzero)) * value_bytes
    if bitmask_bytes >= nonzero.size * value_bytes:
        return "element", "dense", b"", None
    pattern = pattern_of(nonzero)
    if pattern == "block":
        blocks = by_block(nonzero).any(axis=1)
        return pattern, "block", np.packbits(blocks).tobytes(), blocks.repeat(BLOCK, axis=0)
    return pattern, "bitmask", np.packbits(nonzero).tobytes(), nonzero


def _per_value(
    scales: NDArray[np.float32], keep: NDArray[np.bool_] | None, columns: int
) -> NDArray[np.float32]:
    """The scale of every value on disk."""
    return np.repeat(scales, columns if keep is None else np.count_nonzero(keep, axis=1))


def _sections(encoded: Encoded) -> tuple[NDArray[np.uint8], NDArray[np.float32], Array]:
    """Mask bytes, scales and values as they are on disk, all inflated; the layout is checked."""
    layout, raw = encoded.layout, encoded.blob
    layout.check()
    if len(raw) != layout.stored_bytes:
        raise AsrError("has other bytes than its layout says")
    planes = layout.compression == "deflate"
    if planes:
        raw = _inflate(raw, layout.raw_bytes)
    behind = layout.mask_bytes + 4 * layout.scales
    whole = np.frombuffer(raw, np.uint8)
    values = _numbers(whole[behind:], DTYPES[layout.values], planes)
    scales = _numbers(whole[layout.mask_bytes : behind], DTYPES["float32"], planes)
    if not (np.isfinite(scales) & (scales >= 0)).all():
        raise AsrError("has a scale that is negative, NaN or infinite")
    return whole[: layout.mask_bytes], scales, values


def _numbers(raw: NDArray[np.uint8], kind: np.dtype[Any], planes: bool) -> Array:
    if planes:
        raw = raw.reshape(kind.itemsize, -1).T.reshape(-1)
    return raw.view(kind)


def _checked(values: Array, layout: Layout) -> Array:
    """Values in the tensor's own type."""
    _refuse_nonfinite(values)
    if np.count_nonzero(values) != layout.nonzeros:
        raise AsrError("has another number of non-zero values than its layout says")
    return values.astype(np.dtype(layout.dtype), order="C")


def _unpacked(layout: Layout, mask: NDArray[np.uint8], start: int, stop: int) -> NDArray[np.bool_]:
    """Which elements of the rows `start` to `stop`, multiples of 16 or the end, are kept."""
    columns = layout.matrix[1]
    step = BLOCK if layout.encoding == "block" else 1
    first, last = start // step * columns, stop // step * columns
    bits = np.unpackbits(mask[first // 8 : -(-last // 8)])[first % 8 :][: last - first]
    return bits.view(np.bool_).reshape(-1, columns).repeat(step, axis=0)


def _positions(
    layout: Layout, mask: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Kept elements of each row, and the column of each, a few rows of the mask at a time."""
    rows, columns = layout.matrix
    chunk = max(BLOCK, _CHUNK // columns // BLOCK * BLOCK)
    counts, places = [], []
    like = _unpacked(layout, mask, 0, min(rows, BLOCK))[:1]
    for start in range(0, rows, chunk):
        keep = _unpacked(layout, mask, start, min(rows, start + chunk))
        counts.append(np.count_nonzero(keep, axis=1))
        places.append(np.nonzero(keep)[1].astype(np.int32))
        if layout.pattern == "bank" and not keeps_banks(np.concatenate([like, keep])):
            raise AsrError("has a mask that keeps no banks of equal counts")
    return np.concatenate(counts), np.concatenate(places)


def _check_mask(layout: Layout, mask: NDArray[np.uint8], kept: int) -> None:
    unused = -(layout.elements // (BLOCK if layout.encoding == "block" else 1)) % 8
    if kept != layout.kept or mask[-1] & ((1 << unused) - 1):
        raise AsrError("has a mask that contradicts its layout")


def _justified(dense_bytes: int, raw_bytes: int, stored_bytes: int) -> bool:
    return max(dense_bytes, raw_bytes) <= MAX_EXPANSION * stored_bytes + FREE_BYTES


def _refuse_nonfinite(values: Array) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise AsrError("holds NaN or infinity")


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
