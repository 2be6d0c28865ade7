"""Any recording -> mono float32 -> chunks; no torch."""

from asr.audio.clip import Clip
from asr.audio.find import AUDIO_SUFFIXES, RECORDING_SUFFIXES, AudioFile, find, is_recording, walk
from asr.audio.mix import MAX_AMPLITUDE
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
    "MAX_AMPLITUDE",
    "RECORDING_SUFFIXES",
    "Audio",
    "AudioFile",
    "Clip",
    "OpenRecording",
    "find",
    "header_seconds",
    "is_recording",
    "length",
    "load",
    "open_file",
    "open_recording",
    "stream",
    "walk",
]
