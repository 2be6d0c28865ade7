"""Products and recurrent layers with sparse matrices on a CPU, in C, and in numpy without it."""

from asr.sparse.kernels.choice import KERNELS, Kernel, Values, choose
from asr.sparse.kernels.library import LEVELS, level, library
from asr.sparse.kernels.matrix import Matrix, prepare
from asr.sparse.kernels.recurrent import GATES, Cell, CellKind, Recurrent

__all__ = [
    "GATES",
    "KERNELS",
    "LEVELS",
    "Cell",
    "CellKind",
    "Kernel",
    "Matrix",
    "Recurrent",
    "Values",
    "choose",
    "level",
    "library",
    "prepare",
]
