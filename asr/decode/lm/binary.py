"""Language models as one binary file that opens at once: a header, then the arrays as they are.

    8 bytes   magic
    4 + 4     length and CRC-32 of the header, little endian
    header    JSON: counts, special words, and name, type, count, offset, CRC-32 of every array
    arrays    each from a multiple of 64 bytes on

The arrays are mapped into memory, not copied: processes share them. Everything that a search
relies on is checked when a file is opened, so a damaged or hostile file is an error.
"""

import json
import mmap
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from asr.decode.lm.model import ARRAYS, LanguageModel
from asr.errors import AsrError
from asr.files import atomic_path

MAGIC = b"ASRLM\x001\n"
_ALIGN = 64
_PREFIX = struct.Struct("<8sII")
_NUMBERS = ("bos", "eos", "unknown")
DAMAGE = (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError, struct.error)
"""What reading a damaged or hostile header can raise: numbers without end, deep nesting."""


def write(path: str | Path, model: LanguageModel) -> None:
    """Write `model` to `path`, whole or not at all. Raises AsrError for scores not finite."""
    _refuse_scores(model)
    arrays = {
        name: np.ascontiguousarray(getattr(model, name), dtype=np.dtype(kind).newbyteorder("<"))
        for name, kind in ARRAYS.items()
    }
    entries: dict[str, dict[str, Any]] = {}
    offset = 0
    for name, array in arrays.items():
        crc = zlib.crc32(array.data)
        entries[name] = {"type": ARRAYS[name], "count": len(array), "offset": offset, "crc": crc}
        offset += _padded(array.nbytes)
    numbers = {name: int(getattr(model, name)) for name in _NUMBERS}
    header = json.dumps({"counts": model.counts, **numbers, "arrays": entries}).encode()
    header += b" " * (_padded(_PREFIX.size + len(header)) - _PREFIX.size - len(header))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_PREFIX.pack(MAGIC, len(header), zlib.crc32(header)))
        file.write(header)
        for array in arrays.values():
            file.write(array.data)
            file.write(b"\0" * (_padded(array.nbytes) - array.nbytes))


def _refuse_scores(model: LanguageModel) -> None:
    """Refuse what `read` would refuse of a model that an ARPA file gave."""
    if not _finite(model):
        raise AsrError(
            "language model: a log probability or back-off weight of it is not a finite number; "
            "correct it where the model was made"
        )


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def read(path: str | Path) -> LanguageModel:
    """The model of a file that `write` wrote. Raises AsrError if it is damaged or no such file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise AsrError(f"{path}: cannot read the language model: {error}") from None
    try:
        model = _parse(content)
        check(model)
    except DAMAGE as error:
        raise AsrError(
            f"{path}: not a language model of ours, or a damaged one ({error}); "
            "`asr lm convert` makes one from ARPA"
        ) from None
    return model


def _parse(content: mmap.mmap) -> LanguageModel:
    magic, length, crc = _PREFIX.unpack_from(content)
    if magic != MAGIC:
        raise ValueError("another kind of file")
    start = _PREFIX.size + length
    header_bytes = content[_PREFIX.size : start]
    if len(header_bytes) != length or zlib.crc32(header_bytes) != crc:
        raise ValueError("its header is damaged")
    header = json.loads(header_bytes)
    arrays: dict[str, Any] = {}
    for name, kind in ARRAYS.items():
        entry = header["arrays"][name]
        count, offset = int(entry["count"]), start + int(entry["offset"])
        dtype = np.dtype(kind)
        if entry["type"] != kind or count < 0 or int(entry["offset"]) < 0:
            raise ValueError(f"{name}: unexpected type or place")
        if offset + count * dtype.itemsize > len(content):
            raise ValueError("it is cut short")
        array = np.frombuffer(content, dtype, count, offset)
        if sys.byteorder == "big":
            array = array.byteswap()
        if zlib.crc32(memoryview(content)[offset : offset + array.nbytes]) != entry["crc"]:
            raise ValueError(f"{name}: checksum differs")
        arrays[name] = array
    arrays |= {name: int(header[name]) for name in _NUMBERS}
    return LanguageModel(tuple(map(int, header["counts"])), **arrays)


def check(model: LanguageModel) -> None:
    """Whatever a search trusts: every index in range, every way down ends in state 0."""
    states, arcs, size = len(model.lowers), len(model.words), model.size
    if not (
        states > 0
        and len(model.first) == states + 1
        and len(model.backoffs) == states
        and len(model.logs) == len(model.nexts) == arcs
        and len(model.hash_words) == size
        and len(model.prefixes) == len(model.prefix_logs)
    ):
        raise ValueError("its arrays do not fit together")
    first = model.first
    if first[0] != 0 or first[-1] != arcs or (first[1:] < first[:-1]).any():
        raise ValueError("first: not rising")
    if first[1] != size or (model.words[:size] != np.arange(size)).any():
        raise ValueError("words: not every word has an arc")
    if model.lowers[0] != 0 or (model.lowers[1:] >= np.arange(1, states)).any():
        raise ValueError("lowers: not falling")
    if model.nexts.max() >= states or model.words.max() >= size or model.hash_words.max() >= size:
        raise ValueError("an index is out of range")
    if not all(0 <= getattr(model, name) < size for name in ("bos", "eos", "unknown")):
        raise ValueError("a special word is out of range")
    for name in ("hashes", "prefixes"):
        hashes = getattr(model, name)
        if (hashes[1:] <= hashes[:-1]).any():
            raise ValueError(f"{name}: not rising")
    if not _finite(model):
        raise ValueError("a score is not finite")


def _finite(model: LanguageModel) -> bool:
    scores = (model.logs, model.backoffs, model.prefix_logs)
    return all(bool(np.isfinite(score).all()) for score in scores)
