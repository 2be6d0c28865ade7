"""The JSON header of a model file: the table of tensors and the caller's metadata.

Writing and reading make the same checks, so what is written can be read. Everything in a header may
come from a stranger: nothing in it is trusted and nothing is allocated for it.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from asr.errors import AsrError
from asr.sparse.layout import Layout

HEADER_LIMIT = 16 * 2**20
NAME_LIMIT = 200
MOST_NESTED = 64
"""Lists and dictionaries in each other, in the metadata."""

_LAYOUT_KEYS = [field.name for field in dataclasses.fields(Layout)]
_ENTRY_KEYS = {"name", *_LAYOUT_KEYS, "offset", "crc32"}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor in the table of the header."""

    name: str
    layout: Layout
    offset: int
    """Of its first byte, from the end of the header."""
    crc32: int
    """Of the stored bytes."""
    same_as: str = ""
    """Name of an earlier tensor whose bytes this one uses: tied weights are stored once."""


@dataclass(frozen=True)
class Header:
    """Everything in a file except the tensors' values."""

    version: int
    metadata: dict[str, Any]
    """The caller's, as JSON gives it back (tuples have become lists)."""
    tensors: tuple[TensorEntry, ...]
    file_bytes: int
    digest: str
    """SHA-256 of the header's bytes, in hexadecimal. They have the checksum of every tensor, so two
    files of one digest hold the same."""

    @property
    def stored(self) -> tuple[TensorEntry, ...]:
        """The tensors that have bytes of their own."""
        return tuple(entry for entry in self.tensors if not entry.same_as)


def dump(metadata: dict[str, Any], entries: Iterable[TensorEntry]) -> bytes:
    """The header as ASCII JSON, keys sorted; the same content gives the same bytes.

    Raises AsrError, naming the place, for metadata that JSON cannot hold.
    """
    if (culprit := _not_plain(metadata)) is not None:
        raise AsrError(
            f"metadata{culprit}: it holds plain values only: text, finite numbers, true, false, "
            "null, lists, and dictionaries whose keys are text"
        )
    if _is_deeper(metadata, MOST_NESTED):
        raise AsrError(f"metadata: lists in each other more than {MOST_NESTED} times")
    return _to_json(
        {"metadata": metadata, "tensors": [_to_plain(entry) for entry in entries]}
    ).encode("ascii")


def parse(text: bytes) -> tuple[dict[str, Any], tuple[TensorEntry, ...]]:
    """Metadata and table of a header.

    Raises AsrError, without the file's name, for unknown keys, wrong types, repeated names, gaps,
    overlaps, and sizes that the stored bytes do not justify.
    """
    if len(text) > HEADER_LIMIT:
        raise AsrError(f"its header has {len(text)} bytes, more than {HEADER_LIMIT}")
    try:
        header = json.loads(
            text.decode("ascii"),
            object_pairs_hook=_object,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except (ValueError, RecursionError):
        raise AsrError("its header is not plain JSON") from None
    if not isinstance(header, dict) or set(header) != {"metadata", "tensors"}:
        raise AsrError("its header lacks metadata or tensors")
    if not isinstance(header["metadata"], dict) or not isinstance(header["tensors"], list):
        raise AsrError("its header has a wrong form")
    if _is_deeper(header["metadata"], MOST_NESTED):
        raise AsrError(f"its metadata has lists in each other more than {MOST_NESTED} times")
    entries: dict[str, TensorEntry] = {}
    offset = 0
    for plain in header["tensors"]:
        entry = _from_plain(plain, entries)
        if not entry.same_as:
            if entry.offset != offset:
                raise AsrError(f"tensor {entry.name!r} does not follow the one before it")
            offset += entry.layout.stored_bytes
        entries[entry.name] = entry
    return header["metadata"], tuple(entries.values())


def check_name(name: Any) -> None:
    """Raises AsrError unless `name` can name a tensor.

    Names are printed, so they hold nothing that moves a terminal's cursor and no lone surrogates.
    """
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LIMIT or not name.isprintable():
        raise AsrError(f"needs a printable name of 1 to {NAME_LIMIT} characters")


def _to_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list | tuple):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)


def _not_plain(value: Any) -> str | None:
    """The place in `value` that JSON cannot hold and what is there, such as `['loss'] is nan`."""
    try:
        _to_json(value)
    except (TypeError, ValueError, RecursionError):
        parts: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, dict):
            parts = value.items()
        elif isinstance(value, list | tuple):
            parts = enumerate(value)
        for key, part in parts:
            if (inside := _not_plain(part)) is not None:
                return f"[{key!r}]{inside}"
        if isinstance(value, dict):
            return " has keys that are not text"
        return f" is {value!r:.100} of type {type(value).__name__}"
    return None


def _to_plain(entry: TensorEntry) -> dict[str, Any]:
    if entry.same_as:
        return {"name": entry.name, "same_as": entry.same_as}
    layout = {key: getattr(entry.layout, key) for key in _LAYOUT_KEYS}
    return {"name": entry.name, **layout, "offset": entry.offset, "crc32": entry.crc32}


def _from_plain(plain: Any, earlier: dict[str, TensorEntry]) -> TensorEntry:
    if not isinstance(plain, dict):
        raise AsrError("its table of tensors has a wrong form")
    name = plain.get("name")
    try:
        check_name(name)
        if name in earlier:
            raise AsrError("is listed twice")
        return _tied(plain, earlier) if "same_as" in plain else _stored(plain)
    except AsrError as error:
        raise AsrError(f"tensor {str(name)[:NAME_LIMIT]!r} {error}") from None


def _tied(plain: dict[str, Any], earlier: dict[str, TensorEntry]) -> TensorEntry:
    first = earlier.get(plain["same_as"]) if isinstance(plain["same_as"], str) else None
    if set(plain) != {"name", "same_as"} or first is None or first.same_as:
        raise AsrError("is the same as a tensor that is not listed before it")
    return dataclasses.replace(first, name=plain["name"], same_as=first.name)


def _stored(plain: dict[str, Any]) -> TensorEntry:
    if set(plain) != _ENTRY_KEYS:
        raise AsrError("has missing or unknown keys")
    shape = plain["shape"]
    keys = ("nonzeros", "kept", "raw_bytes", "stored_bytes", "offset", "crc32")
    counts = [plain[key] for key in keys]
    # `type` and not `isinstance`: true is an int too.
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape + counts):
        raise AsrError("has a shape or a count that is not a whole number")
    words = [plain[key] for key in ("dtype", "values", "pattern", "encoding", "compression")]
    if not all(isinstance(word, str) for word in words):
        raise AsrError("has a type or an encoding that is not text")
    layout = Layout(**{key: plain[key] for key in _LAYOUT_KEYS} | {"shape": tuple(shape)})
    layout.check()
    return TensorEntry(plain["name"], layout, plain["offset"], plain["crc32"])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is listed twice")
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is not finite")
    return number
