"""Speech from SVOX Pico, by the package `py-nanotts` (the extra `voices`): two English voices.

Pico leaves parts of its working memory as it finds them, and what lies there is heard, faintly.
Here memory is given to it as zeros, which glibc does on request; so the same request gives the
same samples whatever was spoken before. On Windows they may differ by a thousandth or two.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from asr.errors import AsrError

SAMPLE_RATE = 16000
"""Samples a second of what `speak` returns."""

ACCENTS = ("en-US", "en-GB")
"""Pico's two English voices, both of women."""

# Beyond these the package takes the nearest that it allows, without a word.
_SPEEDS, _PITCHES = (20, 500), (50, 200)
# Of 5; from 0.5 on, loud vowels clip. Now and then Pico makes a single pulse (3 ms) that is near
# full scale whatever the volume: with less of it, these would stand out more.
_VOLUME = 0.4
# Peak that is its own noise: a pause has 0.003, a word a hundred times that.
_SILENCE = 0.02
# Of malloc.h: new memory is filled with the complement of the last byte; 0 switches that off.
_M_PERTURB = -6
_FILL_WITH_ZEROS = 0xFF


@dataclass(frozen=True)
class Voice:
    """How a speaker sounds: Pico's voice, its pitch and its speed in percent of what they are."""

    accent: str
    pitch: int = 100
    """50 to 200."""
    speed: int = 100
    """20 to 500."""

    @property
    def name(self) -> str:
        """Short name such as `pico+en-GB-p105-s90`."""
        return f"pico+{self.accent}-p{self.pitch}-s{self.speed}"


def speak(text: str, voice: Voice) -> np.ndarray:
    """Samples, (n,) float32 within +-1 at 16 kHz; on Linux a function of the arguments alone.

    Raises AsrError if the package `py_nanotts` is missing, for a voice, pitch or speed that Pico
    does not have, and where nothing is heard.
    """
    package = _package()
    if voice.accent not in ACCENTS:
        raise AsrError(f"pico has no voice {voice.accent}, it has {', '.join(ACCENTS)}")
    for what, value, (least, most) in (
        ("speed", voice.speed, _SPEEDS),
        ("pitch", voice.pitch, _PITCHES),
    ):
        if not least <= value <= most:
            raise AsrError(f"pico: {what} {value} % of {voice.name}: from {least} to {most}")
    with _zeroed_memory():
        spoken = package.NanoTTS().speak(
            text,
            voice=voice.accent,
            speed=voice.speed / 100,
            pitch=voice.pitch / 100,
            volume=_VOLUME,
        )
    samples = np.frombuffer(spoken, dtype="<i2").astype(np.float32) / 32768
    if np.abs(samples).max(initial=0) < _SILENCE:
        raise AsrError(f"pico: nothing is heard of {text!r} by {voice.name}")
    return samples


def require() -> None:
    """Raise AsrError if Pico is not installed."""
    _package()


def _package() -> ModuleType:
    try:
        import py_nanotts
    except ImportError as error:
        raise AsrError(
            "pico stands in data.spoken.synthesisers, and the package py-nanotts that brings it "
            "is not installed: pip install 'asr[voices]' (Linux and Windows), or leave pico out"
        ) from error
    module: ModuleType = py_nanotts
    return module


@contextmanager
def _zeroed_memory() -> Iterator[None]:
    """New memory holds zeros, for the whole process, where the system is Linux with glibc.

    Other threads' results cannot change, since nobody may rely on what new memory holds.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(_M_PERTURB, _FILL_WITH_ZEROS)
    try:
        yield
    finally:
        library.mallopt(_M_PERTURB, 0)
