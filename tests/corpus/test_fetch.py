"""Downloads end with the published file or with a message, and never lose what has come."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import file_server as http
import numpy as np
import pytest

from asr.corpus.fetch import Patience, Published, fetch
from asr.errors import AsrError
from asr.files import CannotWrite

CONTENT = np.random.default_rng(0).bytes(1_000_003)
FILE = Published("a.tar.gz", hashlib.md5(CONTENT).hexdigest(), len(CONTENT))
FAST = Patience(connect=2.0, stalled=0.3, attempts=3, wait=0.01)


@pytest.fixture
def server() -> Iterator[http.FileServer]:
    with http.serve() as running:
        running.files["/a.tar.gz"] = CONTENT
        yield running


class Fetched:
    """Calls `fetch`, and remembers what it said."""

    def __init__(self, server: http.FileServer, folder: Path) -> None:
        self.server, self.path = server, folder / "a.tar.gz"
        self.part = folder / "a.tar.gz.part"
        self.said: list[str] = []

    def __call__(self, published: Published = FILE, name: str = "/a.tar.gz") -> None:
        url = self.server.address + name
        fetch(url, self.path, published, self.said.append, FAST)
        assert self.path.read_bytes() == CONTENT
        assert os.listdir(self.path.parent) == ["a.tar.gz"]


@pytest.fixture
def get(server: http.FileServer, tmp_path: Path) -> Fetched:
    return Fetched(server, tmp_path)


def test_a_connection_that_is_cut_is_opened_again_where_it_ended(server, get):
    server.answers += [http.cut_after(300_000), http.cut_after(0), http.cut_after(500_000)]
    get()
    assert server.asked == [
        ("/a.tar.gz", place) for place in (None, "bytes=300000-", "bytes=300000-", "bytes=800000-")
    ]
    assert get.said[0] == "a.tar.gz: the connection was cut; trying again in 0.01 s"


def test_a_stalled_connection_is_given_up_and_opened_again(server, get):
    server.answers.append(http.stall_after(200_000, 3.0))
    started = time.monotonic()
    get()
    assert time.monotonic() - started < 2
    assert "nothing came for 0.3 s" in get.said[0]
    assert server.asked[1][1] is not None


def test_a_server_that_cuts_always_is_given_up_and_what_came_is_kept(server, get):
    server.answers += [http.cut_after(100_000)] + [http.cut_after(0)] * 2
    with pytest.raises(AsrError, match=r"cut; given up after 3 attempts\. 100\.0 kB are kept"):
        get()
    assert get.part.read_bytes() == CONTENT[:100_000]
    get()
    assert server.asked[-1] == ("/a.tar.gz", "bytes=100000-")
    assert get.said[-1] == "a.tar.gz: going on after 100.0 kB"


def test_a_server_without_ranges_starts_over(server, get):
    server.answers += [http.cut_after(400_000), http.without_ranges]
    get()
    assert "a.tar.gz: cannot be continued there; from the beginning" in get.said


def test_an_answer_from_another_place_of_the_file_is_not_joined(server, get):
    server.answers += [http.cut_after(400_000), http.wrong_range]
    get()
    assert server.asked[-1][1] is None


def test_a_file_that_changed_on_the_server_is_not_joined_with_the_old_one(server, get):
    server.answers.append(http.cut_after(400_000))
    server.files["/a.tar.gz"] = bytes(len(CONTENT))

    def changed(request: http.Request) -> None:
        server.files["/a.tar.gz"], server.etag = CONTENT, '"2"'
        http.good(request)

    server.answers.append(changed)
    get()
    assert "a.tar.gz: has changed on the server; from the beginning" in get.said


def test_pieces_that_do_not_fit_together_are_fetched_once_more(server, get):
    get.part.write_bytes(bytes(500_000))
    get()
    assert "a.tar.gz: its pieces do not fit together; from the beginning" in get.said
    assert [place for _, place in server.asked] == ["bytes=500000-", None]


def test_a_wrong_byte_is_found_and_the_file_removed(server, get, tmp_path):
    server.answers.append(http.wrong_byte)
    with pytest.raises(AsrError, match=f"published is {FILE.md5}.*removed.*--mirror"):
        get()
    assert os.listdir(tmp_path) == []
    get()


def test_a_file_of_another_length_is_refused_before_it_comes(server, get, tmp_path):
    server.files["/a.tar.gz"] = CONTENT[:-1]
    with pytest.raises(AsrError, match="has 1,000,002 bytes, published are 1,000,003"):
        get()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["/gone.tar.gz"])
def test_an_address_that_is_wrong_is_said_at_once(server, get, name):
    with pytest.raises(AsrError, match=r"gone\.tar\.gz: the server answers 404 Not Found"):
        get(name=name)
    assert len(server.asked) == 1


def test_a_redirection_is_followed_also_when_a_download_goes_on(server, get):
    server.answers += [http.redirect("/a.tar.gz"), http.cut_after(1000)]
    server.answers += [http.redirect("/a.tar.gz")]
    get(name="/moved")
    assert server.asked[-1] == ("/a.tar.gz", "bytes=1000-")


def test_a_redirection_in_a_circle_is_an_error(server, get):
    server.answers += [http.redirect("/a.tar.gz")] * 50
    with pytest.raises(AsrError, match="cannot be fetched"):
        get()


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(server, get):
    server.answers += [http.status(503), http.status(500), http.status(429, Retry_After="1")]
    fetch(
        server.address + "/a.tar.gz",
        get.path,
        FILE,
        get.said.append,
        Patience(attempts=4, wait=0.01, longest_wait=0.1),
    )
    assert get.path.read_bytes() == CONTENT
    assert get.said == [
        "a.tar.gz: the server answers 503 Service Unavailable; trying again in 0.01 s",
        "a.tar.gz: the server answers 500 Internal Server Error; trying again in 0.02 s",
        "a.tar.gz: the server answers 429 Too Many Requests; trying again in 0.1 s",
    ]


def test_no_server_at_all_is_an_error_after_some_attempts(server, get):
    with pytest.raises(AsrError, match=r"no connection \(Connection refused\); given up after 3"):
        fetch("http://127.0.0.1:9/a.tar.gz", get.path, FILE, get.said.append, FAST)
    for address in ("nonsense", "ftp://a/b", "http://"):
        with pytest.raises(AsrError, match="cannot be fetched"):
            fetch(address, get.path, FILE, get.said.append, FAST)


def test_a_file_whose_size_is_not_known_is_whole_by_its_sum(server, get):
    unknown = Published("a.tar.gz", FILE.md5)
    server.answers.append(http.without_length)
    get(unknown)
    get.path.unlink()
    get.part.write_bytes(CONTENT)  # whole, but for its name
    get(unknown)
    get.path.unlink()
    get.part.write_bytes(CONTENT + b"more")
    get()


def test_what_is_whole_but_for_its_name_is_not_fetched_again(server, get):
    get.part.write_bytes(CONTENT)
    get()
    assert server.asked == []


def test_a_limit_on_files_keeps_what_came_and_says_what_is_missing(server, get):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    try:
        with pytest.raises(CannotWrite, match=r"600\.0 kB are kept; make room for the 400\.0 kB"):
            get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert get.part.read_bytes() == CONTENT[:600_000]
    get()
    assert server.asked[-1] == ("/a.tar.gz", "bytes=600000-")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_keeps_what_came_and_says_what_is_missing(server, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(small)], check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        get = Fetched(server, small)
        with pytest.raises(CannotWrite, match=r"No space left on device\. .* are kept"):
            get()
        kept = get.part.stat().st_size
        assert kept > 500_000
        assert get.part.read_bytes() == CONTENT[:kept]
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        get()
        assert server.asked[-1][1] == f"bytes={kept}-"
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_download_that_is_killed_goes_on_where_it_was(server, get, number):
    server.answers.append(http.slowly(0.05))
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from asr.corpus.fetch import Published, fetch\n"
        "fetch(sys.argv[1], Path(sys.argv[2]), Published('a.tar.gz', sys.argv[3]))"
    )
    url = server.address + "/a.tar.gz"
    process = subprocess.Popen([sys.executable, "-c", code, url, str(get.path), FILE.md5])
    while not (get.part.exists() and get.part.stat().st_size > 200_000):
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(number)
    process.wait(timeout=10)
    kept = get.part.stat().st_size
    assert get.part.read_bytes() == CONTENT[:kept]
    get()
    assert server.asked[-1][1] == f"bytes={kept}-"
