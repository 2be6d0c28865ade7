"""Speech from the program `flite` (CMU Flite, a small relative of Festival): four voices.

The program comes from the system's packages, not from Python's. Each utterance is one run of it.
"""

import io
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import soundfile

from asr.errors import AsrError

SAMPLE_RATE = 16000
"""Samples a second of what `speak` returns."""

SPEAKERS = ("slt", "rms", "awb", "kal16")
"""Flite's voices at 16 kHz: an American woman and man, a Scot, an American by diphones.

Left out: `kal`, which is `kal16` at 8 kHz, and `awb_time`, which knows only the time of day.
"""

MONOTONE = ("rms",)
"""Its melody is stored whole: flite cannot change its pitch."""

# Peak that is its own noise: a pause has 0.005, the quietest word forty times that.
_SILENCE = 0.02


@dataclass(frozen=True)
class Voice:
    """How a speaker sounds: flite's voice, its pitch and its speed in percent of what they are."""

    speaker: str
    pitch: int = 100
    speed: int = 100

    @property
    def name(self) -> str:
        """Short name such as `flite+slt-p105-s90`."""
        return f"flite+{self.speaker}-p{self.pitch}-s{self.speed}"


def speak(text: str, voice: Voice) -> np.ndarray:
    """Samples, (n,) float32 within +-1 at 16 kHz; a function of the two arguments alone.

    Raises AsrError if the program or the voice is missing, if its pitch cannot be set, and where
    nothing is heard.
    """
    program = _program()
    if voice.speaker not in SPEAKERS:
        raise AsrError(f"flite has no voice {voice.speaker}, used are {', '.join(SPEAKERS)}")
    if voice.speaker in MONOTONE and voice.pitch != 100:
        raise AsrError(f"flite: the pitch of {voice.speaker} cannot be set ({voice.name})")
    command = [program, "-voice", voice.speaker]
    command += ["--setf", f"duration_stretch={100 / voice.speed:.4f}"]
    command += ["--setf", f"f0_shift={voice.pitch / 100:.2f}", "-t", text, "-o", "/dev/stdout"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if result.returncode != 0:
        raise AsrError(f"flite: status {result.returncode} for {text!r} by {voice.name}")
    try:
        samples, rate = soundfile.read(io.BytesIO(result.stdout), dtype="float32")
    except soundfile.SoundFileError as error:
        raise AsrError(f"flite: no recording of {text!r} by {voice.name}: {error}") from None
    if rate != SAMPLE_RATE:
        raise AsrError(f"flite: {voice.name} speaks at {rate} Hz instead of {SAMPLE_RATE}")
    if np.abs(samples).max(initial=0) < _SILENCE:
        raise AsrError(f"flite: nothing is heard of {text!r} by {voice.name}")
    return np.asarray(samples)


def require() -> None:
    """Raise AsrError if flite, or one of its voices, is not installed."""
    _program()


def _program() -> str:
    program = shutil.which("flite")
    if program is None:
        raise AsrError(
            "flite stands in data.spoken.synthesisers, and there is no program flite: install it "
            "(Debian and Ubuntu: apt install flite; Fedora: dnf install flite), or leave flite out"
        )
    # It speaks with another voice where it lacks the one asked for, and says nothing of it.
    missing = [speaker for speaker in SPEAKERS if speaker not in _voices(program)]
    if missing:
        raise AsrError(f"{program} was built without the voices {', '.join(missing)}")
    return program


@lru_cache(maxsize=4)
def _voices(program: str) -> frozenset[str]:
    result = subprocess.run(
        [program, "-lv"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return frozenset(re.findall(r"\w+", result.stdout.partition(":")[2]))
