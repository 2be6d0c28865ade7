"""The compiled part of the package: a plain C library without Python's or numpy's interface.

It is optional: without it everything runs in Python, slower, and `native()` says so.
Setting the environment variable ASR_NATIVE=0 leaves it out.
"""

import ctypes
import os
from functools import cache
from pathlib import Path

VERSION = 1
"""Must equal `asr_native_version()` of the C source, else the library is not used."""


@cache
def library() -> ctypes.CDLL | None:
    """The loaded C library, or None if it was not built, is of another version or is left out."""
    if os.environ.get("ASR_NATIVE", "1") == "0":
        return None
    folder = Path(__file__).parent
    for path in sorted([*folder.glob("_beam*.so"), *folder.glob("_beam*.pyd")]):
        try:
            loaded = ctypes.CDLL(str(path))
            if loaded.asr_native_version() == VERSION:
                return loaded
        except (OSError, AttributeError):
            continue
    return None


def native() -> str:
    """What decoding runs on: "C", or "Python" if the compiled library is not there."""
    return "Python" if library() is None else "C"
