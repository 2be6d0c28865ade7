"""A slow float64 reference for both implementations of the log-mel features."""

import numpy as np

from asr.features.settings import Frontend


def mel(hertz: float) -> float:
    return 2595 * np.log10(1 + hertz / 700)


def mel_triangles(s: Frontend) -> np.ndarray:
    """Triangles of peak 1 on the HTK scale, (bins, mels)."""
    edges = np.linspace(mel(s.low_hertz), mel(s.high_hertz), s.mels + 2)
    edges = 700 * (10 ** (edges / 2595) - 1)
    bins = np.arange(s.fft_size // 2 + 1) * s.sample_rate / s.fft_size
    up = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(up, down), 0)


def reference(samples: np.ndarray, s: Frontend) -> np.ndarray:
    """Frame by frame in float64, (frames, mels)."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(s.window) / s.window)
    rows = []
    for i in range(s.frames(len(samples))):
        frame = samples[i * s.step : i * s.step + s.window].astype(np.float64) * hann
        # The position of the window within the zeros does not change the power.
        power = np.abs(np.fft.rfft(frame, s.fft_size)) ** 2
        rows.append(np.log(power @ mel_triangles(s) + s.log_floor))
    out = np.array(rows)
    if s.normalise == "utterance":
        out = (out - out.mean(0)) / (out.std(0) + 1e-5)
    if s.normalise == "speech":
        out = by_speech(out, round(1 / s.step_seconds))
    return out


def by_speech(rows: np.ndarray, second: int) -> np.ndarray:
    """Frame by frame; `second` is a second's number of frames."""
    level = 10 * np.log10(np.exp(rows).sum(1))
    loudest = np.sort(level)[-min(round(0.1 * second), len(level))]
    sound = level >= loudest - 60
    rank = int(0.05 * (sound.sum() - 1))
    background = np.sort(level[sound])[rank]
    rows = np.where(sound[:, None], rows, np.sort(rows[sound], axis=0)[rank])
    below = max(min(40.0, 0.6 * (loudest - background)), 6.0)
    spoken = np.flatnonzero(level >= loudest - below)
    speech = [i for i in range(len(rows)) if min(abs(spoken - i)) <= round(0.3 * second)]
    mean, square = rows[speech].mean(0), np.square(rows[speech] - rows[speech].mean(0)).mean(0)
    out = []
    for i, row in enumerate(rows):
        near = [j for j in speech if abs(i - j) <= round(2.5 * second)]
        weight = len(near) + 5 * second
        here = (rows[near].sum(0) + 5 * second * mean) / weight
        squares = np.square(rows[near] - mean).sum(0) + 5 * second * square
        deviation = np.sqrt(np.maximum(squares / weight - np.square(here - mean), 0))
        out.append((row - here) / (deviation + 1e-5))
    return np.array(out)
