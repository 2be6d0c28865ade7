"""Files: written whole or not at all, locked between processes, opened compressed or not."""

import codecs
import gzip
import lzma
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from asr.errors import AsrError

DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error)
"""What reading a file of `open_compressed` raises if it is damaged."""
UTF8_MARK = codecs.BOM_UTF8
"""What some editors put before a text in UTF-8; it is not part of the text."""
_MARKS = {  # the longer ones first: those of UTF-32 begin like those of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it to `path`, else remove it.

    The file gets the permissions of any new file in that folder. Safe to use in several threads
    and processes at once: the last one to finish wins.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    # Not `tempfile`, whose files are private: making them public needs the umask, which cannot be
    # read without setting it for every thread of the process. Here the system applies it.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
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


@contextmanager
def locked(path: str | Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of the file `path`, which is made if needed and stays.

    One holder at a time, in this process or another; the lock ends with its process. Yields
    whether it is held: with `wait=False` False, at once, if somebody else holds it.
    """
    # Late: packing and loading models needs no locks, and should need no package for them.
    import filelock

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def open_compressed(path: str | Path) -> IO[bytes]:
    """A file opened for reading: gzip, xz or plain, which its first bytes say.

    Raises AsrError if it cannot be opened; reading damaged data raises one of DAMAGE.
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


def foreign_text(line: bytes) -> str:
    """Why a line cannot be of a text in UTF-8, and what to do; empty if nothing speaks against it.

    Only looks for the byte order marks of other encodings, and for zero bytes, which UTF-8 would
    take for characters; decode the line to find the rest.
    """
    for mark, name in _MARKS.items():
        if line.startswith(mark):
            return f"the file is in {name}; convert it with iconv -f {name} -t UTF-8"
    if b"\0" in line:
        return "zero bytes: not a text file, or one in UTF-16; convert it to UTF-8"
    return ""
