"""WAV, RF64, W64, AIFF, CAF, AU and NIST SPHERE: a header, then samples of which it says how many.

Programs that write to a pipe do not know how many and leave 0 or the largest number there; others
count the header too. Where the sound ends is therefore decided by the file: at the next chunk, at
the next file written behind this one, or where the bytes end. Fewer bytes than promised is a cut.
"""

import re
import struct
from dataclasses import dataclass

from asr.audio.layout import Extent, Part, Window, split
from asr.audio.mpeg import layout as mpeg_layout

SIGNATURE = re.compile(
    rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE(?:fmt |JUNK|bext|LIST|ds64|PAD |FLLR)"
    rb"|FORM.{4}AIF[FC](?:COMM|FVER|MARK|INST|NAME|ANNO|COMT)"
    rb"|caff\0\x01\0\0desc"
    rb"|riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"
    rb"|\.snd\0\0[\0-\x0f].{5}\0\0\0[\x01-\x1b]"
    rb"|NIST_1A\n",
    re.DOTALL,
)
"""How a file of these kinds begins."""
_MISCOUNTED = 512
"""Bytes that a header may promise too many without the file being cut: a header counted twice."""
_OPEN_32, _OPEN_64 = 0x7FFF0000, 1 << 62
"""From here on a length says that nobody knew it."""
_OPEN = "its header gives no length: read to the end"
_WRONG = "its header gives a wrong length: read to the end"


@dataclass(frozen=True)
class _Kind:
    """How a family of chunks is written."""

    first: int
    """Where the first chunk begins."""
    order: str
    """Of bytes, as `struct` writes it."""
    name: int = 4
    """Bytes of a chunk's name."""
    size: str = "I"
    """Of a chunk's length."""
    counted: int = 0
    """Bytes that the length has too many: the chunk's own header."""
    align: int = 2
    """What chunks begin at a multiple of."""
    data: bytes = b"data"
    skipped: int = 0
    """Bytes of the data chunk before the samples."""
    format: bytes = b"fmt "

    @property
    def header(self) -> int:
        """Bytes of a chunk before its content."""
        return self.name + struct.calcsize(self.order + self.size)


_WAV = _Kind(12, "<")
_KINDS = {
    b"RIFF": _WAV,
    b"RIFX": _Kind(12, ">"),
    b"RF64": _WAV,
    b"BW64": _WAV,
    b"FORM": _Kind(12, ">", data=b"SSND", skipped=8, format=b"COMM"),
    b"caff": _Kind(8, ">", size="q", align=1, skipped=4, format=b"desc"),
    b"riff": _Kind(40, "<", name=16, size="Q", counted=24, align=8),
}


@dataclass(frozen=True)
class _Data:
    """What a header says of the samples."""

    start: int
    promised: int | None
    """Bytes of samples; None: nobody knew."""
    length_at: int = 0
    """Where the length is written; 0: nowhere that it could be corrected."""
    form: str = ""
    """How it is written, for `struct`."""
    extra: int = 0
    """What it counts beside the samples."""
    kind: _Kind | None = None
    """What may follow: chunks of that kind; None: nothing."""
    per_second: float = 0.0
    """Bytes of a second; 0: not known."""
    mpeg: bool = False
    """The samples are an MPEG stream."""


def layout(window: Window) -> Extent:
    """Where the samples of a file lie."""
    found, streams = _layout(window, [(0, window.size)])
    # Only a file whose header is not right is searched for others behind it.
    if found.notes or found.damage:
        found, streams = _layout(window, split(window, SIGNATURE))
    for start, end in streams:
        within = mpeg_layout(window, start, end)
        found.parts = [*found.parts, *within.parts]
        found.notes += within.notes
        found.damage = found.damage or within.damage
    return found


def _layout(window: Window, ranges: list[tuple[int, int]]) -> tuple[Extent, list[tuple[int, int]]]:
    """The same, and the ranges that hold an MPEG stream instead."""
    result, streams = Extent([]), []
    parts: list[Part] = []
    for start, end in ranges:
        data = _find(window, start, end)
        if data is None:
            parts.append(Part(start, end))
            continue
        size = _believed(window, data, end, result)
        if data.mpeg:
            streams.append((data.start, data.start + size))
        elif size == data.promised or not data.length_at:
            parts.append(Part(start, end))
        else:
            most = (1 << 8 * struct.calcsize(data.form)) - 1 >> (data.form[-1] == "q")
            length = struct.pack(data.form, min(size + data.extra, most))
            parts.append(Part(start, end, ((data.length_at, length),)))
    result.parts = parts
    return result, streams


