"""Speech from espeak-ng, the synthesiser behind the built-in corpus (the extra `demo`).

espeak-ng carries its noise, flutter and filter states from one utterance into the next, and
seeds its noise from the clock. Here each utterance gets a freshly loaded library (about a
millisecond) and a fixed seed, so that the same request gives the same samples whatever was
spoken before. This needs a system that unloads a library on request, as Linux with glibc does.
"""

import _ctypes
import ctypes
import random
import sys
import threading
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from asr.corpus.spoken.settings import Part
from asr.errors import AsrError, install

SAMPLE_RATE = 22050
"""Samples a second of what `speak` returns."""

ACCENTS = (
    "en",
    "en-us",
    "en-us-nyc",
    "en-029",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-x-rp",
)
"""English accents in espeak-ng's names; `en` is the British one, `en-029` the Caribbean."""

VARIANTS = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5"),
    *("Alex", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Mario", "Michael", "Mike"),
    *("Nguyen", "edward", "john", "linda", "marcelo", "max", "michel", "norbert", "pablo"),
    *("pedro", "quincy", "rob", "robert", "shelby", "victor"),
)
"""Voice variants that sound like a person, out of the 104 that come with espeak-ng.

Left out: whispers, croaks, robots and children; variants with nearly nothing above 1 kHz or
4 kHz, or with a long-term spectrum far from all others; near copies of one that is in.
"""

PAIRS: dict[Part, int] = {"dev": 24, "test": 30}
"""Pairs of accent and variant that only this part speaks with; all others are those of train."""

# What speakers are drawn from. espeak-ng's words a minute: its speech is a tenth to a third
# faster, for the words of our grammar are short.
_PITCHES, _PITCH_RANGES, _RATES = (35, 65), (35, 65), (115, 150)

# Values of espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2
_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
# Some variants clip at espeak-ng's own volume of 100.
_VOLUME_PERCENT = 60

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class EspeakVoice:
    """How a speaker sounds: espeak-ng's accent and variant, pitch and range 0 to 99, and rate."""

    accent: str
    variant: str
    pitch: int = 50
    pitch_range: int = 50
    rate: int = 150
    """Words a minute by espeak-ng's own count."""

    @property
    def name(self) -> str:
        """Short name such as `en-us+f3-p45-r150`."""
        return f"{self.accent}+{self.variant}-p{self.pitch}-r{self.rate}"

    def slower(self, factor: float) -> "EspeakVoice":
        """The same voice at `factor` (below 1) of its speed."""
        return replace(self, rate=round(self.rate * factor))


def voices(part: Part, seed: int) -> list[EspeakVoice]:
    """The voices of a part, drawn from the seed; no pair of accent and variant is in two parts."""
    pairs = [(accent, variant) for accent in ACCENTS for variant in VARIANTS]
    generator = random.Random(f"speakers {seed}")
    generator.shuffle(pairs)
    ranges = (_PITCHES, _PITCH_RANGES, _RATES)  # in the order of the fields of EspeakVoice
    drawn = [EspeakVoice(*pair, *(generator.randint(*r) for r in ranges)) for pair in pairs]
    dev, test = PAIRS["dev"], PAIRS["dev"] + PAIRS["test"]
    return {"dev": drawn[:dev], "test": drawn[dev:test], "train": drawn[test:]}[part]


def speak(text: str, voice: EspeakVoice) -> np.ndarray:
    """Samples, (n,) float32 within +-1 at 22,050 Hz; a function of the two arguments alone.

    Safe to call from several threads: they take turns. Raises AsrError if the package
    `espeakng_loader` is missing or the voice does not speak.
    """
    loader = _loader()
    with _one_at_a_time:
        library = ctypes.CDLL(str(loader.get_library_path()))
        try:
            samples = _synthesise(library, str(loader.get_data_path()), text, voice)
        finally:
            library.espeak_Terminate()
            _unload(library)
    if not samples.any():
        raise AsrError(f"espeak-ng: {text!r} by {voice.name} is silent")
    return samples.astype(np.float32) / 32768


def require() -> None:
    """Raise AsrError if espeak-ng is not installed."""
    _loader()


def _loader() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError as error:
        raise AsrError(
            "the spoken corpus is made with espeak-ng, and the package espeakng_loader that "
            f"brings it is not installed: {install('demo')}"
        ) from error
    module: ModuleType = espeakng_loader
    return module


def _synthesise(library: Any, data_path: str, text: str, voice: EspeakVoice) -> np.ndarray:
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data_path.encode(), 0)
    if rate != SAMPLE_RATE:
        raise AsrError(f"espeak-ng: cannot start from {data_path} (status {rate})")
    chunks: list[np.ndarray] = []

    def take(wave: Any, count: int, _events: Any) -> int:
        if count > 0:
            chunks.append(np.ctypeslib.as_array(wave, shape=(count,)).copy())
        return 0

    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
    )
    callback = kind(take)  # must outlive the synthesis
    library.espeak_SetSynthCallback(callback)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    name = f"{voice.accent}+{voice.variant}"
    if library.espeak_SetVoiceByName(name.encode()) != 0:
        raise AsrError(f"espeak-ng has no voice {name}")
    parameters = {
        _RATE: voice.rate,
        _VOLUME: _VOLUME_PERCENT,
        _PITCH: voice.pitch,
        _RANGE: voice.pitch_range,
    }
    for parameter, value in parameters.items():
        library.espeak_SetParameter(parameter, value, 0)
    content = text.encode() + b"\0"
    status = library.espeak_Synth(
        content, ctypes.c_size_t(len(content)), 0, 0, 0, _UTF8, None, None
    )
    if status != 0:
        raise AsrError(f"espeak-ng: status {status} for {text!r} with the voice {name}")
    library.espeak_Synchronize()
    return np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.int16)


def _unload(library: ctypes.CDLL) -> None:
    """Forget the library with all its state; the next `CDLL` starts afresh."""
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)
