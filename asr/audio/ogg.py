"""Ogg: pages with numbers, checksums and an end mark, so that damage and cuts show (RFC 3533)."""

import zlib
from dataclasses import replace

from asr.audio.layout import Extent, Part, Window

_MAGIC = b"OggS"
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def layout(window: Window) -> Extent:
    """Where the links of a chain lie: files that were written one after the other."""
    result = Extent([])
    starts: list[int] = []
    numbers: dict[bytes, int] = {}
    ended: set[bytes] = set()
    at, opening, suffix = 0, False, b""
    while at < window.size:
        head = window.read(at, 27)
        size = _page_size(window, at, head)
        if len(head) < 27 and _MAGIC.startswith(head[:4]):
            result.damage = result.damage or "truncated, its last page is not all there"
            break
        if size == 0:
            result.damage = result.damage or "damaged, some of its pages are not readable"
            at = _next(window, at + 1)
            continue
        if at + size > window.size:
            result.damage = result.damage or "truncated, its last page is not all there"
            suffix = _shortened(window, at, head)
            break
        page = window.read(at, size)
        if not _intact(page):
            result.damage = result.damage or "damaged, a checksum is wrong"
        serial, number = page[14:18], int.from_bytes(page[18:22], "little")
        if page[5] & _FIRST:
            if not opening:
                _close(numbers, ended, result)
                starts.append(at)
            numbers[serial] = number
        elif serial in numbers:
            if number > numbers[serial] + 1:
                result.damage = result.damage or "damaged, pages are missing in it"
            numbers[serial] = number
        opening = bool(page[5] & _FIRST)
        if page[5] & _LAST:
            ended.add(serial)
        at += size
    _close(numbers, ended, result)
    starts = starts or [0]
    ends = [*starts[1:], at if suffix else window.size]
    parts = [Part(start, end) for start, end in zip(starts, ends, strict=True)]
    result.parts = [*parts[:-1], replace(parts[-1], suffix=suffix)]
    return result


def _shortened(window: Window, at: int, head: bytes) -> bytes:
    """The page that the file ends in, with the packets of it that are all there; empty if none."""
    begin = at + 27 + head[26]
    sizes, there, whole = window.read(at + 27, head[26]), 0, 0
    for count, size in enumerate(sizes, start=1):
        there += size
        if begin + there > window.size:
            break
        if size < 255:
            whole = count
    if not whole:
        return b""
    sound = window.read(begin, sum(sizes[:whole]))
    page = head[:22] + bytes(4) + bytes([whole]) + sizes[:whole] + sound
    return page[:22] + _checksum(page).to_bytes(4, "little") + page[26:]


def _close(numbers: dict[bytes, int], ended: set[bytes], result: Extent) -> None:
    """The end of a link: all of its streams must have said so."""
    if numbers.keys() - ended:
        result.damage = result.damage or "truncated, nothing marks the end of its sound"
    numbers.clear()
    ended.clear()


def _page_size(window: Window, at: int, head: bytes) -> int:
    """Bytes of a page, 0 if there is none."""
    if len(head) < 27 or head[:4] != _MAGIC or head[4] != 0:
        return 0
    segments = window.read(at + 27, head[26])
    return 27 + head[26] + sum(segments)


def _next(window: Window, at: int) -> int:
    """Where the next page begins; the end of the file if there is none."""
    while at < window.size:
        block = window.read(at, 1 << 16)
        if (place := block.find(_MAGIC)) >= 0:
            return at + place
        at += max(len(block) - 3, 1)
    return window.size


def _intact(page: bytes) -> bool:
    """Whether the checksum of a page is right."""
    content = page[:22] + bytes(4) + page[26:]
    return _checksum(content) == int.from_bytes(page[22:26], "little")


def _checksum(content: bytes) -> int:
    """A CRC-32 that takes bits from the other end than zlib's does, and begins with 0."""
    mirrored = zlib.crc32(content.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
