"""Writes files whole or not at all (a temporary name, then a rename); opens compressed files."""

import gzip
import lzma
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from asr.errors import AsrError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it to `path`, else remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; give the result the permissions any new file would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def atomic_write_text(path: str | Path, content: str) -> None:
    """Write `content` as UTF-8 to `path`, whole or not at all."""
    atomic_write_bytes(path, content.encode())


def open_compressed(path: str | Path) -> IO[bytes]:
    """A file opened for reading: gzip, xz or plain, which its first bytes say.

    Raises AsrError if it cannot be opened; reading damaged data raises EOFError, OSError or
    lzma.LZMAError.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(6)
        if head[:2] == b"\x1f\x8b":
            return cast(IO[bytes], gzip.open(path))
        if head == b"\xfd7zXZ\x00":
            return lzma.open(path)
        return Path(path).open("rb")
    except OSError as error:
        raise AsrError(f"{path}: cannot read it: {error.strerror}") from None
