"""Who speaks in the built-in corpus: espeak-ng, and if wanted SVOX Pico and flite beside it.

dev and test are spoken by espeak-ng alone, with voices that train does not have. Pico has two
voices and flite four, too few to keep some apart: they speak in train only.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import soxr

from asr.corpus.spoken import espeak, flite, pico
from asr.corpus.spoken.grammar import Part
from asr.corpus.spoken.settings import Synthesiser
from asr.errors import AsrError

SAMPLE_RATE = 16000

VOICES: dict[Part, int] = {"dev": 24, "test": 30}
"""Pairs of espeak-ng's accent and variant that only this part speaks with; others: `train`."""

Voice = espeak.Voice | pico.Voice | flite.Voice

_MODULES = {"espeak": espeak, "pico": pico, "flite": flite}
# espeak-ng's words a minute; what is heard is a tenth to a third faster, the words being short.
_RATES = (115, 150)
_PITCHES = (35, 65)
_PITCH_RANGES = (35, 65)
# Pico and flite: percent of their own; they are quick talkers, with some 18 characters a second.
_PITCH_PERCENT = (80, 125)
_SPEED_PERCENT = (70, 105)
_TAKES = 12
"""Speakers that are made of one voice of Pico or flite, by other pitch and speed."""

# Apostrophes before or after a word: Pico says their name in "'go", flite adds a sound in "boys'".
_EDGES = re.compile(r"(?<!\w)'+|'+(?!\w)")


def canonical(names: Sequence[Synthesiser]) -> list[Synthesiser]:
    """In one order and with the least numbers of the same shares: what corpora are known by."""
    counts = Counter(names)
    divisor = math.gcd(*counts.values())
    ordered: tuple[Synthesiser, ...] = ("espeak", "pico", "flite")
    return [name for name in ordered for _ in range(counts[name] // divisor)]


def label(names: Sequence[Synthesiser]) -> str:
    """Short name of a choice and its shares, such as `espeak2-pico`."""
    counts = Counter(canonical(names))
    return "-".join(name + (str(n) if n > 1 else "") for name, n in counts.items())


def of_part(part: Part, names: Sequence[Synthesiser]) -> list[Synthesiser]:
    """Those of `names` that speak in `part`, in canonical order.

    Raises AsrError if none does.
    """
    speaking = [name for name in canonical(names) if part == "train" or name == "espeak"]
    if not speaking:
        raise AsrError(
            f"spoken:{part}: data.spoken.synthesisers has {', '.join(names)} only; dev and test "
            "are spoken by espeak, the others having too few voices to keep some for them: "
            "add espeak"
        )
    return speaking


def require(names: Sequence[Synthesiser]) -> None:
    """Raise AsrError, saying what to install, if one of them is missing."""
    for name in canonical(names):
        _MODULES[name].require()


def speakers(name: Synthesiser, part: Part, seed: int) -> Sequence[Voice]:
    """The speakers of a part, drawn from the seed; no voice speaks in two parts."""
    if name == "espeak":
        return _espeak_speakers(part, seed)
    if part != "train":
        return []
    generator = random.Random(f"speakers {name} {seed}")
    drawn: list[Voice] = []
    for take in range(_TAKES):
        if name == "pico":
            drawn += [pico.Voice(a, **_pitch_and_speed(take, generator)) for a in pico.ACCENTS]
        else:
            for speaker in flite.SPEAKERS:
                voice = flite.Voice(speaker, **_pitch_and_speed(take, generator))
                drawn.append(replace(voice, pitch=100) if speaker in flite.MONOTONE else voice)
    return drawn


def speak(text: str, voice: Voice) -> np.ndarray:
    """Samples, (n,) float32 at 16 kHz, not silent. Raises AsrError if the synthesiser fails."""
    match voice:
        case espeak.Voice():
            speech = espeak.speak(text, voice)
            return np.asarray(soxr.resample(speech, espeak.SAMPLE_RATE, SAMPLE_RATE))
        case pico.Voice():
            return pico.speak(_EDGES.sub("", text), voice)
        case flite.Voice():
            return flite.speak(_EDGES.sub("", text), voice)


def slower(voice: Voice, factor: float) -> Voice:
    """The same voice, at `factor` (below 1) of its speed."""
    if isinstance(voice, espeak.Voice):
        return replace(voice, rate=round(voice.rate * factor))
    return replace(voice, speed=round(voice.speed * factor))


def _espeak_speakers(part: Part, seed: int) -> list[espeak.Voice]:
    pairs = [(accent, variant) for accent in espeak.ACCENTS for variant in espeak.VARIANTS]
    generator = random.Random(f"speakers {seed}")
    generator.shuffle(pairs)
    ranges = (_PITCHES, _PITCH_RANGES, _RATES)  # in the order of the fields of Voice
    voices = [espeak.Voice(*pair, *(generator.randint(*r) for r in ranges)) for pair in pairs]
    dev, test = VOICES["dev"], VOICES["dev"] + VOICES["test"]
    return {"dev": voices[:dev], "test": voices[dev:test], "train": voices[test:]}[part]


def _pitch_and_speed(take: int, generator: random.Random) -> dict[str, int]:
    """Percent; each take has its own part of the speeds, so no two of a voice are the same."""
    least, most = _SPEED_PERCENT
    width = (most + 1 - least) // _TAKES
    return {
        "pitch": generator.randint(*_PITCH_PERCENT),
        "speed": least + take * width + generator.randrange(width),
    }
