"""The sparse room: tensors with zeros, packed into one file that is safe to open.

Needs numpy and the standard library alone, and takes any model's tensors, whoever put the zeros
there.
"""

from asr.sparse.file import read, read_header, write
from asr.sparse.header import Header, TensorEntry

__all__ = ["Header", "TensorEntry", "read", "read_header", "write"]
