"""Speech by Kokoro-82M, a neural synthesiser, through the library kokoro-onnx.

Its voices are style vectors. A mixture of two or three of them is another voice, and so is a step
beyond one voice away from another, or a mixture with a voice of another language, which has an
accent. So there are as many speakers as one likes. Model and voices are by hexgrad, Apache-2.0.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from asr.corpus.spoken.settings import PARTS, Part
from asr.errors import AsrError, install

SAMPLE_RATE = 24000
"""Samples a second of what `speak` returns."""

FOLDER = "ASR_KOKORO"
"""Environment variable that names the folder of the model and its voices."""

SPEEDS = (0.8, 1.25)
"""Slowest and fastest speed of a voice; 1 is Kokoro's own."""

COUNTS: dict[Part, int] = {"train": 600, "dev": 24, "test": 30}
"""Voices drawn for each part."""

ENGLISH: dict[Part, tuple[str, ...]] = {
    "train": (
        *("af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_nicole", "af_river"),
        *("af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir", "am_michael"),
        *("am_puck", "am_santa", "bf_emma", "bf_isabella", "bm_fable", "bm_george"),
    ),
    "dev": ("af_kore", "am_liam", "bf_lily", "bm_lewis"),
    "test": ("af_nova", "am_onyx", "bf_alice", "bm_daniel"),
}
"""Kokoro's English voices: American (`a`) and British (`b`) women (`f`) and men (`m`)."""

FOREIGN: dict[Part, tuple[str, ...]] = {
    "train": (
        *("ef_dora", "em_alex", "em_santa", "ff_siwis", "hf_alpha", "hm_omega", "if_sara"),
        *("jf_alpha", "jf_gongitsune", "jf_nezumi", "jm_kumo", "pm_alex", "zf_xiaobei"),
        *("zf_xiaoni", "zm_yunjian", "zm_yunxi", "zm_yunxia"),
    ),
    "dev": ("im_nicola", "pf_dora", "zf_xiaoxiao"),
    "test": ("hf_beta", "hm_psi", "pm_santa", "zf_xiaoyi"),
}
"""Voices of other languages, which speak English with an accent."""

ACCENTS = ("en-us", "en-gb")
"""Phonemes that are spoken, in espeak-ng's names."""

_SOURCE = "https://github.com/thewh1teagle/kokoro-onnx/releases (model-files-v1.0)"
_JITTER = 0.08
_SINGLE, _MIXED, _BEYOND = 0.30, 0.45, 0.13
_COMMAS = {
    **dict.fromkeys(("AND", "BUT", "WHICH", "WHO"), 0.3),
    **dict.fromkeys(("FOR", "WHEN", "THAT", "OR", "IF", "AS", "WHILE"), 0.12),
}
_QUESTIONS = {
    *("WHAT", "WHO", "WHY", "HOW", "WHERE", "WHEN"),
    *("DO", "DID", "IS", "ARE", "CAN", "WILL"),
}


@dataclass(frozen=True)
class KokoroVoice:
    """How a speaker sounds: a weighted sum of style vectors, an accent and a speed."""

    mixture: tuple[tuple[str, float], ...]
    """Names of Kokoro's voices and their weights, which sum to 1; a weight may be negative."""
    accent: str = "en-us"
    """One of `ACCENTS`."""
    speed: float = 1.0

    @property
    def name(self) -> str:
        """Short name such as `af_sky0.30+am_echo0.70-s1.05`."""
        return "+".join(f"{n}{w:.2f}" for n, w in self.mixture) + f"-s{self.speed:.2f}"

    def slower(self, factor: float) -> "KokoroVoice":
        """The same voice at `factor` (below 1) of its speed, at least half of Kokoro's own."""
        return replace(self, speed=max(0.5, self.speed * factor))


def voices(part: Part, seed: int) -> list[KokoroVoice]:
    """The voices of a part, drawn from the seed; parts share none of the voices they are made of.

    Three in ten are one of Kokoro's voices, the others mixtures, steps beyond a voice, and accents.
    """
    generator = np.random.default_rng([seed, *f"kokoro {part}".encode()])
    drawn: dict[str, KokoroVoice] = {}
    while len(drawn) < COUNTS[part]:
        voice = _draw(part, generator)
        drawn[voice.name] = voice
    return list(drawn.values())


def _draw(part: Part, generator: np.random.Generator) -> KokoroVoice:
    english, kind = ENGLISH[part], generator.random()
    speed = round(float(generator.uniform(*SPEEDS)), 2)

    def some(names: tuple[str, ...], count: int) -> list[str]:
        return [str(name) for name in generator.choice(names, count, replace=False)]

    if kind < _SINGLE:
        names, weights = some(english, 1), [1.0]
    elif kind < _SINGLE + _MIXED:
        names = some(english, int(generator.integers(2, 4)))
        weights = [float(w) for w in generator.dirichlet(np.ones(len(names)))]
    elif kind < _SINGLE + _MIXED + _BEYOND:
        names, beyond = some(english, 2), float(generator.uniform(0.1, 0.4))
        weights = [1 + beyond, -beyond]
    else:
        names = [*some(FOREIGN[part], 1), *some(english, 1)]
        foreign = float(generator.uniform(0.3, 0.7))
        weights = [foreign, 1 - foreign]
    british = sum(w for n, w in zip(names, weights, strict=True) if n[0] == "b") > 0.5
    mixture = tuple((n, round(w, 2)) for n, w in zip(names, weights, strict=True))
    return KokoroVoice(mixture, "en-gb" if british else "en-us", speed)


