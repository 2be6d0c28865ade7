"""What silence, noise and music around the words cost, for each way of normalising the features.

    python recipes/benchmarks/silence.py MODEL SET ... [--noise FILE] [-o RECORD.json]

SET is a manifest, or a folder of recordings with texts. The words of a recording stay as they are;
only what is added changes, so a row against the first one is what the addition costs. Greedy
decoding, on the path of `asr transcribe`: recordings of more than 20 s are transcribed in chunks.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr import audio
from asr.corpus import sources
from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.evaluate.wer import score
from asr.report.measurements import DisplayColumn, table_of, write_measurement
from asr.text.normalise import normalise
from asr.train.record import command
from asr.transcribe.recogniser import Recogniser, load

Samples = np.ndarray
Sound = Callable[[Samples, int], Samples]
"""What is added to a recording, which it may depend on, and how many samples of it."""

RATE = 16000
STEP, WINDOW = 160, 400
GATE_DECIBELS, NOISE_DECIBELS, MUSIC_DECIBELS = 25.0, -15.0, -10.0
"""The gate opens so far below the loudest; the others are relative to the power of the speech."""


@dataclass(frozen=True)
class Spoken:
    """A recording with its text."""

    samples: Samples
    text: str


def levels(samples: Samples) -> np.ndarray:
    """Power of every window of 25 ms, in decibels."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STEP]
    return 10 * np.log10(np.square(frames, dtype=np.float64).mean(axis=1) + 1e-12)


def scaled(sound: Samples, speech: Samples, decibels: float) -> Samples:
    """`sound` with a power relative to that of the speech, without its pauses."""
    level = levels(speech)
    power = (10 ** (level[level > level.max() - 30] / 10)).mean()
    power *= 10 ** (decibels / 10) / np.square(sound, dtype=np.float64).mean()
    return (sound * np.sqrt(power)).astype(np.float32)


def zeros(speech: Samples, count: int) -> Samples:
    return np.zeros(count, np.float32)


def room_tone(speech: Samples, count: int) -> Samples:
    """Steady noise with the spectrum and the level of the quietest 0.3 s of the recording."""
    level = levels(speech)
    width = min(28, len(level))
    start = int(np.convolve(level, np.ones(width), "valid").argmin()) * STEP
    quiet = speech[start : start + 4800].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(quiet * np.hanning(len(quiet)), 4096))
    noise = np.fft.rfft(np.random.default_rng(1).standard_normal(count))
    noise *= np.interp(np.linspace(0, 1, len(noise)), np.linspace(0, 1, len(spectrum)), spectrum)
    tone = np.fft.irfft(noise, count)
    return (tone * np.sqrt(np.square(quiet).mean() / (np.square(tone).mean() + 1e-30))).astype(
        np.float32
    )


