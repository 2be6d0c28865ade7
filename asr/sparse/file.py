"""One file of named tensors, safe to open from a stranger.

Layout, all numbers little-endian: `ASRMODEL`, version (u32), bytes of the header (u64), SHA-256 of
the header, the header as JSON, then the tensors' bytes one after another without a gap. The header
holds the caller's metadata, which is carried and never read here, and for each tensor its name,
its layout (see `asr.sparse.formats`), its offset behind the header and the CRC-32 of its bytes.

Nothing is ever unpickled. Every size is checked before anything is allocated, every byte of the
file is covered by a check, and equal tensors and metadata give equal files.
"""

import dataclasses
import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_args

import numpy as np

from asr.errors import AsrError
from asr.files import atomic_path
from asr.sparse.csr import CsrMatrix, from_dense
from asr.sparse.formats import Array, Encoded, Values, decode, decode_csr, encode, is_csr
from asr.sparse.header import HEADER_LIMIT, Header, TensorEntry, check_name, dump, parse

MAGIC = b"ASRMODEL"
VERSION = 2
_PREFIX = struct.Struct("<8sIQ32s")

CSR_FROM = 0.1
"""Share of zeros from which on `read_csr` gives a matrix as `CsrMatrix`; fewer make it no smaller."""

Decoded = TypeVar("Decoded")


def write(
    path: str | Path,
    tensors: Mapping[str, Array],
    metadata: dict[str, Any],
    values: Values = "fp32",
    compress: bool = True,
) -> Header:
    """Write tensors and metadata (plain JSON values) to `path`, whole or not at all.

    `values="fp16"` halves float32 tensors of two or more dimensions, `"int8"` quarters them with
    one scale for each row; vectors, such as biases and statistics of a norm, are few and keep
    their range. `compress=False` stores everything dense. An array that stands under two names is
    stored once.

    Raises AsrError, naming the tensor, for NaN, infinity, or a weight that fp16 cannot hold.
    """
    if values not in get_args(Values):
        raise AsrError(f"values={values!r}: there are {', '.join(get_args(Values))}")
    tensors = dict(tensors)  # keeps the arrays alive, so that an id stays the name of one
    entries: list[TensorEntry] = []
    written: dict[int, TensorEntry] = {}
    blobs: list[bytes] = []
    offset = 0
    for name, array in tensors.items():
        if first := written.get(id(array)):
            entries.append(dataclasses.replace(first, name=name, same_as=first.name))
            continue
        try:
            check_name(name)
            encoded = encode(array, values if array.ndim >= 2 else "fp32", compress)
        except AsrError as error:
            raise AsrError(f"{path}: not written: tensor {name!r} {error}") from None
        entry = TensorEntry(name, encoded.layout, offset, zlib.crc32(encoded.blob))
        written[id(array)] = entry
        entries.append(entry)
        blobs.append(encoded.blob)
        offset += len(encoded.blob)

    text = dump(metadata, entries)
    try:
        header = Header(VERSION, *parse(text), _PREFIX.size + len(text) + offset)
    except AsrError as error:
        raise AsrError(f"{path}: not written: {error}") from None
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(_PREFIX.pack(MAGIC, VERSION, len(text), hashlib.sha256(text).digest()))
            file.write(text)
            file.writelines(blobs)
    except OSError as error:
        raise AsrError(f"{path}: cannot write the model file: {error.strerror}") from None
    return header


