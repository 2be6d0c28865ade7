"""Tensor <-> bytes on disk: pure functions with an exact round trip, without any CPU's layout.

`asr.sparse.layout` describes the bytes, `asr.sparse.deflate` compresses them.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError
from asr.sparse.csr import BLOCK, CsrMatrix, Pattern, by_block, keeps_banks, pattern_of
from asr.sparse.deflate import STRATEGIES, byte_planes, deflate, inflate, numbers
from asr.sparse.layout import DTYPES, Layout, justified
from asr.sparse.quantise import from_int8, row_scales, to_half, to_int8

Array = NDArray[Any]
Values = Literal["fp32", "fp16", "int8"]

# Mask bits that `decode_csr` unpacks at once.
_CHUNK = 2**20


@dataclass(frozen=True)
class Encoded:
    """A tensor's layout and its bytes."""

    layout: Layout
    blob: bytes


def encode(array: Array, values: Values = "fp32", compress: bool = True) -> Encoded:
    """Encode one tensor: by its mask if that is smaller than `dense`, deflated if that is smaller.

    `values="fp16"` halves float32. `"int8"` quarters float32 of two or more dimensions, with one
    scale for each row; the error is at most half a scale, a whole one for the smallest weights.
    All other types stay. float32 is decoded exactly, except that -0.0 under a mask becomes 0.0.
    fp16 and int8 keep the pattern: what would round to zero becomes the smallest number of the same
    sign. `compress=False` writes all elements as they are, the fastest to write and read.

    Raises AsrError for NaN, infinity, a weight beyond 65504 with fp16, and other types.
    """
    if array.dtype.name not in DTYPES:
        raise AsrError(f"is of type {array.dtype}, which a model file cannot hold")
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    matrix = native.reshape((len(array), -1) if array.ndim >= 2 and array.size else (1, -1))
    _refuse_nonfinite(matrix)
    nonzero = matrix != 0
    stored = _stored_type(array, values)
    pattern, encoding, mask, keep = _choose(
        nonzero, stored.itemsize if compress else 0, array.dtype.itemsize
    )

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
    for strategies in STRATEGIES if compress else ():
        deflated = deflate([mask, *byte_planes(scales), *byte_planes(chosen)], strategies)
        if len(deflated) < raw_bytes and justified(array.nbytes, raw_bytes, len(deflated)):
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

    The layout is checked before anything is allocated, and no stream is inflated beyond the size
    that the layout declares. Raises AsrError if bytes and layout contradict each other.
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
        raise AsrError("has a mask without equal counts in its banks")
    if layout.scales:
        values = from_int8(values, _per_value(scales, keep, 0))
    array = np.zeros(layout.matrix, layout.dtype)
    array[keep] = _checked(values, layout)
    return array.reshape(layout.shape)


def decode_csr(encoded: Encoded) -> CsrMatrix:
    """A float32 matrix as a `CsrMatrix`, without a dense copy on the way.

    Checks as `decode` does. Raises AsrError, also where `is_csr` is false.
    """
    layout = encoded.layout
    if not is_csr(layout):
        raise AsrError("is not a float32 matrix stored with a mask")
    mask, scales, values = _sections(encoded)
    counts, columns = _positions(layout, mask)
    _check_mask(layout, mask, len(columns))
    if layout.scales:
        values = from_int8(values, np.repeat(scales, counts))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    pattern: Pattern = layout.pattern  # type: ignore[assignment]  # `check` has seen it
    return CsrMatrix(layout.matrix, starts, columns, _checked(values, layout), pattern)


def is_csr(layout: Layout) -> bool:
    """Whether a tensor is a float32 matrix stored with a mask, which `decode_csr` reads."""
    return layout.encoding != "dense" and layout.dtype == "float32" and len(layout.shape) == 2


def _stored_type(array: Array, values: Values) -> np.dtype[Any]:
    if array.dtype == np.float32:
        if values == "fp16":
            return DTYPES["float16"]
        if values == "int8" and array.ndim >= 2 and array.size:
            return DTYPES["int8"]
    return DTYPES[array.dtype.name]