def music(speech: Samples, count: int) -> Samples:
    """Two chords a second that die away."""
    random, sound = np.random.default_rng(2), np.zeros(count)
    for start in range(0, count, RATE // 2):
        time = np.arange(count - start) / RATE
        root = 110 * 2 ** (int(random.integers(24)) / 12)
        for hertz in root * np.outer((1, 1.26, 1.5), range(1, 9)).ravel():
            sound[start:] += np.sin(2 * np.pi * hertz * time) * np.exp(-3 * time) * root / hertz
    return scaled(sound, speech, MUSIC_DECIBELS)


def recorded(noise: Samples) -> Sound:
    """A piece of `noise`, another one for every recording."""
    random = np.random.default_rng(3)

    def sound(speech: Samples, count: int) -> Samples:
        start = int(random.integers(max(1, len(noise) - count)))
        return scaled(np.resize(noise[start:], count), speech, NOISE_DECIBELS)

    return sound


def gated(samples: Samples) -> Samples:
    """Zeros where a noise gate is closed; it stays open 40 ms before and behind a sound."""
    level = levels(samples)
    opened = np.convolve(level > level.max() - GATE_DECIBELS, np.ones(9), "same") > 0
    opened = np.repeat(opened, STEP)[: len(samples)]
    opened = np.pad(opened, (0, len(samples) - len(opened)), mode="edge")
    return np.where(opened, samples, 0).astype(np.float32)


def between(samples: Samples, sound: Sound, count: int) -> Samples:
    """`count` samples of a sound in two quiet places."""
    level = np.convolve(levels(samples), np.ones(8), "same")
    parts, reached = [], 0
    for i in range(2):
        first, last = int(len(level) * (i + 0.6) / 2.2), int(len(level) * (i + 1) / 2.2)
        place = (first + int(level[first : last + 1].argmin())) * STEP + WINDOW // 2
        parts += [samples[reached:place], sound(samples, count)]
        reached = place
    return np.concatenate([*parts, samples[reached:]])


def joined(recordings: list[Spoken]) -> list[Spoken]:
    """Two and two, the first at a level of up to 20 dB less; the last stays away if it is odd."""
    random = np.random.default_rng(4)
    order = random.permutation(len(recordings))
    pairs = [(recordings[a], recordings[b]) for a, b in zip(order[::2], order[1::2], strict=False)]
    gains = 10 ** (random.uniform(-1, 0, len(pairs)))
    return [
        Spoken(np.concatenate([a.samples * np.float32(g), b.samples]), f"{a.text} {b.text}")
        for (a, b), g in zip(pairs, gains, strict=True)
    ]


def added(recordings: list[Spoken], sound: Sound, place: str, seconds: float) -> list[Spoken]:
    """All recordings with a sound `before`, `behind` or twice `between` their words."""
    count, changed = round(seconds * RATE), []
    for recording in recordings:
        samples = recording.samples
        if place == "between":
            samples = between(samples, sound, count)
        else:
            parts = [samples, sound(samples, count)]
            samples = np.concatenate(parts if place == "behind" else parts[::-1])
        changed.append(Spoken(samples, recording.text))
    return changed


def conditions(noise: Samples | None) -> list[tuple[str, Sound | None, str, float]]:
    """Name, sound, place and seconds of every row."""
    rows: list[tuple[str, Sound | None, str, float]] = [
        ("nothing", None, "", 0.0),
        ("zeros", zeros, "behind", 2.0),
        ("zeros", zeros, "behind", 4.0),
        ("zeros", zeros, "behind", 8.0),
        ("zeros", zeros, "before", 4.0),
        ("zeros", zeros, "between", 2.0),
        ("room tone", room_tone, "behind", 4.0),
        ("room tone", room_tone, "behind", 8.0),
        ("room tone", room_tone, "before", 4.0),
        ("music", music, "behind", 4.0),
        ("music", music, "before", 4.0),
    ]
    if noise is not None:
        rows += [
            ("noise", recorded(noise), "behind", 4.0),
            ("noise", recorded(noise), "before", 4.0),
        ]
    return [*rows, ("noise gate", None, "gate", 0.0), ("another speaker", None, "joined", 0.0)]


def change(recordings: list[Spoken], sound: Sound | None, place: str, seconds: float) -> list:
    """The recordings of a row."""
    if place == "joined":
        return joined(recordings)
    if place == "gate":
        return [Spoken(gated(r.samples), r.text) for r in recordings]
    return recordings if sound is None else added(recordings, sound, place, seconds)


def recognisers(model: str, kinds: list[str]) -> dict[str, Recogniser]:
    """The same network with another normalisation, by its name."""
    found = {}
    for kind in kinds:
        backend = load(model, threads=1).backend
        frontend = replace(backend.frontend, normalise=kind)  # type: ignore[arg-type]
        backend.metadata = replace(backend.metadata, frontend=frontend)
        found[kind] = Recogniser(backend, backend.tokenizer, DecoderOptions())
    return found


def error_rate(recogniser: Recogniser, recordings: list[Spoken]) -> dict[str, float]:
    """WER with its interval over recordings, and CER."""
    order = sorted(range(len(recordings)), key=lambda i: -len(recordings[i].samples))
    found = recogniser.transcribe(recordings[i].samples for i in order)
    texts = [normalise(transcript.text) for transcript in found]
    figures = score([normalise(recordings[i].text) for i in order], texts)
    return {"wer": figures.wer, "low": figures.wer_low, "high": figures.wer_high} | {
        "cer": figures.cer
    }


def read(entry: str, most: int) -> list[Spoken]:
    """At most so many recordings of a set, from all over it."""
    utterances = sources.resolve(entry)
    step = max(1, len(utterances) // most)
    return [Spoken(audio.load(u.source, RATE).samples, u.text) for u in utterances[::step][:most]]


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a model file, or the name of a recogniser")
    parser.add_argument("sets", nargs="+", help="manifests, or folders of recordings with texts")
    parser.add_argument("--normalise", nargs="+", default=["utterance", "speech"])
    parser.add_argument("--noise", type=Path, help="a recording of noise")
    parser.add_argument("--utterances", type=int, default=60, help="of each set, at most")
    parser.add_argument("-o", "--output", type=Path, help="the record, .json")
    arguments = parser.parse_args(words)
    kinds = recognisers(arguments.model, arguments.normalise)
    noise = audio.load(arguments.noise, RATE).samples if arguments.noise else None
    sets = {Path(entry).name: read(entry, arguments.utterances) for entry in arguments.sets}
    if len(sets) < len(arguments.sets):
        raise AsrError("two of the sets have the same name; give one of them another")
    columns = [DisplayColumn("Added", "added"), DisplayColumn("Seconds", "seconds", "g")]
    keys = [(name, kind) for name in sets for kind in kinds]
    columns += [DisplayColumn(f"{n}, {kind}", f"{n} {kind}", "percent") for n, kind in keys]
    rows: list[dict[str, Any]] = []
    details: dict[str, Any] = {}
    for name, sound, place, seconds in conditions(noise):
        label = f"{name} {place}" if seconds else name
        row: dict[str, Any] = {"added": label, "seconds": seconds}
        for entry, recordings in sets.items():
            changed = change(recordings, sound, place, seconds)
            for kind, recogniser in kinds.items():
                found = error_rate(recogniser, changed)
                row[f"{entry} {kind}"] = found["wer"]
                details[f"{label} {seconds:g}, {entry}, {kind}"] = found
        rows.append(row)
        print(label, *(f"{100 * row[f'{n} {kind}']:.1f}" for n, kind in keys), flush=True)
    print(table_of(columns, rows).text())
    if arguments.output:
        counts = ", ".join(f"{len(recordings)} of {name}" for name, recordings in sets.items())
        note = (
            f"WER %, greedy; {counts}. Between: twice so many seconds. Room tone: steady noise "
            "like the quietest 0.3 s of the recording; noise 15 dB and music 10 dB below the "
            f"speech; a gate {GATE_DECIBELS:g} dB below the loudest; another speaker: two "
            "recordings in one, the first up to 20 dB quieter."
        )
        label = Path(arguments.model).stem
        write_measurement(
            arguments.output, "silence", label, command(), columns, rows, [note], details
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"silence: {error}")
