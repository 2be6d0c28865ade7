"""Audio of containers that libsndfile does not read (m4a, mp4, webm, ...): extra `media`, PyAV.

No program needs to be installed beside it: PyAV's wheels carry the FFmpeg libraries.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio.layout import Extent, Part, View, Window, split
from asr.errors import AsrError, install

MEDIA_SUFFIXES = (
    ".3g2",
    ".3gp",
    ".aac",
    ".ac3",
    ".adts",
    ".amr",
    ".ape",
    ".asf",
    ".avi",
    ".awb",
    ".dts",
    ".eac3",
    ".f4v",
    ".flv",
    ".m2ts",
    ".m4a",
    ".m4b",
    ".m4v",
    ".mka",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogm",
    ".ogv",
    ".ogx",
    ".spx",
    ".ts",
    ".tta",
    ".vob",
    ".weba",
    ".webm",
    ".wma",
    ".wmv",
    ".wv",
)
"""Suffixes of the files that the extra is needed for, in lower case."""

_SIGNATURES = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"\0\0\0[\x08-\xff]ftyp",
        rb"\x1a\x45\xdf\xa3.{1,60}?(?:webm|matroska)",
        rb"#!AMR(?:-WB)?\n",
        rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c",
        rb"RIFF.{4}AVI LIST",
        rb"FLV\x01[\x01\x04\x05]\0\0\0\x09\0\0\0\0",
        rb"TTA1[\x01-\x03]\0",
    )
)
"""How files begin that may stand one behind the other in a file."""
_OTHERS = re.compile(
    rb"\x0b\x77|\0\0\x01\xba|wvpk|MAC |\x7f\xfe\x80\x01|.{4}(?:moov|mdat|wide|free)"
    rb"|\xff[\xf0\xf1\xf8\xf9][\x40-\x7f]",
    re.DOTALL,
)
_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,dtshd,eac3,flac,flv,gsm,loas,matroska,webm,"
    "mlp,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,mpegtsraw,mpegvideo,mxf,nut,ogg,oma,rm,"
    "shn,tak,truehd,tta,voc,w64,wav,wv"
)
"""Kinds of files that hold their sound. FFmpeg also reads play lists and session descriptions, of a
few bytes, which name files of this machine or addresses for it to open."""
_ESTIMATED = {"aac", "ac3", "amr", "dts", "eac3", "loas", "mp3", "mpeg", "mpegts"}
"""Formats that have no header with a length: FFmpeg estimates it from the size of the file."""
_TRUNCATED = "truncated, its header promises more than the file holds"
_MISSING_SECONDS, _MISSING_FRACTION = 0.25, 0.02
"""Encoders pad and trim: a file is truncated if more than both of these is missing."""


def available() -> bool:
    """Whether the extra is installed."""
    try:
        import av  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def looks_like_one(head: bytes) -> bool:
    """Whether a file whose first bytes these are may be read by this module."""
    if any(signature.match(head) for signature in _SIGNATURES) or _OTHERS.match(head):
        return True
    return _is_stream(head)


def _is_stream(head: bytes) -> bool:
    """Packets of an MPEG transport stream, alone or with four bytes of time before each."""
    return head[0::188][:3] == b"GGG" or head[4::192][:3] == b"GGG"


def layout(window: Window) -> Extent:
    """Where files lie that were written one behind the other; usually one, the whole."""
    head = window.read(0, 1024)
    if _is_stream(head):
        packet = 188 if head[:1] == b"G" else 192
        damage = "truncated, its last packet is not all there" if window.size % packet else ""
        return Extent([Part(0, window.size)], damage)
    for signature in _SIGNATURES:
        if signature.match(head):
            parts = [Part(start, end) for start, end in split(window, signature)]
            whole = all(part.end >= _promised_end(window, part.start) for part in parts)
            return Extent(parts, "" if whole else _TRUNCATED)
    return Extent([Part(0, window.size)])


def _promised_end(window: Window, at: int) -> int:
    """Where the file that begins at `at` ends, by the lengths of its outermost elements."""
    head = window.read(at, 16)
    if head.startswith(b"RIFF"):
        return at + 8 + int.from_bytes(head[4:8], "little")
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        at = _matroska_end(window, at, 4)
        return _matroska_end(window, at, 4) if window.read(at, 4) == b"\x18\x53\x80\x67" else at
    if head[4:8] != b"ftyp":
        return at
    while True:
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size < 8:
            return at if size else window.size
        at += size
        head = window.read(at, 16)
        if len(head) < 8 or head[4:8] == b"ftyp" or not head[4:8].isalnum():
            return at


def _matroska_end(window: Window, at: int, name: int) -> int:
    """Where an element of Matroska ends; where its content begins if its length is not known."""
    first = window.read(at + name, 1)
    if not first or not first[0]:
        return at
    count = 9 - first[0].bit_length()
    number = int.from_bytes(window.read(at + name, count), "big") & ((1 << 7 * count) - 1)
    unknown = number == (1 << 7 * count) - 1
    return at + name + count + (0 if unknown else number)


@dataclass
class Track:
    """The audio of an open container."""

    rate: int
    channels: int
    seconds: float
    """By its header; 0 if that says nothing."""
    tracks: int
    """Audio tracks that the container has."""
    blocks: Iterator[np.ndarray]
    """All samples once, in blocks `(samples, channels)` of float32."""
    damage: list[str] = field(default_factory=list)
    """What turned out to be missing while the blocks were read."""


@contextmanager
def open_audio(path: str | Path, file: View) -> Iterator[Track]:
    """The default audio track of a container.

    Raises AsrError naming the file if the extra is missing or if it has no audio.
    """
    try:
        import av
    except ModuleNotFoundError:
        kind = Path(path).suffix or "this kind of file"
        raise AsrError(f"{path}: {kind} needs the package av: {install('media')}") from None
    try:
        safe = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
        container: Any = av.open(file, options=safe)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AsrError(f"{path}: not audio that can be read ({reason(error)})") from error
    with container:
        if not container.streams.audio:
            raise AsrError(f"{path}: has no audio stream")
        stream = container.streams.best("audio") or container.streams.audio[0]
        context = stream.codec_context
        if context is None or not context.sample_rate:
            raise AsrError(f"{path}: its audio has a codec that cannot be decoded")
        track = Track(
            context.sample_rate,
            context.channels,
            _promised_seconds(container, stream),
            len(container.streams.audio),
            iter(()),
        )
        track.blocks = _blocks(container, stream, track)
        yield track


def _blocks(container: Any, stream: Any, track: Track) -> Iterator[np.ndarray]:
    """Decode all packets; one that cannot be decoded is passed over and said."""
    import av

    decoded, bad, converter = 0, 0, _Converter(track.rate)
    packets = container.demux(stream)
    while True:
        packet, blocks = None, []
        try:
            packet = next(packets)
            bad += bool(packet.is_corrupt)
            blocks = [block for frame in packet.decode() for block in converter.blocks(frame)]
        except (StopIteration, av.error.EOFError):
            break
        except IndexError:
            # At its end PyAV looks for tracks that a damaged stream has named on the way.
            break
        except av.error.FFmpegError as error:
            bad += 1
            # What gives no packet may say so again and again.
            if packet is None and not isinstance(error, av.error.InvalidDataError):
                break
        for block in blocks:
            decoded += len(block)
            yield block
    there = decoded / track.rate
    missing = track.seconds - there
    if missing > max(_MISSING_SECONDS, _MISSING_FRACTION * track.seconds):
        track.damage.append(f"truncated, {there:.2f} s of {track.seconds:.2f} s are there")
    elif bad:
        track.damage.append(f"damaged, {bad} of its packets cannot be decoded")


class _Converter:
    """Frames of any format, layout and rate -> blocks `(samples, channels)` of float32.

    In joined and in damaged files, frames of several kinds follow each other; a resampler takes
    frames of one kind.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._kind: tuple[str, str, int] | None = None
        self._resampler: Any = None

    def blocks(self, frame: Any) -> list[np.ndarray]:
        """The blocks of a frame. Raises FFmpegError for one that cannot be converted."""
        import av

        kind, resampler = (frame.format.name, frame.layout.name, frame.sample_rate), self._resampler
        if kind != self._kind:
            # Packed: of eight planes or more, PyAV reads one that is not there.
            resampler = av.AudioResampler(format="flt", rate=self._rate)
        parts = resampler.resample(frame)
        self._kind, self._resampler = kind, resampler  # one that has failed is not used again
        return [part.to_ndarray().reshape(-1, part.layout.nb_channels) for part in parts]


def _promised_seconds(container: Any, stream: Any) -> float:
    """Duration of the audio by the header; 0 if unknown. The video may be longer."""
    if container.format.name in _ESTIMATED:
        return 0.0
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and not container.streams.video:
        return float(container.duration / 1_000_000)
    return 0.0


def reason(error: Exception) -> str:
    """What FFmpeg says, without the name of the file."""
    return str(getattr(error, "strerror", None) or error)
