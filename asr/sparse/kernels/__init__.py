"""Products and recurrent layers with sparse matrices on a CPU, in C, and in numpy without it."""

from asr.sparse.kernels.choice import KERNELS, Kernel, Values, choose
from asr.sparse.kernels.library import LEVELS, level, levels, library
from asr.sparse.kernels.matrix import Matrix, prepare, whole_passes
from asr.sparse.kernels.recurrent import GATES, Cell, CellKind, Recurrent, State

__all__ = [
    "GATES",
    "KERNELS",
    "LEVELS",
    "Cell",
    "CellKind",
    "Kernel",
    "Matrix",
    "Recurrent",
    "State",
    "Values",
    "choose",
    "level",
    "levels",
    "library",
    "prepare",
    "whole_passes",
]
