"""`asr serve` under load and under attack: latency, what is lost, memory; its size and its start.

    python recipes/benchmarks/server.py [-o RECORD.json] [--seconds 60] [--clients 50] [--fuzz 200]
    python recipes/benchmarks/server.py --install [-o RECORD.json]

The first serves the English recogniser on a free port of 127.0.0.1. Clients, each one request
after another, send synthetic speech of 2, 10 and 60 s for a minute; who is told that the queue is
full comes back as `Retry-After` says. Then come clients that no server likes: slow ones, ones that
leave, uploads of 2 GB, wrong tokens, `kill -9`, and 200 damaged files of each format. The exit
status is 1 if a request was lost or a damaged file made the server fail.

The second installs the package with the extra `serve` into a new environment, from what the
Dockerfile copies, and prints its size and the time from `asr serve` to the first answer.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from lib import server_faults as faults
from lib.server_process import ServerProcess
from lib.speech import speech

from asr import environment
from asr.errors import AsrError
from asr.report.measurements import DisplayColumn, ExtraTable, table_of, write_measurement
from asr.train.record import command

LENGTHS = (2, 10, 60)
WEIGHTS = (6, 3, 1)
"""How often each length is sent: short ones more often."""
TOKEN = "benchmark"
LOAD = [
    DisplayColumn("Audio, s", "audio_seconds", "count"),
    DisplayColumn("Answered", "answered", "count"),
    DisplayColumn("Answered 429", "waited", "count"),
    DisplayColumn("Lost", "lost", "count"),
    DisplayColumn("Median, s", "p50", ".2f"),
    DisplayColumn("95 %, s", "p95", ".2f"),
]
FAULTS = [
    DisplayColumn("Client", "client"),
    DisplayColumn("What happens", "outcome"),
    DisplayColumn("Memory before, MiB", "before", ".0f"),
    DisplayColumn("after, MiB", "after", ".0f"),
]
FUZZ = [
    DisplayColumn("Damaged files", "kind"),
    DisplayColumn("Sent", "sent", "count"),
    DisplayColumn("Transcribed", "transcribed", "count"),
    DisplayColumn("Refused (4xx)", "refused", "count"),
    DisplayColumn("Failed (5xx)", "failed", "count"),
    DisplayColumn("Memory, MiB", "growth", "+.1f"),
]
INSTALL = [
    DisplayColumn("Installed", "what"),
    DisplayColumn("Size, MB", "megabytes", ".0f"),
    DisplayColumn("Listening after, s", "ready", ".2f"),
    DisplayColumn("First answer after, s", "first", ".2f"),
]


@dataclass
class Load:
    """What clients saw of one length."""

    audio_seconds: int
    seconds: list[float] = field(default_factory=list)
    """To each answer, tries that were told to wait included."""
    waited: int = 0
    lost: int = 0

    def row(self) -> dict[str, Any]:
        """For the record."""
        low, high = np.percentile(self.seconds, [50, 95]) if self.seconds else (None, None)
        return {
            "audio_seconds": self.audio_seconds,
            "answered": len(self.seconds),
            "waited": self.waited,
            "lost": self.lost,
            "p50": low,
            "p95": high,
        }


async def client(
    http: httpx.AsyncClient,
    files: dict[int, bytes],
    results: dict[int, Load],
    ends: float,
    seed: int,
) -> None:
    """One client, until the time is over."""
    chance = np.random.default_rng(seed)
    while time.perf_counter() < ends:
        length = int(chance.choice(LENGTHS, p=np.array(WEIGHTS) / sum(WEIGHTS)))
        load, started = results[length], time.perf_counter()
        while True:
            try:
                answer = await http.post(faults.ADDRESS, files={"file": ("a.flac", files[length])})
            except httpx.HTTPError:
                load.lost += 1
                break
            if answer.status_code == 429:
                load.waited += 1
                await asyncio.sleep(float(answer.headers["retry-after"]))
                continue
            if answer.status_code == 200 and answer.json()["text"]:
                load.seconds.append(time.perf_counter() - started)
            else:
                load.lost += 1
            break


async def crowd(
    server: ServerProcess, clients: int, seconds: float
) -> tuple[list[dict[str, Any]], list[float]]:
    """Many clients at once: a row for each length, and the memory in MiB as time goes on."""
    files = {length: faults.encode("flac", speech(length)) for length in LENGTHS}
    results = {length: Load(length) for length in LENGTHS}
    memory: list[float] = []
    limits = httpx.Limits(max_connections=clients)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        base_url=server.url, timeout=600, limits=limits, headers=headers
    ) as http:
        ends = time.perf_counter() + seconds

        async def watch() -> None:
            while True:
                memory.append(server.memory())
                await asyncio.sleep(seconds / 12)

        watching = asyncio.create_task(watch())
        await asyncio.gather(
            *(client(http, files, results, ends, number) for number in range(clients))
        )
        watching.cancel()
    return [load.row() for load in results.values()], memory


def trouble(server: ServerProcess) -> list[dict[str, Any]]:
    """Each kind of client that no server likes, but for those that end it."""
    recording = faults.encode("wav", speech(60))
    cases = {
        "a byte a second": lambda: faults.send_slowly(server),
        "40 that leave in the middle": lambda: faults.leave(server, recording[:2_000_000], 40),
        "2 GB, announced": lambda: faults.flood(server, promise=True),
        "2 GB, not announced": lambda: faults.flood(server, promise=False),
    }
    rows = []
    for name, act in cases.items():
        before = server.memory()
        outcome = act()
        rows.append(
            {"client": name, "outcome": outcome, "before": before, "after": server.memory()}
        )
        print(f"{name}: {outcome}", flush=True)
    return rows


def killed() -> dict[str, Any]:
    """`kill -9` in the middle of an upload, and the next start."""
    with ServerProcess() as server:
        before = server.memory()
        connection = faults.connect(server)
        with connection:
            connection.sendall(faults.head(server, 20_000_000) + faults.FRONT + bytes(5_000_000))
            time.sleep(1)
            server.kill()
        left = len(server.files())
    with ServerProcess() as again:
        outcome = f"{left} files left; the next one answers {again.ready_seconds:.1f} s later"
        return {"client": "kill -9", "outcome": outcome, "before": before, "after": again.memory()}


def tokens() -> dict[str, Any]:
    """Wrong tokens."""
    with ServerProcess() as server:
        before = server.memory()
        outcome = faults.wrong_tokens(server, 200)
        return {
            "client": "wrong tokens", "outcome": outcome, "before": before,
            "after": server.memory(),
        }  # fmt: skip


def measure(options: argparse.Namespace) -> int:
    """Load, faults and damaged files; 1 if something was lost or failed."""
    with ServerProcess() as server:
        rows, memory = asyncio.run(crowd(server, options.clients, options.seconds))
        print(table_of(LOAD, rows).text(), flush=True)
        spots = ", ".join(f"{value:.0f}" for value in memory)
        print(f"memory in MiB, at equal times: {spots}", flush=True)
        hard = trouble(server)
        mistakes = server.tracebacks()
    hard.append(killed())
    os.environ["ASR_TOKEN"] = TOKEN
    hard.append(tokens())
    del os.environ["ASR_TOKEN"]
    print(table_of(FAULTS, hard).text(), flush=True)
    with ServerProcess() as server:
        broken = list(faults.fuzz(server, speech(1.0), options.fuzz))
        mistakes += server.tracebacks()
    print(table_of(FUZZ, broken).text(), f"\ntracebacks: {mistakes}", flush=True)
    if options.output:
        write_measurement(
            options.output,
            "server",
            "load",
            command(),
            LOAD,
            rows,
            [
                f"{options.clients} clients at once for {options.seconds:g} s, which run on the "
                f"same {environment.cores()} cores as the server and whatever else runs there "
                f"(load average {os.getloadavg()[0]:.0f}).",
                f"Memory of the server in MiB, at equal times: {spots}.",
                f"Tracebacks in the logs: {mistakes}.",
            ],
            {"memory_mib": memory, "load_average": os.getloadavg()[0], "tracebacks": mistakes},
            tables=[
                ExtraTable("Misbehaving clients", tuple(FAULTS), tuple(hard)),
                ExtraTable("Damaged files", tuple(FUZZ), tuple(broken)),
            ],
        )
    lost = sum(row["lost"] for row in rows) + sum(row["failed"] for row in broken)
    return int(lost + mistakes > 0)


def size_of(folder: Path) -> float:
    """Megabytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def install(options: argparse.Namespace) -> int:
    """Install base and `serve`, then `media` too, and start the server of each."""
    root, rows = Path(__file__).resolve().parents[2], []
    recording = faults.encode("flac", speech(2.0))
    with tempfile.TemporaryDirectory(prefix="asr-install-") as name:
        folder = Path(name)
        source = folder / "source"
        source.mkdir()
        for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(root / file, source)
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(root / "asr", source / "asr", ignore=ignored)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        empty = size_of(folder / "venv")
        for extras in ("serve", "serve,media"):
            pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            # Without PYTHONPATH: what is installed is measured, not this tree.
            clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
            subprocess.run([*pip, f"{source}[{extras}]"], check=True, env=clean, cwd=folder)
            rows.append(
                {
                    "what": f"asr[{extras}]",
                    "megabytes": size_of(folder / "venv") - empty,
                    **first_answer(str(python), recording),
                }
            )
    print(table_of(INSTALL, rows).text())
    if options.output:
        notes = [
            "Size of what pip adds to an empty environment. Best of three starts, with the files "
            "in the system's cache, of the English recogniser and its language model; load average "
            f"{os.getloadavg()[0]:.0f}."
        ]
        details = {"load_average": os.getloadavg()[0]}
        write_measurement(
            options.output, "server_install", "install", command(), INSTALL, rows, notes, details
        )
    return 0


def first_answer(python: str, recording: bytes) -> dict[str, float]:
    """Seconds from `asr serve` until it listens, and to its first answer: the best of three."""
    before = os.environ.pop("PYTHONPATH", None)
    found = []
    try:
        for _ in range(3):
            with ServerProcess(python=python) as server:
                files = {"file": ("a.flac", recording)}
                answer = httpx.post(server.url + faults.ADDRESS, files=files, timeout=120)
                if answer.status_code != 200:
                    raise AsrError(f"the first answer is {answer.text}")
                found.append((time.perf_counter() - server.started, server.ready_seconds))
    finally:
        if before is not None:
            os.environ["PYTHONPATH"] = before
    first, ready = min(found)
    return {"ready": ready, "first": first}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="recipes/benchmarks/server.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", type=Path, help="record to write")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long clients send")
    parser.add_argument("--clients", type=int, default=50, help="clients at once")
    parser.add_argument("--fuzz", type=int, default=200, help="damaged files of each format")
    parser.add_argument("--install", action="store_true", help="measure size and start instead")
    options = parser.parse_args(list(arguments))
    return install(options) if options.install else measure(options)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"server: {error}")