def speak(text: str, voice: KokoroVoice) -> np.ndarray:
    """Samples, (n,) float32 within +-1 at 24,000 Hz; a function of the two arguments alone.

    Runs on one thread. Raises AsrError if the library or the model is missing, or the voice does
    not speak.
    """
    kokoro = _model()
    generator = random.Random(f"{voice.name} {text}")
    slowest, fastest = SPEEDS
    # A voice that `slower` took below the slowest speed is meant to be that slow.
    jittered = voice.speed * generator.uniform(1 - _JITTER, 1 + _JITTER)
    speed = min(max(jittered, min(slowest, voice.speed)), fastest)
    style = sum(weight * kokoro.voices[name] for name, weight in voice.mixture)
    said = punctuate(text, generator)
    samples = kokoro.create(said, np.asarray(style, np.float32), speed, voice.accent)[0]
    samples = np.asarray(samples, dtype=np.float32)
    peak = np.abs(samples).max(initial=0.0)
    if not np.isfinite(peak) or peak < 1e-3:
        raise AsrError(f"Kokoro: {text!r} by {voice.name} is silent")
    return samples / max(1.0, float(peak))


def punctuate(text: str, generator: random.Random) -> str:
    """A line as a person prints it: capitals, commas and a mark at the end make the prosody."""
    words = text.upper().split()
    out: list[str] = []
    for i, word in enumerate(words):
        comma = 2 < i < len(words) - 2 and generator.random() < _COMMAS.get(word, 0)
        if comma and not out[-1].endswith(","):
            out[-1] += ","
        pronoun = word == "I" or word.startswith("I'")
        out.append("I" + word[1:].lower() if pronoun else word.lower())
    question = words[0] in _QUESTIONS and generator.random() < 0.4
    mark = "?" if question else "!" if generator.random() < 0.05 else "."
    line = " ".join(out)
    return line[0].upper() + line[1:] + mark


def require() -> None:
    """Raise AsrError, saying what to get, if the library or the model is missing."""
    try:
        import kokoro_onnx  # noqa: F401
    except ImportError as error:
        raise AsrError(
            "the synthesiser kokoro needs the library kokoro-onnx, and it is not installed: "
            f"{install('voices')}"
        ) from error
    _files()


def _files() -> tuple[Path, Path]:
    """The model and its voices in the folder that ASR_KOKORO names."""
    wanted = f"Kokoro's model (kokoro-v1.0*.onnx) and voices (voices-v1.0.bin) from {_SOURCE}"
    folder = os.environ.get(FOLDER)
    if not folder:
        raise AsrError(
            f"the synthesiser kokoro needs its model: put {wanted} into a folder and name it in "
            f"the environment variable {FOLDER}"
        )
    models, archives = (
        sorted(Path(folder).expanduser().glob(name)) for name in ("kokoro*.onnx", "voices*.bin")
    )
    if len(models) != 1 or len(archives) != 1:
        raise AsrError(
            f"{FOLDER}={folder}: {len(models)} files kokoro*.onnx and {len(archives)} voices*.bin "
            f"are there; it must hold {wanted}, one file each"
        )
    return models[0], archives[0]


@contextmanager
def _own_espeak() -> Iterator[Path]:
    """A copy of espeak-ng's library for the phonemes, which stays loaded.

    The synthesiser espeak unloads the original after each sentence, to begin the next one afresh,
    and cannot while another loads it too.
    """
    import espeakng_loader

    original = Path(espeakng_loader.get_library_path())
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copy(original, folder))


@cache
def _model() -> Any:
    """kokoro-onnx with the model of `_files` on one thread, and all voices."""
    require()
    import onnxruntime
    from kokoro_onnx import EspeakConfig, Kokoro

    model, archive = _files()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
        with _own_espeak() as library:
            kokoro = Kokoro.from_session(session, str(archive), EspeakConfig(str(library)))
            for accent in ACCENTS:  # each opens the library at its first use
                kokoro.tokenizer.phonemize("a", accent)
    except Exception as error:  # onnxruntime's own errors derive from Exception alone
        raise AsrError(f"{model}, {archive}: kokoro-onnx cannot open them: {error}") from None
    missing = {name for part in PARTS for name in (*ENGLISH[part], *FOREIGN[part])}
    missing -= set(kokoro.get_voices())
    if missing:
        raise AsrError(f"{archive}: without the voices {', '.join(sorted(missing))}")
    return kokoro