def _believed(window: Window, data: _Data, end: int, result: Extent) -> int:
    """Bytes of samples that are there; what is wrong with the header's length goes to `result`."""
    there = max(end - data.start, 0)  # a cut may be before the samples begin
    if data.promised is None:
        result.notes.append(_OPEN)
    elif data.promised > there + _MISCOUNTED:
        amount = f"{there} of {data.promised} bytes of samples are there"
        if data.per_second:
            seconds, whole = there / data.per_second, data.promised / data.per_second
            amount = f"{seconds:.2f} s of {whole:.2f} s are there"
        result.damage = f"truncated, {amount}"
    elif data.promised > there:
        result.notes.append(_WRONG)
    elif _only_chunks(window, data.start + data.promised, end, data.kind):
        return data.promised
    else:
        result.notes.append(_WRONG if data.promised else _OPEN)
    return there


def _only_chunks(window: Window, at: int, end: int, kind: _Kind | None) -> bool:
    """Whether nothing but chunks lies from `at` to `end`, or so little that it does not matter."""
    if kind is not None:
        at += -at % kind.align
        while end - at > _MISCOUNTED:
            size = _chunk(window, at, kind)[1]
            if SIGNATURE.match(window.read(at, 64)) or not 0 <= size <= end - at:
                return False
            if not re.match(rb"[ -~]{4}", window.read(at, 4)):
                return False
            at += kind.header + size
            at += -at % kind.align
    return end - at <= _MISCOUNTED


def _chunk(window: Window, at: int, kind: _Kind) -> tuple[bytes, int]:
    """Name and length of the chunk at `at`; length -1 where the file ends."""
    head = window.read(at, kind.header)
    if len(head) < kind.header:
        return b"", -1
    (size,) = struct.unpack(kind.order + kind.size, head[kind.name :])
    return head[:4], size - kind.counted


def _find(window: Window, start: int, end: int) -> _Data | None:
    """What the header of the file from `start` to `end` says; None if it cannot be followed."""
    magic = window.read(start, 4)
    if magic == b".snd":
        return _au(window, start)
    if magic == b"NIST":
        return _sphere(window, start)
    kind = _KINDS[magic]
    at, per_second, mpeg, long_length = start + kind.first, 0.0, False, (0, 0)
    while at < end:
        name, size = _chunk(window, at, kind)
        inside = at + kind.header
        if name == kind.data:
            form, length_at = kind.order + kind.size, at + kind.name
            is_open = size < 0 or size >= (_OPEN_32 if kind.size == "I" else _OPEN_64)
            if long_length[0] and is_open:
                (length_at, size), form, is_open = long_length, "<Q", long_length[1] >= _OPEN_64
            promised = None if is_open else max(size - kind.skipped, 0)
            extra = kind.skipped + kind.counted
            return _Data(
                inside + kind.skipped, promised, length_at, form, extra, kind, per_second, mpeg
            )
        if size < 0 or inside + size > end:
            return None
        if name == kind.format:
            per_second, mpeg = _format(window.read(inside, size), kind)
        elif name == b"ds64" and size >= 16:
            long_length = (inside + 8, struct.unpack("<Q", window.read(inside + 8, 8))[0])
        at = inside + size
        # Chunks of RIFF are aligned to the file's own beginning.
        at += -(at - start) % kind.align
    return None


def _format(content: bytes, kind: _Kind) -> tuple[float, bool]:
    """Bytes of a second, and whether the samples are an MPEG stream."""
    if kind.format == b"fmt " and len(content) >= 14:
        tag, _, _, per_second, _ = struct.unpack(f"{kind.order}HHIIH", content[:14])
        return float(per_second), tag in (0x50, 0x55)
    if kind.format == b"COMM" and len(content) >= 18:
        channels, _, bits, exponent, mantissa = struct.unpack(">HIHHQ", content[:18])
        # The rate has 80 bits; beyond any rate that there is, the header is damaged.
        rate = mantissa / 2.0 ** (16446 - exponent) if 16383 <= exponent < 16406 else 0.0
        return rate * channels * ((bits + 7) // 8), False
    if kind.format == b"desc" and len(content) >= 32:
        rate, size, samples = struct.unpack(">d8xII8x", content[:32])
        return (rate * size / samples if samples and 0 < rate < 1e7 else 0.0), False
    return 0.0, False


def _au(window: Window, start: int) -> _Data:
    offset, size = struct.unpack(">II", window.read(start + 4, 8))
    return _Data(start + offset, None if size >= _OPEN_32 else size, start + 8, ">I")


def _sphere(window: Window, start: int) -> _Data | None:
    header = window.read(start, 1024)
    fields = dict(re.findall(rb"(\w+) -i (\d+)", header))
    try:
        size = int(header[8:16]), int(fields[b"sample_count"]) * int(fields[b"channel_count"])
        return _Data(start + size[0], size[1] * int(fields[b"sample_n_bytes"]))
    except (KeyError, ValueError):
        return None
