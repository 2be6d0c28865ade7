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
    return out
