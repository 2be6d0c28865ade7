"""Listens on an address or a Unix socket, and runs the application in one or several processes."""

import errno
import logging.config
import os
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from asr.errors import AsrError
from asr.server.app import AppFactory
from asr.server.log import logging_config
from asr.server.metrics import SHARED
from asr.server.models import Models
from asr.server.options import TOKEN_VARIABLE, ServerOptions, read_tokens
from asr.server.protocol import PatientWebSocket, PunctualProtocol

_SLACK_SECONDS = 5
"""What uvicorn waits longer than we do for requests to end."""
_BACKLOG = 1024
_WORKER_SECONDS = 60
"""How long a worker may take to say that it lives: a slow machine needs a while to start one."""
_FRAME_BYTES = 1 << 20
"""Largest message of a stream: half a minute at 16 kHz."""
_LOG = logging.getLogger("asr.server")


def serve(options: ServerOptions) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises AsrError for what cannot be served, or listened on."""
    tokens = read_tokens(options.token_file, os.environ.get(TOKEN_VARIABLE, ""))
    logging.config.dictConfig(logging_config())
    # uvicorn raises the signal again when all requests have ended; ours then ends us in order.
    signal.signal(signal.SIGTERM, _exit)
    factory = AppFactory(options, tokens)
    with listening(options) as (listener, address):
        if options.workers == 1:
            app = factory()
            _say(options, address, tokens)
            uvicorn.Server(server_config(options, app)).run(sockets=[listener])
            return
        Models(options)  # a mistake is said once, by this process
        _say(options, address, tokens)
        with tempfile.TemporaryDirectory(prefix="asr-metrics-") as folder:
            os.environ[SHARED] = folder
            Multiprocess(server_config(options, factory, logging_config()), [listener]).run()


def _exit(number: int, frame: Any) -> None:
    sys.exit(0)


def server_config(
    options: ServerOptions, app: Any, log_config: dict[str, Any] | None = None
) -> uvicorn.Config:
    """How uvicorn runs an application, or the one that an `AppFactory` makes."""
    return uvicorn.Config(
        app,
        factory=isinstance(app, AppFactory),
        workers=options.workers,
        http=PunctualProtocol,
        ws=PatientWebSocket,
        ws_max_size=_FRAME_BYTES,
        loop="asyncio",
        lifespan="on",
        log_config=log_config,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_worker_healthcheck=_WORKER_SECONDS,
        timeout_graceful_shutdown=round(options.stop_seconds) + _SLACK_SECONDS,
    )


def _say(options: ServerOptions, address: str, tokens: tuple[str, ...]) -> None:
    """Say where the server listens, and to whom."""
    who = "clients need a token" if tokens else "no token is needed"
    _LOG.info("listening on %s, %s", address, who)
    if not tokens and not options.unix_socket and not _is_local(options.host):
        _LOG.warning("everybody who reaches this address may use it; --token-file closes it")


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


@contextmanager
def listening(options: ServerOptions) -> Iterator[tuple[socket.socket, str]]:
    """The socket that clients connect to, and its address in words.

    Raises AsrError if the address is in use, not of this machine, or not allowed.
    """
    where = options.unix_socket or f"{options.host}:{options.port}"
    try:
        if options.unix_socket:
            listener = _unix_listener(options.unix_socket)
            address = f"unix:{options.unix_socket}"
        else:
            listener, address = _tcp_listener(options.host, options.port)
    except UnicodeError:  # of the rules for names of hosts
        raise AsrError(f"{where}: cannot listen there: not an address") from None
    except OSError as error:
        hint = "; give another with --port" if error.errno == errno.EADDRINUSE else ""
        raise AsrError(f"{where}: cannot listen there: {error.strerror or error}{hint}") from None
    try:
        yield listener, address
    finally:
        listener.close()
        if options.unix_socket:
            with suppress(OSError):
                os.unlink(options.unix_socket)


def _tcp_listener(host: str, port: int) -> tuple[socket.socket, str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


def _unix_listener(path: str) -> socket.socket:
    """A socket of this name, in place of one that a server left behind when it was killed."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.lexists(path):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise AsrError(f"{path}: is there and not a socket; give another name")
            _refuse_if_used(path)
            os.unlink(path)
        listener.bind(path)
    except BaseException:
        listener.close()
        raise
    return listener


def _refuse_if_used(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            return
    raise AsrError(f"{path}: another server listens there")
