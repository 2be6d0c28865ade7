"""Any recording -> mono float32 -> chunks; no torch."""

from asr.audio.find import AUDIO_SUFFIXES, RECORDING_SUFFIXES, AudioFile, find, is_recording, walk
from asr.audio.mix import INVALID, MAX_AMPLITUDE, is_valid
from asr.audio.read import (
    Audio,
    OpenRecording,
    header_seconds,
    length,
    load,
    open_file,
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
    "is_recording",
    "is_valid",
    "length",
    "load",
    "open_file",
    "open_recording",
    "stream",
    "walk",
]
