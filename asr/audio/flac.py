"""FLAC: its true length, by the number that its last frame carries.

A header that an encoder wrote to a pipe says nothing, and after a cut it says too much. Every frame
has its number and two checksums (RFC 9639, sections 9.1 and 9.3): the last one says how much there
is, and whether it is whole.
"""

import re
import struct

from asr.audio.layout import Extent, Part, Window

SIGNATURE = re.compile(rb"fLaC[\0\x80]\0\0\x22")
_TAIL = 1 << 17
_SYNC = re.compile(rb"\xff[\xf8\xf9]")


def begins(window: Window) -> bool:
    """Whether a file is FLAC; tags may stand before it."""
    head = window.read(0, 10)
    at = 0
    if head[:3] == b"ID3" and len(head) == 10:
        at = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    return SIGNATURE.match(window.read(at, 8)) is not None


def layout(window: Window) -> Extent:
    """Where the streams of a file lie, each with a header that gives its length."""
    result = Extent([])
    first = next(iter(window.search(SIGNATURE)), 0)
    alone = _part(window, first, window.size, result)
    if _is_believable(window, first, alone):
        result.parts = [alone]
        return result
    result = Extent([])
    starts = [first, *window.search(SIGNATURE, first + 1)]
    ends = [*starts[1:], window.size]
    result.parts = [_part(window, *ends, result) for ends in zip(starts, ends, strict=True)]
    return result


def _is_believable(window: Window, start: int, part: Part) -> bool:
    """Whether the header is right and its largest frames would fill the file: it is the only one.

    So a large file needs no reading before it is decoded.
    """
    info = window.read(start + 8, 18)
    block, largest = int.from_bytes(info[2:4], "big"), int.from_bytes(info[7:10], "big")
    samples = int.from_bytes(info[13:18], "big") & ((1 << 36) - 1)
    if part.patches or not (block and largest and samples):
        return False
    at, is_last = start + 4, False
    while not is_last:
        head = window.read(at, 4)
        if len(head) < 4:
            return False
        is_last = head[0] & 0x80 != 0
        at += 4 + int.from_bytes(head[1:], "big")
    return part.end - at < (samples // block + 1) * largest + 4096


def _part(window: Window, start: int, end: int, result: Extent) -> Part:
    info = window.read(start + 8, 18)
    if len(info) < 18:
        return Part(start, end)
    (packed,) = struct.unpack(">Q", info[10:18])
    rate, promised = packed >> 44, packed & ((1 << 36) - 1)
    (block,) = struct.unpack(">H", info[:2])
    if window.read(end - 128, 3) == b"TAG":
        end -= 128
    found = _last_frame(window, start, end, block)
    if found is None or not rate:
        return Part(start, end)
    count, last = found
    whole = last == end
    if promised and count < promised:
        result.damage = f"truncated, {count / rate:.2f} s of {promised / rate:.2f} s are there"
    elif not whole:
        result.damage = result.damage or "truncated, its last frame is not all there"
    if count == promised:
        return Part(start, last)
    if count > promised:
        kind = "a wrong" if promised else "no"
        result.notes.append(f"its header gives {kind} length: read to the end")
    corrected = struct.pack(">Q", packed >> 36 << 36 | count)
    return Part(start, last, ((start + 18, corrected),))


def _last_frame(window: Window, start: int, end: int, block: int) -> tuple[int, int] | None:
    """Samples up to the end of the last whole frame, and where that is.

    None without such a frame; decoding the file then raises the error.
    """
    low = max(start + 42, end - _TAIL)
    tail = window.read(low, end - low)
    places = [match.start() for match in _SYNC.finditer(tail)]
    behind = len(tail)
    for place in reversed(places):
        header = _header(tail[place : place + 16], block)
        if header is None:
            continue
        if _crc16(tail[place:behind]) == 0:
            return header, low + behind
        behind = place
    return None


def _header(head: bytes, block: int) -> int | None:
    """Samples up to the end of the frame with this header; None if it is not a header."""
    if len(head) < 6 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] & 1:
        return None
    number, at = _number(head, 4)
    if at == 0:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    if size_code == 6:
        size, at = head[at] + 1 if at < len(head) else 0, at + 1
    elif size_code == 7:
        size, at = int.from_bytes(head[at : at + 2], "big") + 1, at + 2
    else:
        size = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 1 << size_code
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    return (number if head[1] & 1 else number * block) + size


def _number(head: bytes, at: int) -> tuple[int, int]:
    """The number of a frame, written as UTF-8 writes characters, and where it ends; 0: not one."""
    first = head[at]
    if first < 0x80:
        return first, at + 1
    more = 0
    while more < 7 and first << more & 0x80:
        more += 1
    rest = head[at + 1 : at + more]
    if more < 2 or len(rest) < more - 1 or any(byte & 0xC0 != 0x80 for byte in rest):
        return 0, 0
    number = first & 0x7F >> more
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, at + more


def _table(polynomial: int, bits: int) -> list[int]:
    """Checksums of single bytes."""
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 & 1 else 0)
            value &= (1 << bits) - 1
        table.append(value)
    return table


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _crc8(content: bytes) -> int:
    value = 0
    for byte in content:
        value = _CRC8[value ^ byte]
    return value


def _crc16(content: bytes) -> int:
    """The checksum of a frame; 0 for one that ends with its own."""
    value = 0
    for byte in content:
        value = (value << 8 & 0xFF00) ^ _CRC16[value >> 8 ^ byte]
    return value
