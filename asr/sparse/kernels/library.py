"""The compiled part of `asr.sparse`, loaded with ctypes; without it numpy computes, slowly."""

import ctypes
import os
from functools import lru_cache
from pathlib import Path

from asr.errors import AsrError

VERSION = 7
"""Must equal `asr_sparse_version()`, else the library is not used. Increase both with every change
of an argument or a layout: an older build would read beyond its arrays."""

ARM = ("neon", "neondot")
LEVELS = ("plain", "avx2", "avx2vnni", "avx512f", "avx512bw", "avx512vnni", *ARM)
"""Instruction sets, the best last: of x86, then of ARM. The numbers are those of c/sparse.h."""


def includes(name: str, other: str) -> bool:
    """Whether a processor with the instruction set `name` runs code for `other`, too."""
    here, there = LEVELS.index(name), LEVELS.index(other)
    return there == 0 or (there <= here and (name in ARM) == (other in ARM))


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The C library, or None if it was not built or ASR_NATIVE=0 excludes it.

    ASR_SPARSE_LIBRARY is the path of another build (`make test-sanitize`).
    """
    if os.environ.get("ASR_NATIVE") == "0":
        return None
    folder = Path(__file__).resolve().parent
    given = os.environ.get("ASR_SPARSE_LIBRARY")
    for path in [Path(given)] if given else sorted(folder.glob("_sparse.*")):
        if path.suffix not in (".so", ".pyd", ".dylib"):
            continue
        try:
            loaded = ctypes.CDLL(str(path))
            if loaded.asr_sparse_version() == VERSION:
                loaded.asr_perm_layout.restype = ctypes.c_int64
                loaded.asr_scratch.restype = ctypes.c_int64
                return loaded
        except (OSError, AttributeError):
            continue
    return None


def levels() -> tuple[str, ...]:
    """The instruction sets of `LEVELS` that this processor has; `plain` without a library."""
    found = library()
    bits = found.asr_sparse_levels() if found else 1
    return tuple(name for i, name in enumerate(LEVELS) if bits >> i & 1)


def level(name: str | None = None) -> int:
    """Index in `LEVELS` of the instruction set to use; None: ASR_LEVEL, else the best one.

    Without a library ASR_LEVEL is ignored. Raises AsrError for an unknown name, and for
    a set that this processor does not have.
    """
    here = levels()
    name = name or (os.environ.get("ASR_LEVEL") if library() else None)
    if not name:
        return LEVELS.index(here[-1])
    if name not in LEVELS:
        raise AsrError(f"instruction set {name!r}: there are {', '.join(LEVELS)}")
    if name not in here:
        raise AsrError(f"instruction set {name}: this processor offers {', '.join(here)}")
    return LEVELS.index(name)
