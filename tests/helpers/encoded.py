"""Recordings as bytes, in every kind of file that soundfile and PyAV write."""

import io
from fractions import Fraction

import av
import numpy as np
import soundfile

RATE = 16000
SOUNDFILE = {
    "wav": {"format": "WAV"},
    "float.wav": {"format": "WAV", "subtype": "FLOAT"},
    "ulaw.wav": {"format": "WAV", "subtype": "ULAW"},
    "adpcm.wav": {"format": "WAV", "subtype": "MS_ADPCM"},
    "aiff": {"format": "AIFF"},
    "au": {"format": "AU"},
    "caf": {"format": "CAF"},
    "w64": {"format": "W64"},
    "rf64": {"format": "RF64"},
    "flac": {"format": "FLAC"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
    "vbr.mp3": {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.9},
    "abr.mp3": {"format": "MP3", "bitrate_mode": "AVERAGE", "compression_level": 0.6},
}
MEDIA = {
    "m4a": ("mp4", "aac"),
    "webm": ("webm", "libopus"),
    "mkv": ("matroska", "aac"),
    "ts": ("mpegts", "aac"),
    "avi": ("avi", "mp2"),
    "wmv": ("asf", "wmav2"),
    "aac": ("adts", "aac"),
    "weba": ("webm", "libopus"),
    "mp2": ("mp2", "mp2"),
}


def sound(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Bursts of noise with pauses, as speech has them: encoders of variable rate notice."""
    count = round(seconds * rate)
    noise = np.random.default_rng(seed).standard_normal(count)
    bursts = np.sin(2 * np.pi * 0.7 * np.arange(count) / rate) > 0
    return (0.1 * noise * bursts).astype(np.float32)


def encode(kind: str, samples: np.ndarray, rate: int = RATE) -> bytes:
    """`(samples,)` or `(samples, channels)` as a file of a kind, one of SOUNDFILE or MEDIA."""
    file = io.BytesIO()
    if kind in SOUNDFILE:
        soundfile.write(file, samples, rate, **SOUNDFILE[kind])
        return file.getvalue()
    name, codec = MEDIA[kind]
    layout = "mono" if samples.ndim == 1 else "stereo"
    with av.open(file, "w", format=name) as container:
        track = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.atleast_2d(samples.T)), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        convert = av.AudioResampler(format=track.codec_context.format, layout=layout, rate=rate)
        fifo = av.AudioFifo()
        for part in convert.resample(frame):
            fifo.write(part)
        size = track.codec_context.frame_size or 1024
        while part := fifo.read(size, partial=True):
            container.mux(track.encode(part))
        container.mux(track.encode())
    return file.getvalue()
