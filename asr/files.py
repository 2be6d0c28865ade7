"""Files: written whole or not at all, locked between processes, opened compressed or not."""

import codecs
import errno
import gzip
import lzma
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from asr.errors import AsrError

_DESCRIPTOR = re.compile(r"/dev/std(?:in|out|err)|/(?:dev|proc/self)/fd/\d+")
_STANDARD = ("/dev/stdin", "/dev/stdout", "/dev/stderr")


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


class CannotWrite(AsrError):
    """A file or folder that cannot be written; `errno` is the system's number of the reason."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; on success its content becomes that of `path`, else it is removed.

    A link is followed. A regular file is replaced at once, with the permissions of any new file in
    its folder; several threads and processes may write it, and the last one to finish wins.
    A device, a pipe or an open descriptor (`/dev/stdout`) stays what it is and is written to.
    Raises CannotWrite for a folder, a disk that is full and whatever else the system refuses.
    """
    path = Path(path)
    with _refusals(path):
        temporary = _make_temporary(path)
    try:
        try:
            yield temporary
        except OSError as error:
            if error.errno and error.filename in (None, str(temporary)):
                raise _cannot_write(path, error) from None
            raise
        with _refusals(path):
            _deliver(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _make_temporary(path: Path) -> Path:
    """An empty file beside a regular file or one that is not there yet, else in /tmp."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    # Names may be almost as long as the system allows; writers of some formats look at the suffix.
    suffix = path.suffix if len(path.suffix) < 16 else ""
    name = f".{path.name[:40]}.{secrets.token_hex(4)}{suffix}"
    if not _is_written_through(path):
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not `tempfile`, whose files are private: making them public needs the umask, which cannot
        # be read without setting it for every thread of the process. Here the system applies it.
        temporary = target.with_name(name)
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return temporary
        except OSError:
            if not _is_open_to_writing(target):
                raise
    handle, made = tempfile.mkstemp(suffix=suffix, prefix="asr-")
    os.close(handle)
    return Path(made)


def _deliver(temporary: Path, path: Path) -> None:
    """Give the content of `temporary` to `path`."""
    if not _is_written_through(path):
        target = Path(os.path.realpath(path))
        if temporary.parent == target.parent:
            try:
                temporary.replace(target)
                return
            except OSError as error:
                if error.errno != errno.EBUSY:  # a file that is mounted, as containers do it
                    raise
    with temporary.open("rb") as content, _open_through(path) as file:
        shutil.copyfileobj(content, file)


def _open_through(path: Path) -> IO[bytes]:
    if not _DESCRIPTOR.fullmatch(str(path)):
        return path.open("wb")
    # Its own descriptor: opened by name, a file that standard output goes to would be emptied.
    name = str(path)
    number = _STANDARD.index(name) if name in _STANDARD else int(path.name)
    sys.stdout.flush()
    return os.fdopen(os.dup(number), "wb")


def _is_written_through(path: Path) -> bool:
    """Whether `path` is a device, a pipe or an open descriptor rather than a file to replace."""
    if _DESCRIPTOR.fullmatch(str(path)) and os.name != "nt":
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def _is_open_to_writing(target: Path) -> bool:
    """Whether a file is there and may be written, if perhaps not replaced."""
    return target.is_file() and os.access(target, os.W_OK)


def _cannot_write(path: Path, error: OSError) -> CannotWrite:
    if error.errno == errno.EISDIR:
        return CannotWrite(f"{path}: is a folder; give the name of a file", errno.EISDIR)
    reason = error.strerror or str(error)
    return CannotWrite(f"{path}: cannot be written: {reason}", error.errno or 0)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the system refuses as CannotWrite."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from None


def check_writable(path: str | Path | None) -> None:
    """Raise CannotWrite for a file that could not be written; for use before long work.

    Nothing is made or changed. None, for no file, passes.
    """
    if path is None:
        return
    path = Path(path)
    with _refusals(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if _is_written_through(path):
            if not _DESCRIPTOR.fullmatch(str(path)) and not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        target = Path(os.path.realpath(path))
        try:
            _try_folder(target.parent)
        except OSError:
            if not _is_open_to_writing(target):
                raise


def check_folder_writable(folder: str | Path) -> None:
    """Raise CannotWrite if no file could be made in a folder, which need not be there yet."""
    with _refusals(Path(folder)):
        _try_folder(Path(folder))


def _try_folder(folder: Path) -> None:
    """Make a file in the folder, or in the nearest one above that is there, and remove it.

    Asking for permission would not do: a file system may be read-only, or only look like one.
    """
    folder = folder.absolute()
    while True:
        try:
            os.stat(folder)
            break
        except FileNotFoundError:
            folder = folder.parent
    trial = folder / f".asr-{secrets.token_hex(4)}"
    os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    trial.unlink()


@contextmanager
def print_if_lost(text: str) -> Iterator[None]:
    """Print `text`, which is what was measured, if the body cannot write it."""
    try:
        yield
    except CannotWrite:
        print(text, flush=True)
        raise


def atomic_write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def atomic_write_text(path: str | Path, content: str) -> None:
    """Write `content` as UTF-8 to `path`, whole or not at all.

    Bytes of file names that are not UTF-8 are written as escapes, such as `\\udce9`.
    """
    atomic_write_bytes(path, content.encode(errors="backslashreplace"))


@contextmanager
def locked(path: str | Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of the file `path`, which is made if needed and stays.

    One holder at a time, in this process or another; the lock ends with its process. Yields
    whether it is held: with `wait=False` False, at once, if somebody else holds it. Raises
    CannotWrite if the file cannot be made.
    """
    # Late: packing and loading models needs no locks, and should need no package for them.
    import filelock

    path = Path(path)
    lock = filelock.FileLock(path, timeout=-1 if wait else 0)
    with _refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout:
            held = False
        else:
            held = True
    if not held:
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
