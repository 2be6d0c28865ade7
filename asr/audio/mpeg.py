"""MPEG audio (MP3, MP2): its frames counted one by one.

Its only length is that of a Xing, Info or VBRI frame, which need not be there, nor right. Decoders
estimate it from the first frame where there is none, and stop too early. Counting takes
a thirtieth of the time of decoding. (Frame headers: ISO 11172-3 section 2.4.2.3, 13818-3.)
"""

import re
import struct
from dataclasses import dataclass, field

from asr.audio.layout import Extent, Part, Window

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Samples a second, by the number of the version: 3 is MPEG 1, 2 is MPEG 2, 0 is 2.5."""
_HIGH = (
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_LOW = (
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
"""Kilobits a second of layers I, II and III; MPEG 1, and the others."""
_SYNC = re.compile(rb"\xff[\xe0-\xff][\x10-\xef]", re.DOTALL)
_TAG = re.compile(rb"ID3[\2-\4]|TAG|APETAGEX")
_SYNC_OR_TAG = re.compile(_SYNC.pattern + b"|" + _TAG.pattern, re.DOTALL)


@dataclass(frozen=True)
class Frame:
    """What the four bytes of a header say."""

    size: int
    samples: int
    kind: tuple[int, int, int, bool]
    """Version, layer, rate and whether it has one channel: equal in all frames of a stream."""


@dataclass
class MpegStream:
    """Frames of one kind that belong together."""

    start: int
    first: Frame
    end: int = 0
    frames: int = 0
    """Without the one that holds the length."""
    promised: int | None = None
    """Frames that Xing or VBRI count."""
    count_at: int = 0
    """Where they do."""
    sizes: set[int] = field(default_factory=set)


@dataclass
class Scan:
    """All frames of a file."""

    streams: list[MpegStream] = field(default_factory=list)
    lost: int = 0
    """Bytes between frames that are neither frames nor tags."""
    partial: bool = False
    """The last frame is not all there."""


def frame(head: bytes) -> Frame | None:
    """A frame by the first four bytes of its header; None if they are not one."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kilobits, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or kilobits in (0, 15) or rate == 3:
        return None
    bits = (_HIGH if version == 3 else _LOW)[layer - 1][kilobits - 1] * 1000
    hertz = _RATES[version][rate]
    mono = head[3] >> 6 == 3
    if layer == 1:
        return Frame((12 * bits // hertz + padding) * 4, 384, (version, layer, hertz, mono))
    samples = 576 if layer == 3 and version != 3 else 1152
    size = samples // 8 * bits // hertz + padding
    return Frame(size, samples, (version, layer, hertz, mono))


def scan(window: Window, start: int = 0, end: int | None = None) -> Scan:
    """Walk over all frames from `start` to `end`."""
    result, known = Scan(), dict[bytes, Frame | None]()
    at, end, junk = start, window.size if end is None else end, 0
    while end - at >= 4:
        head = window.read(at, 4)
        if head not in known:
            known[head] = frame(head)
        found = known[head]
        if found is None:
            behind = _after_tag(window, at, end)
            if behind is None:
                behind = _resync(window, at + 1, end)
                if window.read(at, behind - at).strip(b"\0"):
                    junk += behind - at
            at = behind
        elif at + found.size > end:
            result.partial = bool(result.streams)
            break
        else:
            # What is before the first frame or behind the last is not sound that was lost.
            result.lost += junk if result.streams else 0
            junk = 0
            _add(window, result, at, found)
            at += found.size
    return result


def _add(window: Window, result: Scan, at: int, found: Frame) -> None:
    """Count a frame: to the stream before it, or as the first of a new one."""
    count_at = _count_at(window, at, found)
    last = result.streams[-1] if result.streams else None
    if last is None or count_at or last.first.kind != found.kind:
        last = MpegStream(at, found)
        result.streams.append(last)
        if count_at:
            last.count_at = count_at
            (last.promised,) = struct.unpack(">I", window.read(count_at, 4))
            last.end = at + found.size
            return
    last.frames += 1
    last.sizes.add(found.size)
    last.end = at + found.size


def _count_at(window: Window, at: int, found: Frame) -> int:
    """Where a frame says how many follow it; 0 if it is a frame of sound."""
    version, layer, _, mono = found.kind
    if layer != 3:
        return 0
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    for place in (at + 4 + side, at + 6 + side):
        mark = window.read(place, 8)
        if mark[:4] in (b"Xing", b"Info"):
            return place + 8 if mark[7:8] and mark[7] & 1 else 0
    return at + 50 if window.read(at + 36, 4) == b"VBRI" else 0


def _after_tag(window: Window, at: int, end: int) -> int | None:
    """Where the tag at `at` ends; None if there is none."""
    head = window.read(at, 32)
    if head[:3] == b"ID3" and len(head) >= 10:
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        return min(at + 10 + size + (10 if head[5] & 0x10 else 0), end)
    if head[:3] == b"TAG":
        return min(at + 128, end)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size, _, flags = struct.unpack("<III", head[12:24])
        is_header = flags & 1 << 29
        return min(at + 32 + (size if is_header else 0), end)
    return None


def _resync(window: Window, at: int, end: int) -> int:
    """The next place where two frames of a kind follow each other, or a tag begins."""
    for place in window.search(_SYNC_OR_TAG, at):
        if place >= end:
            break
        if _TAG.match(window.read(place, 16)):
            return place
        found = frame(window.read(place, 4))
        if found is None:
            continue
        behind = place + found.size
        following = frame(window.read(behind, 4))
        if behind == end or (following is not None and following.kind == found.kind):
            return place
    return end


def is_mpeg(window: Window) -> bool:
    """Whether frames in a row begin within the first 64 KB, after tags and what else there is."""
    at = 0
    while at < window.size and (behind := _after_tag(window, at, window.size)) is not None:
        at = behind
    limit = min(at + (1 << 16), window.size)
    while at < limit:
        first = at if frame(window.read(at, 4)) else _resync(window, at, limit)
        if _in_a_row(window, first):
            return True
        at = first + 1
    return False


def _in_a_row(window: Window, at: int) -> bool:
    """Whether three frames of a kind follow each other, or fewer up to the end of the file."""
    kinds = set()
    for _ in range(3):
        if at == window.size:
            break
        found = frame(window.read(at, 4))
        if found is None:
            return False
        kinds.add(found.kind)
        at += found.size
    return len(kinds) == 1


def layout(window: Window, start: int = 0, end: int | None = None) -> Extent:
    """Where the streams of a file lie, each with a count of frames that is right."""
    found = scan(window, start, end)
    result = Extent([])
    parts = []
    for stream in found.streams:
        if not stream.frames:
            continue
        parts.append(_part(window, stream, result))
    result.parts = parts
    if found.partial:
        result.damage = result.damage or "truncated, its last frame is not all there"
    if found.lost:
        result.damage = f"damaged, {found.lost} bytes in it are not sound"
    return result


def _part(window: Window, stream: MpegStream, result: Extent) -> Part:
    seconds = stream.first.samples / stream.first.kind[2]
    if stream.promised is None:
        prefix = _counting(stream) if stream.first.kind[1] == 3 else b""
        return Part(stream.start, stream.end, prefix=prefix)
    # A frame that Xing counts too many is its own, of some encoders.
    if stream.promised > stream.frames + 1:
        there, whole = stream.frames * seconds, stream.promised * seconds
        result.damage = f"truncated, {there:.2f} s of {whole:.2f} s are there"
        samples = stream.frames * stream.first.samples
        return Part(stream.start, stream.end, samples=samples)
    if stream.promised < stream.frames - 1:
        result.notes.append("its header gives a wrong length: read to the end")
        return Part(
            stream.start, stream.end, ((stream.count_at, struct.pack(">I", stream.frames)),)
        )
    return Part(stream.start, stream.end)


def _counting(stream: MpegStream) -> bytes:
    """A frame of silence that says how many follow, as encoders write it into a file."""
    version, layer, hertz, mono = stream.first.kind
    rate = _RATES[version].index(hertz)
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    for kilobits in range(1, 15):
        head = bytes(
            [0xFF, 0xE1 | version << 3 | (4 - layer) << 1, kilobits << 4 | rate << 2, mono * 0xC0]
        )
        found = frame(head)
        assert found is not None
        if found.size >= 4 + side + 16:
            size = stream.end - stream.start + found.size
            tag = b"Xing" + struct.pack(">III", 3, stream.frames, size)
            return (head + bytes(side) + tag).ljust(found.size, b"\0")
    raise AssertionError(stream)
