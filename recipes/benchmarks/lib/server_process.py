"""`asr serve` as a process that is watched: its address, its memory, what it logs."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from asr.errors import AsrError

_LONGEST_START = 120.0


class ServerProcess:
    """A server of its own on a free port of 127.0.0.1; a context manager that ends it."""

    def __init__(self, *words: str, python: str = sys.executable) -> None:
        self.started = time.perf_counter()
        self._folder = tempfile.TemporaryDirectory(prefix="asr-benchmark-")
        self.log = Path(self._folder.name) / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-m", "asr", "serve", "--port", "0", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder.name,  # from where nothing is imported
                env=os.environ | {"TMPDIR": self._folder.name},
            )
        self.url = self._wait()
        self.ready_seconds = time.perf_counter() - self.started

    def _wait(self) -> str:
        while time.perf_counter() - self.started < _LONGEST_START:
            found = re.search(r"listening on (http://[^ ,]+)", self.log.read_text())
            if self.process.poll() is not None:
                raise AsrError(f"asr serve: {self.log.read_text()}")
            if found:
                with suppress(httpx.HTTPError):
                    if httpx.get(f"{found[1]}/health", timeout=30).status_code == 200:
                        return found[1]
            time.sleep(0.02)
        raise AsrError("asr serve does not answer")

    def memory(self) -> float:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def requests(self) -> list[dict[str, Any]]:
        """The logged lines of requests."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [plain for plain in map(json.loads, lines) if "route" in plain]

    def tracebacks(self) -> int:
        """Mistakes of the server that it logged."""
        return self.log.read_text().count("Traceback")

    def files(self) -> list[str]:
        """Files that lie in its temporary folder, beside its log."""
        return [name for name in os.listdir(self._folder.name) if name != "log"]

    def kill(self) -> None:
        """End it at once, as the system does when memory is short."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        self._folder.cleanup()
