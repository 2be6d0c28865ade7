"""`asr serve` in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from types import TracebackType

INSECURE = "here.test"
"""A name of this machine for the browser of the tests: http to it is not secure, as to any other."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A running server; models and options are those of the command line."""

    def __init__(self, *words: object, token: str = "", port: int = 0) -> None:
        self.port = port or free_port()
        self.address = f"http://localhost:{self.port}"
        self._command = [sys.executable, "-m", "asr", "serve", *map(str, words)]
        self._command += ["--port", str(self.port)]
        self._environment = {**os.environ, "ASR_TOKEN": token}

    def __enter__(self) -> "Server":
        self._log = tempfile.TemporaryFile()  # noqa: SIM115: closed in __exit__
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=self._log, stderr=self._log
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(f"asr serve did not start:\n{self.said}")
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.stop()
        self._log.seek(0)
        self.said = self._log.read().decode(errors="replace")
        self._log.close()

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End it; by default as a power cut does."""
        self._process.send_signal(number)
        self._process.wait(timeout=60)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as got:
                return got.status == 200
        except OSError:
            return False

