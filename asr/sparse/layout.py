"""How one tensor lies on disk: its encoding, its sizes, and the checks that a reader relies on.

Every tensor is seen as a matrix: its first dimension are the rows, all others the columns. There
are three encodings, all little-endian and in row order. Of this matrix, with blocks of 2 rows
where the real ones have 16:

             a . b .       dense    a 0 b 0 c 0 d 0 0 e 0 0 0 f 0 0
             c . d .       bitmask  1010 1010 0100 0100, then a b c d e f
             . e . .       block    1010 0100, then a b c d e f
             . f . .

`dense`    the values of all elements.
`bitmask`  one bit for each element that is not zero (`np.packbits`; zero bits complete the last
           byte), then the values of those elements.
`block`    one bit for each block of 16 rows and one column that is kept, the blocks of the first
           16 rows first, then the values of all elements in kept blocks, still in row order.

Values are the tensor's own type, or fp16, or int8. With int8 each row has a scale, fp32, which its
integers are multiplied with; the scales lie between mask and values.
"""

import math
from dataclasses import dataclass

import numpy as np

from asr.errors import AsrError
from asr.sparse.csr import BANK, BLOCK

ENCODINGS = ("dense", "bitmask", "block")
COMPRESSIONS = ("none", "deflate")
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64")
}
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 2**40

# A reader allocates what a tensor's header asks for, so the stored bytes must justify it: at most
# this many bytes of tensor for each. Weights that are 99 % zero ask for about 130. What would ask
# for more, almost nothing but zeros, is deflated less or not at all.
MAX_EXPANSION = 256
FREE_BYTES = 4096


@dataclass(frozen=True)
class Layout:
    """Everything that is needed, beside its bytes, to read one tensor back."""

    shape: tuple[int, ...]
    dtype: str
    """Of the tensor that a reader returns; a key of `DTYPES`."""
    values: str
    """Type of the values on disk: `dtype` itself, or float16 or int8 for float32."""
    pattern: str
    """Of the zeros, see `asr.sparse.csr`; `element` if the encoding is dense."""
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
        """Elements of the tensor, zeros included."""
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
        """Bytes of the mask before the values; 0 of a dense tensor."""
        if self.encoding == "dense":
            return 0
        return -(-self.elements // (8 * (BLOCK if self.encoding == "block" else 1)))

    @property
    def scales(self) -> int:
        """Number of scales: one for each row of float32 weights stored as int8, else 0."""
        return self.matrix[0] if (self.values, self.dtype) == ("int8", "float32") else 0

    def check(self) -> None:
        """Raise AsrError unless the fields fit each other and justify what is allocated."""
        if self.dtype not in DTYPES or self.encoding not in ENCODINGS:
            raise AsrError(f"has dtype {self.dtype!r:.40} and encoding {self.encoding!r:.40}")
        if self.values != self.dtype and (
            self.values not in ("float16", "int8") or self.dtype != "float32"
        ):
            raise AsrError(f"has {self.values!r:.40} values for {self.dtype}")
        if self.compression not in COMPRESSIONS:
            raise AsrError(f"has compression {self.compression!r:.40}")
        # A 0 counts as 1: numpy too refuses huge dimensions beside a 0.
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
            raise AsrError("is not compressed, but its stored bytes are not its raw bytes")
        if not justified(self.dense_bytes, self.raw_bytes, self.stored_bytes):
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
            raise AsrError(f"has pattern {self.pattern!r:.40}, against its shape or encoding")


def justified(dense_bytes: int, raw_bytes: int, stored_bytes: int) -> bool:
    """Whether this many stored bytes may ask a reader for this much memory."""
    return max(dense_bytes, raw_bytes) <= MAX_EXPANSION * stored_bytes + FREE_BYTES
