"""How the server runs: one frozen dataclass for Python and the command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr import environment
from asr.errors import AsrError, problems
from asr.plain import at_most

TOKEN_VARIABLE = "ASR_TOKEN"
"""The environment variable with the token, if no file holds it."""


@dataclass(frozen=True)
class ServerOptions:
    """How the server runs. Raises AsrError for values out of range."""

    models: tuple[str, ...] = ()
    """Models: a name of `asr models`, a model file, or NAME=MODEL; empty: `english`. The first is
    the default."""
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """Decoder options of all models, by name; the others are each model's own."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all networks."""
    port: int = 8000
    """Port to listen on; 0: any that is free."""
    unix_socket: str = ""
    """Unix socket to listen on, instead of an address and port."""
    workers: int = 1
    """Processes, each with the models in its memory. One that dies is started again."""
    threads: int = 1
    """Threads of the network, for each request."""
    concurrency: int = 0
    """Requests that are transcribed at once in each process, and as many streams; 0: as many as
    the cores have room for."""
    queue: int = 64
    """Further requests that may wait in each process; beyond, the answer is 429."""
    streams: int = 16
    """Streams of /v1/listen that may be open in each process."""
    max_megabytes: float = 25.0
    """Largest upload, in megabytes."""
    max_seconds: float = 3600.0
    """Longest recording or stream, in seconds."""
    request_seconds: float = 300.0
    """Longest time for a request: upload, waiting and transcription."""
    stop_seconds: float = 30.0
    """After SIGTERM or Ctrl-C, how long running requests may take to end."""
    language: str = ""
    """Language of model files of your own, which requests may then name, such as `en`."""
    token_file: str = ""
    """File with the tokens that clients may send, a line each; without it, the environment
    variable ASR_TOKEN; without either, no token is needed."""
    allow_origins: tuple[str, ...] = ()
    """Another web site whose pages may use this server, such as https://example.org."""

    def __post_init__(self) -> None:
        with problems() as check:
            for name in ("workers", "threads", "streams"):
                check(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: at least 1")
            for name in ("concurrency", "queue", "stop_seconds"):
                check(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: at least 0")
            for name in ("max_megabytes", "max_seconds", "request_seconds"):
                check(getattr(self, name) > 0, f"{name}={getattr(self, name)}: above 0")
            check(0 <= self.port <= 65535, f"port={self.port}: from 0 to 65535")
            at_most(check, "", self, workers=1024, threads=1024, concurrency=1024, queue=100_000)
            at_most(check, "", self, streams=100_000, max_megabytes=1e6, max_seconds=1e6)
            at_most(check, "", self, request_seconds=1e6, stop_seconds=1e6)
            for origin in self.allow_origins:
                known = origin.startswith(("http://", "https://")) and origin.count("/") == 2
                check(known, f"allow_origin={origin!r}: such as https://example.org, without path")

    @property
    def at_once(self) -> int:
        """Requests that are transcribed at once in each process."""
        return self.concurrency or max(1, environment.cores() // (self.workers * self.threads))

    @property
    def max_bytes(self) -> int:
        """Largest upload in bytes."""
        return round(self.max_megabytes * 1e6)


def read_tokens(path: str, variable: str) -> tuple[str, ...]:
    """The tokens of a file, a line each, or else the one of an environment variable's value.

    Empty lines and those that begin with # are left out, and blanks around a token. Raises AsrError
    for a file that cannot be read or has no token, and for a variable of blanks: a server that
    should be closed is never open by mistake.
    """
    if not path:
        if variable and not variable.strip():
            raise AsrError(f"{TOKEN_VARIABLE}: holds no token but blanks; unset it, or give one")
        return (variable.strip(),) if variable else ()
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise AsrError(f"{path}: the tokens cannot be read: {reason}") from None
    tokens = tuple(
        line.strip() for line in lines if line.strip() and not line.strip().startswith("#")
    )
    if not tokens:
        raise AsrError(f"{path}: holds no token; write one a line")
    return tokens