def _choose(
    nonzero: NDArray[np.bool_], value_bytes: int, read_bytes: int
) -> tuple[Pattern, str, bytes, NDArray[np.bool_] | None]:
    """Pattern, encoding, mask bytes and kept elements.

    `value_bytes` of a value on disk, 0 for dense; `read_bytes` of one in the memory of a reader.
    """
    bitmask_bytes = -(-nonzero.size // 8) + int(np.count_nonzero(nonzero)) * value_bytes
    if bitmask_bytes >= nonzero.size * value_bytes:
        return "element", "dense", b"", None
    pattern = pattern_of(nonzero)
    if pattern == "block":
        blocks = by_block(nonzero).any(axis=1)
        keep = blocks.repeat(BLOCK, axis=0)
        mask = np.packbits(blocks).tobytes()
        raw = len(mask) + int(np.count_nonzero(keep)) * value_bytes
        if justified(nonzero.size * read_bytes, raw, raw):
            return pattern, "block", mask, keep
        pattern = "element"  # almost nothing is kept: a reader would take it for an attack
    return pattern, "bitmask", np.packbits(nonzero).tobytes(), nonzero


def _per_value(
    scales: NDArray[np.float32], keep: NDArray[np.bool_] | None, columns: int
) -> NDArray[np.float32]:
    """The scale of every value on disk."""
    return np.repeat(scales, columns if keep is None else np.count_nonzero(keep, axis=1))


def _sections(encoded: Encoded) -> tuple[NDArray[np.uint8], NDArray[np.float32], Array]:
    """Mask bytes, scales and values as stored, inflated; checks the layout first."""
    layout, raw = encoded.layout, encoded.blob
    layout.check()
    if len(raw) != layout.stored_bytes:
        raise AsrError("has other bytes than its layout says")
    planes = layout.compression == "deflate"
    if planes:
        raw = inflate(raw, layout.raw_bytes)
    behind = layout.mask_bytes + 4 * layout.scales
    whole = np.frombuffer(raw, np.uint8)
    values = numbers(whole[behind:], DTYPES[layout.values], planes)
    scales = numbers(whole[layout.mask_bytes : behind], DTYPES["float32"], planes)
    if not (np.isfinite(scales) & (scales >= 0)).all():
        raise AsrError("has a scale that is negative, NaN or infinite")
    return whole[: layout.mask_bytes], scales, values


def _checked(values: Array, layout: Layout) -> Array:
    """Values in the tensor's own type."""
    _refuse_nonfinite(values)
    if np.count_nonzero(values) != layout.nonzeros:
        raise AsrError("has another number of non-zeros than its layout says")
    return values.astype(np.dtype(layout.dtype), order="C")


def _unpacked(layout: Layout, mask: NDArray[np.uint8], start: int, stop: int) -> NDArray[np.bool_]:
    """The mask of the rows `start` to `stop`, which are multiples of 16 or the end."""
    columns = layout.matrix[1]
    step = BLOCK if layout.encoding == "block" else 1
    first, last = start // step * columns, stop // step * columns
    bits = np.unpackbits(mask[first // 8 : -(-last // 8)])[first % 8 :][: last - first]
    return bits.view(np.bool_).reshape(-1, columns).repeat(step, axis=0)


def _positions(
    layout: Layout, mask: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Kept elements of each row, and the column of each; unpacks a few rows at a time."""
    rows, columns = layout.matrix
    chunk = max(BLOCK, _CHUNK // columns // BLOCK * BLOCK)
    counts, places = [], []
    like = _unpacked(layout, mask, 0, min(rows, BLOCK))[:1]
    for start in range(0, rows, chunk):
        keep = _unpacked(layout, mask, start, min(rows, start + chunk))
        counts.append(np.count_nonzero(keep, axis=1))
        places.append(np.nonzero(keep)[1].astype(np.int32))
        if layout.pattern == "bank" and not keeps_banks(np.concatenate([like, keep])):
            raise AsrError("has a mask without equal counts in its banks")
    return np.concatenate(counts), np.concatenate(places)


def _check_mask(layout: Layout, mask: NDArray[np.uint8], kept: int) -> None:
    unused = -(layout.elements // (BLOCK if layout.encoding == "block" else 1)) % 8
    if kept != layout.kept or mask[-1] & ((1 << unused) - 1):
        raise AsrError("has a mask that contradicts its layout")


def _refuse_nonfinite(values: Array) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise AsrError("holds NaN or infinity")