def read(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """All tensors, dense, and the metadata; every byte of the file is verified.

    Tied names come back as one array under each name. Raises AsrError for what is no model file,
    a newer version, and a file that is cut short, damaged or contradicts itself.
    """
    return _read(path, decode)


def read_csr(path: str | Path) -> tuple[dict[str, CsrMatrix | Array], dict[str, Any]]:
    """As `read`, but matrices with zeros come as their kept elements, without a dense copy.

    That is every float32 tensor of two dimensions of which at least a tenth is zero; all others
    are arrays. Tied names come back as one object. Raises AsrError as `read` does.
    """
    return _read(path, _decode_matrix)


def read_header(path: str | Path) -> Header:
    """Metadata and the table of tensors, without reading their bytes.

    Checked as `read` does, but for what only the tensors' bytes can show. Raises AsrError.
    """
    with _opened(path) as file:
        return _read_header(file, path)


def _decode_matrix(encoded: Encoded) -> CsrMatrix | Array:
    layout = encoded.layout
    if not layout.elements or layout.nonzeros > (1 - CSR_FROM) * layout.elements:
        return decode(encoded)
    if is_csr(layout):
        return decode_csr(encoded)
    array = decode(encoded)
    matrix = array.ndim == 2 and array.dtype == np.float32
    return from_dense(array) if matrix else array


def _read(
    path: str | Path, decoder: Callable[[Encoded], Decoded]
) -> tuple[dict[str, Decoded], dict[str, Any]]:
    tensors: dict[str, Decoded] = {}
    with _opened(path) as file:
        header = _read_header(file, path)
        for entry in header.tensors:
            if entry.same_as:
                tensors[entry.name] = tensors[entry.same_as]
                continue
            blob = file.read(entry.layout.stored_bytes)
            if zlib.crc32(blob) != entry.crc32:
                raise _damaged(path, f"tensor {entry.name!r} does not match its checksum")
            try:
                tensors[entry.name] = decoder(Encoded(entry.layout, blob))
            except AsrError as error:
                raise _damaged(path, f"tensor {entry.name!r} {error}") from None
    return tensors, header.metadata


def _damaged(path: str | Path, what: str) -> AsrError:
    return AsrError(f"{path}: the file is damaged: {what}; get the file again")


def _cut_short(path: str | Path, size: int, expected: int) -> AsrError:
    return AsrError(f"{path}: the file is cut short, {size} bytes of {expected}; get it again")


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise AsrError(f"{path}: is no file; give a model file such as model.asr")
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise AsrError(f"{path}: there is no such model file") from None
    except OSError as error:
        raise AsrError(f"{path}: cannot read the model file: {error.strerror}") from None


def _read_header(file: BinaryIO, path: str | Path) -> Header:
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(_PREFIX.size)
    _check_kind(prefix, path)
    if len(prefix) < _PREFIX.size:
        raise _cut_short(path, size, _PREFIX.size)
    _, version, header_bytes, digest = _PREFIX.unpack(prefix)
    if version != VERSION:
        made_by = "a newer asr; update asr" if version > VERSION else "an older asr; pack it again"
        raise AsrError(
            f"{path}: is a model file of version {version}, this asr reads version {VERSION}: "
            f"it was written by {made_by} (or it is damaged: get the file again)"
        )
    if header_bytes > HEADER_LIMIT:
        raise _damaged(path, f"its header claims {header_bytes} bytes")
    text = file.read(header_bytes)
    if len(text) < header_bytes:
        raise _cut_short(path, size, _PREFIX.size + header_bytes)
    if hashlib.sha256(text).digest() != digest:
        raise _damaged(path, "its header does not match its checksum")
    try:
        metadata, entries = parse(text)
    except AsrError as error:
        raise _damaged(path, str(error)) from None
    header = Header(version, metadata, entries, size)
    expected = _PREFIX.size + header_bytes + sum(e.layout.stored_bytes for e in header.stored)
    if size < expected:
        raise _cut_short(path, size, expected)
    if size > expected:
        raise _damaged(path, f"{size - expected} bytes follow its end")
    return header


def _check_kind(start: bytes, path: str | Path) -> None:
    if start.startswith(MAGIC) or (start and MAGIC.startswith(start)):
        return
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        raise AsrError(
            f"{path}: is no model file of asr but a checkpoint of a training (or another zip or "
            "pickle file); such a checkpoint serves only to resume its training: "
            "use the model.asr beside it"
        )
    raise AsrError(
        f"{path}: is no model file of asr ({'it begins otherwise' if start else 'it is empty'}); "
        "give the model.asr of a run, or what `asr pack` has made of one"
    )
