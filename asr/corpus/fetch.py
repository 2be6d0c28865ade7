"""Files from the internet: resumed where they stopped, checked against a published MD5 sum.

`NAME.part` holds what has come so far, `NAME.part.json` where it came from. A file gets its name
only when its sum is right, so what has the name is whole. Needs the package requests.
"""

import contextlib
import errno
import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.corpus.progress import Meter, size_of
from asr.errors import AsrError
from asr.files import CannotWrite, atomic_write_text

if TYPE_CHECKING:
    import requests

_BLOCK = 1 << 16
"""Bytes read at a time: what a cut connection loses at most."""
_TRY_LATER = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that may be another one a moment later."""
_RANGE = re.compile(r"bytes (\d+)-\d*/(\d+|\*)")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds, and how often it is asked again."""

    connect: float = 30.0
    stalled: float = 60.0
    """Without a byte, after which a connection is given up and opened again."""
    attempts: int = 8
    """In a row that brought nothing, after which the download is given up."""
    wait: float = 1.0
    """Before the second attempt; doubled for each further one."""
    longest_wait: float = 60.0


@dataclass(frozen=True)
class Published:
    """A file as its publisher describes it."""

    name: str
    md5: str
    size: int | None = None
    """Bytes; None: not published."""


class _TryAgain(Exception):
    """A failure that may pass, in words; `after`: seconds that the server asks to wait."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


def fetch(
    url: str,
    target: Path,
    published: Published,
    say: Callable[[str], object] = print,
    patience: Patience | None = None,
) -> None:
    """Download `url` to `target`, going on with what an interrupted call has left.

    Raises AsrError for what the server refuses, a file of another size or sum (which is removed)
    and a server that stays silent, CannotWrite for a full disk; what has come is kept and the next
    call goes on from there.
    """
    import requests

    download = _Download(url, target, published, say, patience or Patience())
    with requests.Session() as session, Meter(target.name, published.size) as meter:
        download.meter = meter
        download.run(session)


def md5_of(path: Path, update: Callable[[int], object] = lambda done: None) -> str:
    """The MD5 sum of a file, in hexadecimal; `update` is called with the bytes read so far."""
    digest = hashlib.md5(usedforsecurity=False)
    _hash_into(digest, path, update)
    return digest.hexdigest()


def _hash_into(digest: Any, path: Path, update: Callable[[int], object]) -> int:
    done = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            done += len(block)
            update(done)
    return done


class _Download:
    """One file on its way: what is there, and the sum of it."""

    meter: Meter

    def __init__(
        self,
        url: str,
        target: Path,
        published: Published,
        say: Callable[[str], object],
        patience: Patience,
    ) -> None:
        self.url, self.target, self.published = url, target, published
        self.say, self.patience = say, patience
        self.part = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")
        self.total = published.size
        self.have = 0
        self.digest = hashlib.md5(usedforsecurity=False)
        self.pieces = 0
        """Answers and earlier calls that the file was put together from."""

    def run(self, session: "requests.Session") -> None:
        """Download until the file is whole and its sum is right."""
        self._take_up()
        self._complete(session)
        if self.pieces > 1 and not self._is_right():
            # A piece may be of another version of the file, or of an HTML page sent in its place.
            self.say(f"{self.target.name}: its pieces do not fit together; from the beginning")
            self._restart()
            self._complete(session)
        if not self._is_right():
            found = self.digest.hexdigest()
            self.part.unlink()
            self.note.unlink(missing_ok=True)
            raise AsrError(
                f"{self.url}: the MD5 sum is {found}, published is {self.published.md5}: the file "
                "is damaged, or another one; it was removed. Run the same command to fetch it "
                "again, or name another server with --mirror"
            )
        self.part.replace(self.target)
        self.note.unlink(missing_ok=True)

    def _is_right(self) -> bool:
        return bool(self.digest.hexdigest() == self.published.md5)

    def _take_up(self) -> None:
        """Go on with what an earlier call has left, if it can be what is published."""
        if not self.part.exists():
            return
        size = self.part.stat().st_size
        if self.total is not None and size > self.total:
            self.part.unlink()
        elif size:
            self.say(f"{self.target.name}: going on after {size_of(size)}")
            self.have = _hash_into(self.digest, self.part, self.meter.update)
            self.pieces = 1

    def _restart(self) -> None:
        self.have = 0
        self.digest = hashlib.md5(usedforsecurity=False)
        self.meter.update(0)

    def _complete(self, session: "requests.Session") -> None:
        """Ask until all bytes are there."""
        failures = 0
        while self.total is None or self.have < self.total:
            before = self.have
            try:
                self._ask(session)
                return
            except _TryAgain as error:
                failures = 1 if self.have > before else failures + 1
                if failures >= self.patience.attempts:
                    raise AsrError(
                        f"{self.url}: {error}; given up after {failures} attempts. "
                        f"{size_of(self.have)} are kept. Run the same command to continue"
                    ) from None
                wait = min(self.patience.wait * 2 ** (failures - 1), self.patience.longest_wait)
                wait = max(wait, min(error.after, self.patience.longest_wait))
                self.say(f"{self.target.name}: {error}; trying again in {wait:g} s")
                time.sleep(wait)

    def _ask(self, session: "requests.Session") -> None:
        """One request, and as much of its answer as comes. Raises _TryAgain."""
        import requests

        headers = {"Accept-Encoding": "identity"}  # a .gz is the file, not an encoding of it
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
        timeout = (self.patience.connect, self.patience.stalled)
        try:
            answer = session.get(self.url, headers=headers, stream=True, timeout=timeout)
        except requests.exceptions.SSLError as error:
            raise AsrError(f"{self.url}: no secure connection: {_innermost(error)}") from None
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _TryAgain(f"no connection ({_innermost(error)})") from None
        except requests.RequestException as error:
            raise AsrError(f"{self.url}: cannot be fetched: {_innermost(error)}") from None
        with answer:
            if self._begin(answer):
                self.pieces += 1
                self._receive(answer)

    def _begin(self, answer: "requests.Response") -> bool:
        """Whether the answer has what is missing. Raises AsrError for one that never will."""
        status = answer.status_code
        if status in _TRY_LATER:
            after = answer.headers.get("Retry-After", "")
            raise _TryAgain(f"the server answers {status} {answer.reason}", _seconds(after))
        if status == 416:  # nothing behind what is there: it is all, or of another file
            if self.total is None:
                return False
            self._restart()
            raise _TryAgain("the server has less than what is there; from the beginning")
        if status not in (200, 206):
            raise AsrError(
                f"{self.url}: the server answers {status} {answer.reason}; is the address right? "
                "Another server can be named with --mirror"
            )
        start, total = _place(answer)
        if self.published.size is not None and total not in (None, self.published.size):
            raise AsrError(
                f"{self.url}: has {total:,} bytes, published are {self.published.size:,}: it is "
                "another file; name another server with --mirror"
            )
        self.total = self.meter.total = total or self.total
        source = _source_of(answer)
        if self.have and (start != self.have or self._was_changed(source)):
            why = "has changed on the server" if start == self.have else "cannot be continued there"
            self.say(f"{self.target.name}: {why}; from the beginning")
            self._restart()
            if start:
                raise _TryAgain(why)
            self.pieces = 0
        atomic_write_text(self.note, json.dumps(source) + "\n")
        return True

    def _was_changed(self, source: dict[str, str]) -> bool:
        """Whether the same address now has another file.

        Not sent as If-Range: mirrors that share an address in turn have ETags of their own, and
        what they send can be joined; the sum decides.
        """
        before: Any = None
        with contextlib.suppress(OSError, ValueError):
            before = json.loads(self.note.read_bytes())
        if not isinstance(before, dict) or before.get("url") != source["url"]:
            return False
        return any(before.get(key) != source[key] for key in source)

    def _receive(self, answer: "requests.Response") -> None:
        """Write the answer behind what is there. Raises _TryAgain if it ends early."""
        import urllib3

        blocks = answer.raw.stream(_BLOCK, decode_content=False)
        with self.part.open("r+b" if self.have else "wb", buffering=0) as file:
            file.seek(self.have)
            while True:
                try:
                    block = next(blocks, b"")
                except (urllib3.exceptions.HTTPError, OSError) as error:
                    stalled = isinstance(error, urllib3.exceptions.ReadTimeoutError | TimeoutError)
                    why = f"nothing came for {self.patience.stalled:g} s"
                    raise _TryAgain(why if stalled else "the connection was cut") from None
                if not block:
                    break
                if self.total is not None and self.have + len(block) > self.total:
                    raise AsrError(f"{self.url}: the server sends more than {self.total:,} bytes")
                self._write(file, block)
        if self.total is not None and self.have < self.total:
            raise _TryAgain("the connection was cut")

    def _write(self, file: Any, block: bytes) -> None:
        left = memoryview(block)
        while left:
            try:
                written = file.write(left)
            except OSError as error:
                missing = f"{size_of(self.total - self.have)} " if self.total else ""
                raise CannotWrite(
                    f"{self.part}: {error.strerror}. {size_of(self.have)} are kept; make room for "
                    f"the {missing}that are missing and run the same command again",
                    error.errno or errno.ENOSPC,
                ) from None
            self.digest.update(left[:written])
            left = left[written:]
            self.have += written
            self.meter.update(self.have)


def _place(answer: "requests.Response") -> tuple[int, int | None]:
    """Where an answer begins in its file, and the bytes of the whole, None if it is not said."""
    if answer.status_code == 206:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None:
            return -1, None
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _source_of(answer: "requests.Response") -> dict[str, str]:
    """Where an answer came from, and what tells that version of the file from another."""
    kinds = {"url": answer.url}
    for key in ("ETag", "Last-Modified"):
        if value := answer.headers.get(key):
            kinds[key] = value
    return kinds


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() and len(text) < 9 else 0.0


def _innermost(error: BaseException) -> str:
    """What the system says, out of the layers that libraries put around it."""
    seen = [error]
    while True:
        inner = seen[-1].__cause__ or seen[-1].__context__ or getattr(seen[-1], "reason", None)
        if not isinstance(inner, BaseException) or inner in seen:
            break
        seen.append(inner)
    for found in reversed(seen):
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
    return str(seen[-1]).rpartition(": ")[2] or type(error).__name__
