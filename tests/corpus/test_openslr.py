"""Parts of LibriSpeech end up whole, whatever interrupts a run; a second run does nothing."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import file_server as http
import mini_librispeech as mini
import pytest

from asr.corpus import librispeech, openslr
from asr.corpus.fetch import Patience, Published
from asr.corpus.manifest import read_manifest
from asr.corpus.openslr import get_language_models, get_librispeech
from asr.errors import AsrError
from asr.files import CannotWrite, locked

FAST = Patience(connect=2.0, stalled=0.3, attempts=3, wait=0.01)


@pytest.fixture(scope="module")
def archives(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, openslr.SpeechPart]]:
    folder = tmp_path_factory.mktemp("archives")
    return folder, mini.write(folder)


@pytest.fixture
def server(archives) -> Iterator[http.FileServer]:
    with http.serve() as running:
        for path in archives[0].iterdir():
            running.files[f"/resources/12/{path.name}"] = path.read_bytes()
        yield running


@pytest.fixture
def get(server, archives, tmp_path):
    """Run the command into `tmp_path / "libri"`."""

    def run(*parts: str, **named) -> Path:
        folder = tmp_path / "libri"
        mirror = named.pop("mirror", f"{server.address}/resources")
        table = {**archives[1], **named.pop("table", {})}
        get_librispeech(folder, parts, mirror, table, FAST)
        return folder

    return run


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def test_parts_are_fetched_checked_unpacked_and_listed(get, server, capsys):
    folder = get("dev-clean", "test-clean", "dev-clean")
    parts = {"dev-clean", "dev-clean.jsonl", "test-clean", "test-clean.jsonl"}
    assert names(folder) == parts | {"SPEAKERS.TXT", ".lock"}
    utterances = read_manifest(folder / "dev-clean.jsonl")
    assert len(utterances) == 6
    assert utterances == librispeech.scan(folder / "dev-clean")
    assert {u.speaker for u in utterances} == {"100", "101"}
    first = json.loads((folder / "dev-clean.jsonl").read_text().splitlines()[0])
    assert first["audio_filepath"] == "dev-clean/100/7/100-7-0000.flac"
    assert (folder / "dev-clean" / ".completed").is_file()
    assert len(server.asked) == 2
    assert "dev-clean: 6 utterances, 0.00 hours" in capsys.readouterr().out


def test_a_second_run_asks_nobody_and_says_so_in_under_a_second(get, server, capsys):
    folder = get("dev-clean")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    server.asked.clear()
    capsys.readouterr()
    started = time.monotonic()
    get("dev-clean")
    assert time.monotonic() - started < 1
    assert capsys.readouterr().out == f"dev-clean: complete, {folder}/dev-clean.jsonl\n"
    assert server.asked == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_archive_of_a_cut_connection_is_continued(get, server):
    server.answers += [http.cut_after(20_000), http.cut_after(30_000)]
    get("dev-clean")
    assert [place for _, place in server.asked] == [None, "bytes=20000-", "bytes=50000-"]


def test_a_manifest_that_was_deleted_is_written_again_without_a_download(get, server):
    folder = get("dev-clean")
    server.asked.clear()
    text = (folder / "dev-clean.jsonl").read_text()
    (folder / "dev-clean.jsonl").unlink()
    get("dev-clean")
    assert (folder / "dev-clean.jsonl").read_text() == text
    assert server.asked == []


def test_a_folder_that_somebody_unpacked_is_used_if_it_is_whole(get, server, archives):
    folder = get("dev-clean")
    (folder / "dev-clean" / ".completed").unlink()
    server.asked.clear()
    get("dev-clean")
    assert (folder / "dev-clean" / ".completed").is_file()
    assert server.asked == []


def test_a_half_unpacked_folder_is_never_taken_for_whole(get):
    folder = get("dev-clean")
    (folder / "dev-clean" / ".completed").unlink()
    last = folder / "dev-clean/101/7/101-7-0002.flac"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AsrError, match="is not whole: 5 of 6 utterances can be read; remove"):
        get("dev-clean")
    last.unlink()
    with pytest.raises(AsrError, match="no recording 101-7-0002"):
        get("dev-clean")
    transcript = folder / "dev-clean/101/7/101-7.trans.txt"
    transcript.write_text("".join(transcript.read_text().splitlines(True)[:2]))
    with pytest.raises(AsrError, match="is not whole: 5 of 6"):
        get("dev-clean")
    assert not (folder / "dev-clean" / ".completed").exists()


def bad_archive(server, content: bytes) -> dict[str, openslr.SpeechPart]:
    server.files["/resources/12/bad.tar.gz"] = content
    return {"bad": mini.entry("bad.tar.gz", content, 6)}


def test_an_archive_with_a_traversing_path_or_a_link_leaves_nothing(get, server, tmp_path):
    import tarfile

    link = tarfile.TarInfo("LibriSpeech/bad/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    for content in (mini.tar_gz({"../../evil.txt": b"x"}), mini.tar_gz({"a": b"x"}, link)):
        table = bad_archive(server, content)
        (tmp_path / "libri" / ".archives" / "bad.tar.gz").unlink(missing_ok=True)
        with pytest.raises(AsrError, match="not unpacked"):
            get("bad", table=table)
        assert names(tmp_path / "libri") == {".archives", ".lock"}
        assert not list(tmp_path.rglob("evil.txt"))


def test_an_archive_of_something_else_is_refused(get, server):
    with pytest.raises(AsrError, match="has no folder LibriSpeech/bad"):
        get("bad", table=bad_archive(server, mini.archive("dev-clean")))


def test_wrong_names_are_refused_with_the_nearest_right_one(get, tmp_path):
    with pytest.raises(AsrError, match=r"'dev-claen' is not a part .* did you mean dev-clean"):
        get("dev-claen")
    with pytest.raises(AsrError, match="name at least one part"):
        get()
    assert not (tmp_path / "libri").exists()


def test_archives_in_a_folder_are_used_where_they_are(get, server, archives, tmp_path):
    folder = get("all", mirror=str(archives[0]))
    assert {"dev-clean.jsonl", "test-clean.jsonl"} < names(folder)
    assert server.asked == []
    assert len(names(archives[0])) == 2
    with pytest.raises(AsrError, match=r"no dev-clean\.tar\.gz in this folder"):
        get_librispeech(tmp_path / "other", ["dev-clean"], str(tmp_path), archives[1])
    damaged = bytearray((archives[0] / "dev-clean.tar.gz").read_bytes())
    damaged[1000] ^= 1
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "dev-clean.tar.gz").write_bytes(damaged)
    with pytest.raises(AsrError, match="the MD5 sum is"):
        get_librispeech(tmp_path / "other", ["dev-clean"], str(tmp_path), archives[1])


def test_two_processes_do_not_fetch_into_one_folder(get, tmp_path):
    with locked(tmp_path / "libri" / ".lock"), pytest.raises(AsrError, match="another process"):
        get("dev-clean")


def test_too_little_room_is_said_before_hours_of_work(get, server, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("usage", (), {"free": 1000}))
    with pytest.raises(CannotWrite, match=r"libri: dev-clean needs .* kB more; 1\.0 kB are free"):
        get("dev-clean")
    assert server.asked == []


def test_a_disk_that_fills_while_unpacking_keeps_the_archive(get, server, archives, tmp_path):
    content = mini.tar_gz({"LibriSpeech/big/1.bin": bytes(3_000_000)})
    table = bad_archive(server, content)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        with pytest.raises(CannotWrite, match=r"cannot be unpacked: .*archive is kept; make room"):
            get("bad", table=table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path / "libri") == {".archives", ".lock"}
    assert (tmp_path / "libri/.archives/bad.tar.gz").read_bytes() == content


INTERRUPTED = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
import mini_librispeech as mini
from asr.corpus import openslr, unpack
archives, folder, step = sys.argv[1:]
content = Path(archives, "dev-clean.tar.gz").read_bytes()
table = {"dev-clean": mini.entry("dev-clean.tar.gz", content, 6)}
module, name = {
    "file": (unpack, "_write"),
    "rename": (openslr, "publish"),
    "manifest": (openslr, "write_manifest"),
    "mark": (openslr, "atomic_write_text"),
}[step]
real, calls = getattr(module, name), []
def waits(*words):
    calls.append(words)
    if step != "file" or len(calls) == 4:
        print("here", flush=True)
        time.sleep(60)
    return real(*words)
setattr(module, name, waits)
openslr.get_librispeech(Path(folder), ["dev-clean"], archives, table)
"""


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("file", signal.SIGKILL),
        ("file", signal.SIGINT),
        ("rename", signal.SIGKILL),
        ("manifest", signal.SIGKILL),
        ("mark", signal.SIGKILL),
    ],
)
def test_a_call_that_is_killed_at_any_step_is_finished_by_the_next(
    step, number, get, archives, tmp_path
):
    folder = tmp_path / "libri"
    path = os.pathsep.join([os.path.dirname(http.__file__), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(archives[0]), str(folder), step],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    if number == signal.SIGINT:
        assert "stopped; run the same command to continue" in errors
    assert not (folder / "dev-clean" / ".completed").exists()
    get("dev-clean")
    assert names(folder) == {"dev-clean", "dev-clean.jsonl", "SPEAKERS.TXT", ".lock"}
    assert len(read_manifest(folder / "dev-clean.jsonl")) == 6


def test_language_models_are_fetched_once_and_checked(server, tmp_path, capsys):
    import hashlib

    table = {}
    for name, file in (("3-gram", "3-gram.arpa.gz"), ("lexicon", "lexicon.txt")):
        content = name.encode() * 1000
        server.files[f"/resources/11/{file}"] = content
        table[name] = Published(file, hashlib.md5(content).hexdigest())
    mirror = f"{server.address}/resources/"
    get_language_models(tmp_path, ["3-gram"], mirror, table, FAST)
    (tmp_path / "lexicon.txt").write_bytes(server.files["/resources/11/lexicon.txt"])
    get_language_models(tmp_path, ["3-gram", "lexicon"], mirror, table, FAST)
    get_language_models(tmp_path, ["all"], mirror, table, FAST)
    assert [path for path, _ in server.asked] == ["/resources/11/3-gram.arpa.gz"]
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"3-gram: complete, {tmp_path}/3-gram.arpa.gz",
        f"lexicon: complete, {tmp_path}/lexicon.txt",
    ]
    (tmp_path / "lexicon.txt").write_text("changed")
    with pytest.raises(AsrError, match=r"lexicon\.txt: the MD5 sum is"):
        get_language_models(tmp_path, ["lexicon"], mirror, table, FAST)


def test_the_published_tables_are_complete():
    assert tuple(openslr.LIBRISPEECH) == librispeech.OFFICIAL_PARTS
    assert sum(part.utterances for part in openslr.LIBRISPEECH.values()) == 292_367
    for table in (openslr.LIBRISPEECH, openslr.LANGUAGE_MODELS):
        sums = [published.md5 for published in table.values()]
        assert all(len(one) == 32 and int(one, 16) for one in sums)
        assert len(set(sums)) == len(table)
