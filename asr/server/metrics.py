"""Figures for Prometheus at `/metrics`: of one process, or of all workers together."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from asr.server.jobs import Jobs

CONTENT_TYPE = CONTENT_TYPE_LATEST
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder where workers share their figures."""
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """What is counted. Labels are routes, statuses and models of this server, never a client's."""

    def __init__(self, models: Iterable[str]) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "asr_requests", "Requests answered", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "asr_request_seconds",
            "Time to an answer",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.audio = Counter("asr_audio_seconds", "Audio transcribed", ["model"], registry=registry)
        self.transcribing = Counter(
            "asr_transcribing_seconds", "Time spent on it", ["model"], registry=registry
        )
        self.bytes = Counter("asr_upload_bytes", "Bytes uploaded", registry=registry)
        self.waiting = self._gauge("asr_requests_waiting", "Requests that upload or wait")
        self.running = self._gauge("asr_requests_running", "Requests being transcribed")
        self.streams = self._gauge("asr_streams_open", "Open streams of /v1/listen")
        for name in models:
            self.audio.labels(name)
            self.transcribing.labels(name)
        if SHARED not in os.environ:
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(name, about, registry=self._registry, multiprocess_mode="livesum")

    def show(self, jobs: Jobs) -> None:
        """Set what waits and runs now."""
        self.waiting.set(jobs.waiting)
        self.running.set(jobs.running)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        registry = self._registry
        if SHARED in os.environ:
            _forget_dead_workers(Path(os.environ[SHARED]))
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry)


def _forget_dead_workers(folder: Path) -> None:
    """What a worker that died had running and waiting counts no more; its totals do."""
    for path in folder.glob("gauge_live*.db"):
        number = path.stem.rpartition("_")[2]
        if number.isdigit() and not Path(f"/proc/{number}").exists() and Path("/proc").exists():
            with suppress(OSError):
                mark_process_dead(int(number), str(folder))
