"""What an archive holds lands in its folder, and nowhere else."""

import os
import tarfile
from pathlib import Path

import mini_librispeech as mini
import pytest

from asr.corpus.unpack import unpack
from asr.errors import AsrError


def member(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, to
    return found


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_files_and_folders_are_made_as_any_new_file(tmp_path):
    packed = tmp_path / "a.tar.gz"
    loose = member("a/b", tarfile.DIRTYPE)
    loose.mode = 0o000
    packed.write_bytes(mini.tar_gz({"./a/1.txt": b"one", "a/b/2.txt": b"two"}, loose))
    seen: list[int] = []
    unpack(packed, tmp_path / "out", seen.append)
    assert everything(tmp_path / "out") == ["a", "a/1.txt", "a/b", "a/b/2.txt"]
    assert (tmp_path / "out/a/b/2.txt").read_bytes() == b"two"
    assert 0 < seen[-1] <= packed.stat().st_size
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out/a/b").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize(
    "name", ["../out.txt", "a/../../out.txt", "/tmp/out.txt", "..", "a\\..\\b", "C:/x", "./.."]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(name, tmp_path):
    packed = tmp_path / "in" / "a.tar.gz"
    packed.parent.mkdir()
    packed.write_bytes(mini.tar_gz({name: b"bad"}))
    with pytest.raises(AsrError, match="leads out of the folder"):
        unpack(packed, tmp_path / "in" / "out")
    assert everything(tmp_path) == ["in", "in/a.tar.gz", "in/out"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_links_and_devices_are_refused(kind, tmp_path):
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(mini.tar_gz({"a": b"good"}, member("link", kind, "../../etc")))
    with pytest.raises(AsrError, match=r"'link' in it is (a link|neither file nor folder)"):
        unpack(packed, tmp_path / "out")
    assert everything(tmp_path / "out") == ["a"]


def test_a_file_is_not_written_through_a_link_of_the_same_archive(tmp_path):
    packed = tmp_path / "a.tar.gz"
    link = member("a", tarfile.SYMTYPE, str(tmp_path))
    packed.write_bytes(mini.tar_gz({}, link))
    with pytest.raises(AsrError, match="'a' in it is a link"):
        unpack(packed, tmp_path / "out")
    assert everything(tmp_path / "out") == []


def test_a_damaged_archive_is_a_message_wherever_the_damage_is(tmp_path):
    packed = tmp_path / "a.tar.gz"
    whole = mini.archive("dev-clean")
    for end in (0, 5, 100, len(whole) // 2, len(whole) - 20):
        packed.write_bytes(whole[:end])
        with pytest.raises(AsrError, match=r"a\.tar\.gz: a damaged archive: ."):
            unpack(packed, tmp_path / f"out{end}")
    packed.write_bytes(whole[:1000] + bytes(50) + whole[1050:])
    with pytest.raises(AsrError, match="a damaged archive"):
        unpack(packed, tmp_path / "flipped")
    packed.write_bytes(b"<html>not found</html>")
    with pytest.raises(AsrError, match="a damaged archive"):
        unpack(packed, tmp_path / "page")
    packed.write_bytes(mini.tar_gz({"a": b"1", "./a": b"2"}))
    with pytest.raises(AsrError, match="a is in it twice"):
        unpack(packed, tmp_path / "twice")
