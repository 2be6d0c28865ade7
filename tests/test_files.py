"""Atomic writes with the right mode, locks with one holder, compressed files."""

import gzip
import lzma
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asr.errors import AsrError
from asr.files import atomic_path, atomic_write_text, locked, open_compressed

posix = pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_has_the_mode_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        atomic_write_text(tmp_path / "ours", "x")
        (tmp_path / "plain").write_text("x")
    finally:
        os.umask(before)
    assert mode(tmp_path / "ours") == mode(tmp_path / "plain") == 0o666 & ~umask


@posix
def test_the_umask_of_the_process_is_never_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", None)
    atomic_write_text(tmp_path / "file", "x")
    assert (tmp_path / "file").read_text() == "x"


def test_an_error_leaves_only_the_old_file(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    atomic_write_text(path, "old")

    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file.txt"]


def test_threads_that_write_one_file_leave_one_of_their_contents(tmp_path):
    path = tmp_path / "file"
    contents = [str(i) * 10_000 for i in range(8)]
    threads = [threading.Thread(target=atomic_write_text, args=(path, c)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in contents
    assert os.listdir(tmp_path) == ["file"]


def test_a_lock_is_held_by_one_at_a_time_and_free_afterwards(tmp_path):
    path = tmp_path / "deep" / ".lock"
    with locked(path) as first, locked(path, wait=False) as second:
        assert (first, second) == (True, False)
    with locked(path, wait=False) as again:
        assert again


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / ".lock"
    code = (
        "import os, sys; from asr.files import locked\n"
        "with locked(sys.argv[1]):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "held\n"
    with locked(path, wait=False) as held:
        assert not held
    child.kill()
    child.communicate()
    with locked(path) as held:
        assert held


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_a_compressed_file_is_recognised_by_its_first_bytes(tmp_path, compress):
    (tmp_path / "any name").write_bytes(compress(b"one\ntwo\n"))
    with open_compressed(tmp_path / "any name") as file:
        assert list(file) == [b"one\n", b"two\n"]


def test_a_missing_file_is_a_mistake_with_its_name(tmp_path):
    with pytest.raises(AsrError, match="none: cannot read it: No such file"):
        open_compressed(tmp_path / "none")
