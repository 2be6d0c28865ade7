"""The sparse room: tensors with zeros, packed into one file that is safe to open.

Needs numpy and the standard library alone, and takes any model's tensors, whoever put the zeros
there.
"""

from asr.sparse.file import read, read_header, read_rows, write
from asr.sparse.header import Header, TensorEntry
from asr.sparse.rows import Rows

__all__ = ["Header", "Rows", "TensorEntry", "read", "read_header", "read_rows", "write"]
