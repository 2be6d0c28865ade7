"""Any recording -> mono float32 -> chunks; no torch."""

from asr.audio.read import (
    AUDIO_SUFFIXES,
    INVALID,
    MAX_AMPLITUDE,
    RECORDING_SUFFIXES,
    Audio,
    AudioFile,
    OpenRecording,
    find,
    header_seconds,
    is_valid,
    load,
    mono,
    open_recording,
    stream,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "INVALID",
    "MAX_AMPLITUDE",
    "RECORDING_SUFFIXES",
    "Audio",
    "AudioFile",
    "OpenRecording",
    "find",
    "header_seconds",
    "is_valid",
    "load",
    "mono",
    "open_recording",
    "stream",
]
