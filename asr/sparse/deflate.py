"""Deflate for weights: a mask and the byte planes of its values, each with the code that fits it.

The stream is raw deflate (`zlib` with `wbits=-15`). In it scales and values lie in byte planes, the
lowest byte of every number first. Sign and exponent of weights take few values and the rest of the
mantissa is noise, so mask and planes are deflated each by itself.
"""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError

# Scattered weights repeat nothing, so searching for repeats only costs: 8 % of a file at 90 %
# zeros. Regular masks repeat a lot. Huffman codes alone shrink a byte to a bit at most, which
# MAX_EXPANSION of asr.sparse.layout always allows for float32.
STRATEGIES = ((zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY), (zlib.Z_HUFFMAN_ONLY,))
"""Strategies to try for each section, the smallest result first."""


def byte_planes(values: NDArray[Any]) -> list[bytes]:
    """The bytes of the numbers, plane by plane."""
    return [plane.tobytes() for plane in values.view(np.uint8).reshape(-1, values.itemsize).T]


def numbers(raw: NDArray[np.uint8], kind: np.dtype[Any], planes: bool) -> NDArray[Any]:
    """Bytes as numbers of a type; `planes`: they lie in byte planes."""
    if planes:
        raw = raw.reshape(kind.itemsize, -1).T.reshape(-1)
    return raw.view(kind)


def deflate(sections: Iterable[bytes], strategies: Iterable[int]) -> bytes:
    """One raw deflate stream; for each section the strategy that makes it smallest.

    A synchronising flush ends every section on a whole byte without ending the stream, so the
    sections can simply be joined.
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


def inflate(blob: bytes, raw_bytes: int) -> bytes:
    """The `raw_bytes` bytes of a stream. Raises AsrError if it has any other number of them."""
    decoder = zlib.decompressobj(-15)
    try:
        # One byte more than there should be: a stream of the right size then also reaches its end.
        raw = decoder.decompress(blob, raw_bytes + 1)
    except zlib.error:
        raise AsrError("cannot be inflated") from None
    if len(raw) != raw_bytes or not decoder.eof or decoder.unused_data:
        raise AsrError("inflates to another size than its layout says")
    return raw
