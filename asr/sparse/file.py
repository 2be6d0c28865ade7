"""One file of named tensors, safe to open from a stranger.

    bytes  0 to  7   ASRMODEL
           8 to 11   version, u32 (all numbers are little-endian)
          12 to 19   length of the header, u64
          20 to 51   SHA-256 of the header
          52 ...     the header, JSON: the caller's metadata, and for each tensor its name, layout
                     (see `asr.sparse.layout`), offset behind the header and CRC-32
          ...        the bytes of the tensors, without gaps

Nothing is ever unpickled. Every size is checked before anything is allocated, every byte of the
file is covered by a check, and equal tensors and metadata give equal files. The metadata is carried
and never read here.
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
"""Sparsity from which `read_csr` returns a `CsrMatrix`; with fewer zeros that is not smaller."""

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
    one scale for each row. Vectors, such as biases and statistics of a norm, are few and stay
    float32. `compress=False` stores everything dense. An array under two names is stored once.

    Raises AsrError, naming the tensor, for NaN, infinity, a weight that fp16 cannot hold, and what
    is not an array of numpy; and, naming the place, for metadata that is not plain.
    """
    if values not in get_args(Values):
        raise AsrError(f"values={values!r}: there are {', '.join(get_args(Values))}")
    tensors = dict(tensors)  # keeps the arrays alive: an id is unique only as long as they are
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
            _check_array(array)
            encoded = encode(array, values if array.ndim >= 2 else "fp32", compress)
        except AsrError as error:
            raise AsrError(f"{path}: not written: tensor {name!r} {error}") from None
        entry = TensorEntry(name, encoded.layout, offset, zlib.crc32(encoded.blob))
        written[id(array)] = entry
        entries.append(entry)
        blobs.append(encoded.blob)
        offset += len(encoded.blob)

    try:
        text = dump(metadata, entries)
        size = _PREFIX.size + len(text) + offset
        header = Header(VERSION, *parse(text), size, hashlib.sha256(text).hexdigest())
    except AsrError as error:
        raise AsrError(f"{path}: not written: {error}") from None
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_PREFIX.pack(MAGIC, VERSION, len(text), bytes.fromhex(header.digest)))
        file.write(text)
        file.writelines(blobs)
    return header


def read(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """All tensors, dense, and the metadata; every byte of the file is verified.

    Tied tensors are one array under each of their names. Raises AsrError for what is not a model
    file, for another version, and for a file that is truncated, damaged or contradicts itself.

    >>> header = write("layer.asr", {"weight": np.eye(3, dtype=np.float32)}, {"author": "me"})
    >>> tensors, metadata = read("layer.asr")
    >>> tensors["weight"].shape, metadata
    ((3, 3), {'author': 'me'})
    """
    tensors, header = _read(path, decode)
    return tensors, header.metadata


def read_csr(path: str | Path) -> tuple[dict[str, CsrMatrix | Array], dict[str, Any]]:
    """As `read`, but sparse matrices are returned as `CsrMatrix`, without a dense copy.

    That is every float32 tensor of two dimensions of which at least a tenth is zero; all others
    are arrays. Raises AsrError as `read` does.
    """
    tensors, header = read_csr_and_header(path)
    return tensors, header.metadata


def read_csr_and_header(path: str | Path) -> tuple[dict[str, CsrMatrix | Array], Header]:
    """As `read_csr`, with the whole header in place of the metadata."""
    return _read(path, _decode_matrix)


def read_header(path: str | Path) -> Header:
    """Metadata and the table of tensors, without reading the tensors' bytes.

    Makes every check of `read` that does not need those bytes. Raises AsrError.
    """
    with _opened(path) as file:
        return _read_header(file, path)


def _check_array(array: Any) -> None:
    if not isinstance(array, np.ndarray | np.generic):
        how = "to_dense()" if isinstance(array, CsrMatrix) else "numpy.asarray"
        raise AsrError(f"is a {type(array).__name__}, not an array of numpy, which {how} makes")


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
) -> tuple[dict[str, Decoded], Header]:
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
    return tensors, header


def _damaged(path: str | Path, what: str) -> AsrError:
    return AsrError(f"{path}: the file is damaged: {what}; get the file again")


def _truncated(path: str | Path, size: int, expected: int) -> AsrError:
    return AsrError(f"{path}: the file is truncated, {size} bytes of {expected}; get it again")


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise AsrError(f"{path}: is not a regular file; give a model file such as model.asr")
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
        raise _truncated(path, size, _PREFIX.size)
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
        raise _truncated(path, size, _PREFIX.size + header_bytes)
    if hashlib.sha256(text).digest() != digest:
        raise _damaged(path, "its header does not match its checksum")
    try:
        metadata, entries = parse(text)
    except AsrError as error:
        raise _damaged(path, str(error)) from None
    header = Header(version, metadata, entries, size, digest.hex())
    expected = _PREFIX.size + header_bytes + sum(e.layout.stored_bytes for e in header.stored)
    if size < expected:
        raise _truncated(path, size, expected)
    if size > expected:
        raise _damaged(path, f"{size - expected} bytes follow its end")
    return header


def _check_kind(start: bytes, path: str | Path) -> None:
    if start.startswith(MAGIC) or (start and MAGIC.startswith(start)):
        return
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        raise AsrError(
            f"{path}: is not a model file of asr but a training checkpoint (or another zip or "
            "pickle file), which serves only to resume training: use the model.asr beside it"
        )
    why = "it begins otherwise" if start else "it is empty"
    raise AsrError(
        f"{path}: is not a model file of asr ({why}); "
        "give the model.asr of a run, or a file that `asr pack` wrote"
    )
