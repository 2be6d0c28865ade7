"""Loads the compiled beam search: a plain C library without Python's or numpy's interface.

It is optional: without it the search runs in Python, forty to seventy times slower, and `native()`
says so. The environment variable ASR_NATIVE=0 turns it off.
"""

import ctypes
import os
from functools import cache
from pathlib import Path

VERSION = 2
"""Must equal `asr_native_version()` of the C source, or the library is not used."""


@cache
def library() -> ctypes.CDLL | None:
    """The loaded C library; None if it was not built, is of another version or is turned off."""
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
    """What the beam search runs in: "C", or "Python" without the compiled library."""
    return "Python" if library() is None else "C"
