"""Any recording -> mono float32 -> chunks; no torch."""

from asr.audio.read import (
    AUDIO_SUFFIXES,
    LOUDEST,
    RECORDING_SUFFIXES,
    UNSOUND,
    Audio,
    Recording,
    Sound,
    find,
    header_seconds,
    is_sound,
    load,
    mono,
    open_sound,
    stream,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "LOUDEST",
    "RECORDING_SUFFIXES",
    "UNSOUND",
    "Audio",
    "Recording",
    "Sound",
    "find",
    "header_seconds",
    "is_sound",
    "load",
    "mono",
    "open_sound",
    "stream",
]
