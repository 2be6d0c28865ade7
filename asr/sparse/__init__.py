"""Tensors with zeros: packed into a safe file, and multiplied without the zeros.

Files and kernels need only numpy and the standard library, and take the tensors of any model. What
works on torch models (`sparsify`, `save`, `load_into`, the layers) imports torch on first use.

The folder can be copied into another project. It needs `asr/errors.py` and `asr/files.py`, and
`setup.py` to build its C (`python setup.py build_ext --inplace`); without the C numpy computes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asr.sparse.csr import CsrMatrix
from asr.sparse.file import read, read_csr, read_header, write
from asr.sparse.header import Header, TensorEntry

if TYPE_CHECKING:
    from asr.sparse.convert import KeepDense, Report, Request, register, sparsify
    from asr.sparse.state_dict import load_into, save
    from asr.sparse.torch_convolution import SparseConv1d, SparseConv2d
    from asr.sparse.torch_layers import SparseLinear
    from asr.sparse.torch_recurrent import SparseGRU, SparseLSTM, SparseRNN

__all__ = [
    "CsrMatrix",
    "Header",
    "KeepDense",
    "Report",
    "Request",
    "SparseConv1d",
    "SparseConv2d",
    "SparseGRU",
    "SparseLSTM",
    "SparseLinear",
    "SparseRNN",
    "TensorEntry",
    "load_into",
    "read",
    "read_csr",
    "read_header",
    "register",
    "save",
    "sparsify",
    "write",
]

_TORCH = {
    "convert": ("KeepDense", "Report", "Request", "register", "sparsify"),
    "torch_convolution": ("SparseConv1d", "SparseConv2d"),
    "torch_layers": ("SparseLinear",),
    "state_dict": ("load_into", "save"),
    "torch_recurrent": ("SparseGRU", "SparseLSTM", "SparseRNN"),
}


def __getattr__(name: str) -> Any:
    for module, names in _TORCH.items():
        if name in names:
            return getattr(import_module(f"asr.sparse.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
