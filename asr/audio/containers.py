"""Audio of containers that libsndfile does not read (m4a, mp4, webm, ...): extra `media`, PyAV.

No program needs to be installed beside it: PyAV's wheels carry the FFmpeg libraries.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import AsrError

MEDIA_SUFFIXES = (
    ".3gp",
    ".aac",
    ".amr",
    ".m4a",
    ".m4b",
    ".m4v",
    ".mka",
    ".mkv",
    ".mov",
    ".mp4",
    ".webm",
    ".wma",
)
"""Suffixes of the files that the extra is needed for, in lower case."""

_MISSING_SECONDS, _MISSING_FRACTION = 0.25, 0.02
"""Encoders pad and trim: a file is truncated if more than both of these is missing."""


def available() -> bool:
    """Whether the extra is installed."""
    try:
        import av  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


@contextmanager
def open_audio(path: Path) -> Iterator[tuple[int, int, Iterator[np.ndarray]]]:
    """Sample rate, channels and blocks `(samples, channels)` of the first audio stream of a file.

    Raises AsrError naming the file if the extra is missing, if it has no audio, or, from the
    blocks, if it is damaged or truncated.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise AsrError(
            f"{path}: {path.suffix or 'this kind of file'} needs the package av: "
            "pip install 'asr[media]'"
        ) from None
    try:
        container: Any = av.open(str(path))
    except UnicodeEncodeError:
        raise AsrError(f"{path}: its name is not UTF-8, rename it") from None
    except (av.error.FFmpegError, OSError) as error:
        raise AsrError(f"{path}: not audio that can be read ({_reason(error)})") from error
    with container:
        if not container.streams.audio:
            raise AsrError(f"{path}: has no audio stream")
        stream = container.streams.audio[0]
        context = stream.codec_context
        if context is None or not context.sample_rate:
            raise AsrError(f"{path}: its audio has a codec that cannot be decoded")
        yield context.sample_rate, context.channels, _blocks(path, container, stream)


def _blocks(path: Path, container: Any, stream: Any) -> Iterator[np.ndarray]:
    import av

    rate, decoded = stream.codec_context.sample_rate, 0
    promised = _promised_seconds(container, stream)
    to_floats = av.AudioResampler(format="fltp", rate=rate)
    try:
        for frame in container.decode(stream):
            for part in to_floats.resample(frame):
                block = part.to_ndarray().T
                decoded += len(block)
                yield block
    except av.error.FFmpegError as error:
        raise AsrError(f"{path}: damaged or truncated ({_reason(error)})") from error
    missing = promised - decoded / rate
    if missing > max(_MISSING_SECONDS, _MISSING_FRACTION * promised):
        raise AsrError(
            f"{path}: truncated, its header promises {promised:.2f} s of audio; "
            f"{decoded / rate:.2f} s are there"
        )


def _promised_seconds(container: Any, stream: Any) -> float:
    """Duration of the audio by the header; 0 if unknown. The video may be longer."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and not container.streams.video:
        return float(container.duration / 1_000_000)
    return 0.0


def seconds(path: Path) -> float:
    """Duration in seconds by the header; 0 if unknown, or if the file cannot be read."""
    if not available():
        return 0.0
    import av

    try:
        with av.open(str(path)) as container:
            streams = container.streams.audio
            return _promised_seconds(container, streams[0]) if streams else 0.0
    except (av.error.FFmpegError, OSError, UnicodeEncodeError):
        return 0.0


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
