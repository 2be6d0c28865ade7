"""Archives unpacked into a folder, and nowhere else.

An archive is somebody else's: names that lead out of the folder, links and devices are refused
before anything is written for them.
"""

import errno
import gzip
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from asr.errors import AsrError
from asr.files import DAMAGE, CannotWrite


def unpack(
    archive: Path, folder: Path, update: Callable[[int], object] = lambda done: None
) -> None:
    """Unpack a .tar.gz into `folder`, which is made; `update` gets the archive's bytes read so far.

    Only folders and regular files are made, as any new file is: owners and permissions in the
    archive mean nothing. Raises AsrError for a name that leads elsewhere, anything but files and
    folders, a name twice and a damaged archive; CannotWrite for a full disk.
    """
    folder.mkdir(parents=True)
    try:
        with (
            archive.open("rb") as file,
            gzip.GzipFile(fileobj=file) as content,
            tarfile.open(fileobj=content, mode="r|") as members,
        ):
            for member in members:
                place = folder / _inside(archive, member)
                if member.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                else:
                    source = members.extractfile(member)
                    assert source is not None  # it is a regular file
                    _write(source, place, archive)
                update(file.tell())
            while content.read(1 << 20):  # to the end, where its check sum is
                pass
    except (tarfile.TarError, *DAMAGE) as error:
        raise AsrError(f"{archive}: a damaged archive: {error or type(error).__name__}") from None


def _inside(archive: Path, member: tarfile.TarInfo) -> PurePosixPath:
    """The path of a member below the folder. Raises AsrError for one that must not be unpacked."""
    name = PurePosixPath(member.name)
    foreign = name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name
    if foreign or "\0" in member.name or not name.parts:
        raise AsrError(
            f"{archive}: not unpacked: {member.name!r} in it leads out of the folder; get the "
            "archive from another place"
        )
    if not (member.isreg() or member.isdir()):
        kind = "a link" if member.issym() or member.islnk() else "neither file nor folder"
        raise AsrError(
            f"{archive}: not unpacked: {member.name!r} in it is {kind}; get the archive from "
            "another place"
        )
    return name


def _write(source: IO[bytes], place: Path, archive: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with place.open("xb") as file:
            while block := source.read(1 << 20):
                try:
                    file.write(block)
                    file.flush()
                except OSError as error:
                    raise _full(place, error) from None
    except FileExistsError:
        raise AsrError(f"{archive}: a damaged archive: {place.name} is in it twice") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise _full(place, error) from None
        raise


def _full(place: Path, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"{place}: cannot be unpacked: {error.strerror}. The archive is kept; make room and run "
        "the same command again",
        error.errno or errno.ENOSPC,
    )


def publish(partial: Path, folder: Path) -> None:
    """Give a folder that was unpacked whole its name, at once.

    Everything is synced to disk first, so that a power cut cannot leave empty files in it.
    """
    os.sync()
    partial.rename(folder)


def discard(folder: Path) -> None:
    """Remove a folder that an interrupted call has left."""
    shutil.rmtree(folder, ignore_errors=True)
