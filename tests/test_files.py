"""Atomic writes with the right mode, locks with one holder, compressed files."""

import errno
import gzip
import lzma
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.files import (
    CannotWrite,
    atomic_path,
    atomic_write_bytes,
    atomic_write_text,
    check_folder_writable,
    check_writable,
    locked,
    open_compressed,
    print_if_lost,
)

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


# --- what is not a regular file ---


def read_in_thread(path: Path) -> tuple[threading.Thread, list[bytes]]:
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    thread.start()
    return thread, got


@posix
@pytest.mark.parametrize("size", [0, 3, 1 << 20])
def test_a_named_pipe_stays_one_and_its_reader_gets_all(tmp_path, size):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread, got = read_in_thread(pipe)
    check_writable(pipe)
    atomic_write_bytes(pipe, b"x" * size)
    thread.join(20)
    assert got == [b"x" * size]
    assert stat.S_ISFIFO(os.lstat(pipe).st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


@posix
@pytest.mark.parametrize("name", ["null", "zero", "terminal"])
def test_a_device_stays_one_and_is_written_to(tmp_path, name):
    pty = pytest.importorskip("pty")
    mine, theirs = pty.openpty()
    device = Path(os.ttyname(theirs) if name == "terminal" else f"/dev/{name}")
    (tmp_path / "link").symlink_to(device)
    for path in (device, tmp_path / "link"):
        check_writable(path)
        atomic_write_text(path, "words")
        assert stat.S_ISCHR(os.stat(path).st_mode)
    assert stat.S_ISCHR(os.lstat(device).st_mode)
    assert os.path.islink(tmp_path / "link")
    if name == "terminal":
        assert os.read(mine, 100) == b"wordswords"
    os.close(mine)
    os.close(theirs)


@posix
@pytest.mark.parametrize("kind", ["file", "missing", "relative", "link to a link", "folder"])
def test_a_link_is_followed_and_stays(tmp_path, kind):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    target, link = tmp_path / "there" / "file", tmp_path / "here" / "link"
    if kind != "missing":
        target.write_text("old")
    if kind == "folder":
        link.symlink_to(target.parent)
        written = link / "file"
    elif kind == "link to a link":
        (tmp_path / "other").symlink_to(target)
        link.symlink_to(tmp_path / "other")
        written = link
    else:
        link.symlink_to("../there/file" if kind == "relative" else target)
        written = link
    check_writable(written)
    atomic_write_text(written, "new")
    assert target.read_text() == "new"
    assert link.is_symlink()
    assert (os.listdir(tmp_path / "there"), os.listdir(tmp_path / "here")) == (["file"], ["link"])


@posix
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/fd/7"])
def test_an_open_descriptor_is_written_to_where_it_stands(tmp_path, name):
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("a system without /proc")
    code = (
        "import os, sys; from asr.files import atomic_write_text, check_writable\n"
        "os.dup2(1, 7); print('before')\n"
        "check_writable(sys.argv[1]); atomic_write_text(sys.argv[1], 'words\\n'); print('after')"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code, name], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\nwords\nafter\n"
    run = subprocess.run([sys.executable, "-c", code, name], capture_output=True, check=True)
    assert run.stdout == b"before\nwords\nafter\n"


@posix
@pytest.mark.parametrize("fail", ["body", "reader is gone", "full"])
def test_nothing_is_left_of_what_could_not_be_written_through(tmp_path, monkeypatch, fail):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    path = Path("/dev/full") if fail == "full" else Path("/dev/null")
    if fail == "reader is gone":
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    if fail == "body":
        with pytest.raises(ZeroDivisionError), atomic_path(path):
            raise ZeroDivisionError
    else:
        with pytest.raises(CannotWrite, match=f"{path}: cannot be written: "):
            atomic_write_text(path, "words")
    assert os.listdir(tmp_path / "tmp") == []


# --- what cannot be written ---


def no_places(folder: Path) -> dict[str, Path]:
    (folder / "file").write_text("")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "to a folder").symlink_to(folder / "folder")
    return {
        "below a file": folder / "file" / "deep" / "x",
        "no such device folder": Path("/proc/asr/x"),
        "a read-only system": Path("/sys/x"),
        "a folder": folder / "folder",
        "a link to a folder": folder / "to a folder",
        "a link in a circle": folder / "loop",
        "a long name": folder / ("x" * 300),
        "a long folder": folder / ("x" * 300) / "x",
    }


@posix
@pytest.mark.parametrize("kind", range(8))
def test_what_cannot_be_written_is_a_sentence_before_the_work_and_after(tmp_path, kind):
    name, path = list(no_places(tmp_path).items())[kind]
    before = sorted(tmp_path.rglob("*"))
    for write in (check_writable, lambda p: atomic_write_text(p, "x")):
        with pytest.raises(CannotWrite) as refused:
            write(path)
        assert str(refused.value).startswith(f"{path}: "), name
        assert refused.value.errno
    if "folder" not in name and "link" not in name:
        with pytest.raises(CannotWrite):
            check_folder_writable(path / "deep")
    assert sorted(tmp_path.rglob("*")) == before


@posix
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_place_that_can_be_written_passes_and_nothing_is_made(tmp_path, depth):
    folder = tmp_path.joinpath(*["deep"] * depth)
    check_folder_writable(folder)
    check_writable(folder / "file")
    check_writable(None)
    assert os.listdir(tmp_path) == []


@posix
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_a_sentence_and_leaves_the_old_file(tmp_path, number):
    path = tmp_path / "file"
    path.write_text("old")

    def fill_the_disk() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(CannotWrite) as refused:
        fill_the_disk()
    assert str(refused.value) == f"{path}: cannot be written: {os.strerror(number)}"
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["file"])


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "input"), OSError("no number"), KeyError("x")]
)
def test_an_error_of_the_work_itself_is_not_taken_for_one_of_writing(tmp_path, error):
    with pytest.raises(type(error)) as raised, atomic_path(tmp_path / "file"):
        raise error
    assert raised.value is error


@posix
def test_what_was_measured_is_printed_when_it_cannot_be_written(capsys):
    with pytest.raises(CannotWrite), print_if_lost("WER 3 %"):
        atomic_write_text("/dev/full", "x")
    assert capsys.readouterr().out == "WER 3 %\n"
    with print_if_lost("WER 3 %"):
        atomic_write_text("/dev/null", "x")
    assert capsys.readouterr().out == ""


@posix
@settings(max_examples=50, deadline=None)
@given(
    name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1),
    length=st.integers(1, 255),
)
def test_every_name_that_the_system_takes_can_be_written(tmp_path_factory, name, length):
    name = (name * length).encode()[:length].decode(errors="ignore")
    if name in ("", ".", ".."):
        return
    folder = tmp_path_factory.mktemp("names")
    check_writable(folder / name)
    atomic_write_text(folder / name, "words")
    assert os.listdir(folder) == [name]
    assert (folder / name).read_text() == "words"
