"""`asr cluster transcribe`: all shards of a job, by workers on a Ray cluster.

The driver gives every worker one shard at a time, so there are never more in flight than workers. A
worker that dies is replaced, and its shard goes on behind its last row. The driver itself remembers
nothing: shards that are finished are files, and the same command goes on from them.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from asr.bulk.job import BulkJob
from asr.bulk.listing import read_list
from asr.bulk.plan import MOST_SHARDS, BulkPlan, list_of
from asr.bulk.run import failures
from asr.bulk.shard import ShardFiles, ShardTotals
from asr.bulk.worker import ShardOutcome, ShardWorker
from asr.corpus.progress import fraction_bar
from asr.errors import AsrError, counted
from asr.transcribe.progress import times_real

_STARTS = 3
"""Attempts to start a cluster, and workers in a row that may end before they are ready."""
_DEATHS, _DEATHS_OF_EACH = 8, 4
"""Workers, and those in each worker's place, that may end while no shard is finished: more than a
few bad recordings explain."""
_PATIENCE_SECONDS = 60.0
"""To wait for the first worker before a warning, and for a shard that another process holds."""
_TICK_SECONDS = 1.0


def transcribe_on_cluster(
    job: BulkJob,
    inputs: Sequence[str | Path],
    shards: int | None = None,
    workers: int | None = None,
    address: str | None = None,
    accept_truncated: bool = False,
    bar: bool = True,
) -> int:
    """Transcribe all of `inputs` into the folder of the job; the same command goes on.

    `shards` None: that of the folder, or `plan.default_shards`. `workers` None: as many as the
    cluster has CPUs (or GPUs) for. `address` None: a cluster of this machine alone, which ends with
    the command. Returns how many recordings failed or, unless `accept_truncated`, are not complete.
    Raises AsrError for what `transcribe_shard` refuses, for workers that do not see the files of
    this machine, and ModuleNotFoundError without ray.
    """
    import ray

    if job.device == "auto":
        raise AsrError("device=auto: a cluster has to know what a worker needs; cpu or cuda")
    if workers is not None and workers < 1:
        raise AsrError(f"workers={workers}: at least 1")
    if shards is not None and not 1 <= shards <= MOST_SHARDS:
        raise AsrError(f"shards={shards}: from 1 to {MOST_SHARDS:,}")
    # First: a model that is none must not begin a folder. This machine may lack a GPU.
    replace(job, device="cpu").load()
    plan = job.begin(inputs, shards)
    known = {
        index: ShardFiles(job.folder, plan, index, job.form).totals()
        for index in range(1, plan.shards + 1)
    }
    done = sum((totals for totals in known.values() if totals), ShardTotals())
    todo = [index for index, totals in known.items() if totals is None]
    started, before, replaced = time.perf_counter(), done, 0
    if todo:
        with ExitStack() as stack:
            count = stack.enter_context(_cluster(ray, job, workers, address))
            update = stack.enter_context(fraction_bar("transcribing")) if bar else None
            driver = _Driver(ray, job, plan, todo, min(count, len(todo)), done, update)
            try:
                done = driver.run()
            except KeyboardInterrupt:
                job.say("stopped; run the same command to continue")
                raise
            finally:
                driver.end()
            replaced = driver.replaced
    seconds = done.seconds - before.seconds
    parts = [
        f"{counted(done.rows, 'recording')} in {counted(plan.shards, 'shard')}",
        f"{before.rows} done before" if before.rows else "",
        f"{done.seconds:.1f} s of audio",
        times_real(seconds, time.perf_counter() - started) if seconds else "",
        f"{counted(replaced, 'worker')} replaced" if replaced else "",
    ]
    job.say(", ".join(filter(None, parts)) + f"; {failures(done, accept_truncated)}")
    return done.unusable(accept_truncated)


@contextmanager
def _cluster(ray: Any, job: BulkJob, workers: int | None, address: str | None) -> Iterator[int]:
    """A connection to a cluster; yields the number of workers."""
    _connect(ray, workers * job.threads if workers else None, address)
    try:
        kind, each = ("GPU", 1) if job.device == "cuda" else ("CPU", job.threads)
        largest = max((n["Resources"].get(kind, 0) for n in ray.nodes() if n["Alive"]), default=0)
        if largest < each:
            raise AsrError(
                f"a worker needs {each} {kind}, and no machine of the cluster has more than "
                f"{largest:g}"
            )
        yield workers or int(ray.cluster_resources()[kind] // each)
    finally:
        ray.shutdown()


def _connect(ray: Any, cpus: int | None, address: str | None) -> None:
    """Connect to a cluster, or start one that has `cpus` (None: those of the machine)."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        # Nothing large passes between driver and workers.
        options |= {"address": "local", "num_cpus": cpus, "object_store_memory": 100_000_000}
        options |= {"include_dashboard": False}
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(**options)
            return
        except Exception as error:  # of that very class, when a start takes more than 30 s
            ray.shutdown()
            if attempt < _STARTS and "timed out during startup" in str(error):
                continue
            where = f"at {address}" if address else "on this machine"
            hint = " (one with a token needs RAY_AUTH_MODE=token)" if address else ""
            reason = str(error).strip().splitlines()[0] + hint
            raise AsrError(f"no Ray cluster {where}: {reason}") from None


class _Driver:
    """Gives shards to workers until all are finished."""

    def __init__(
        self,
        ray: Any,
        job: BulkJob,
        plan: BulkPlan,
        todo: Sequence[int],
        workers: int,
        done: ShardTotals,
        update: Callable[[float], None] | None,
    ) -> None:
        self.ray, self.job, self.plan = ray, job, plan
        self.done, self.replaced = done, 0
        self._todo, self._update = deque(todo), update or (lambda fraction: None)
        self._workers: list[Any] = []
        # Of each call that is in flight its worker, and its shard; None while a worker starts.
        self._calls: dict[Any, tuple[Any, int | None]] = {}
        self._deaths: Counter[int] = Counter()
        self._deaths_at: Counter[tuple[int, int]] = Counter()
        self._taken: dict[int, float] = {}
        self._unready = 0
        self._deaths_in_a_row = 0
        self._most_deaths = _DEATHS + _DEATHS_OF_EACH * workers
        recordings = islice(read_list(list_of(job.folder)), 100)
        paths = [r.audio_filepath for r in recordings if os.path.exists(r.audio_filepath)]
        self._probes = paths[:3]
        gpus = 1 if job.device == "cuda" else 0
        self._actor = ray.remote(num_cpus=job.threads, num_gpus=gpus)(ShardWorker)
        for _ in range(workers):
            self._start()

    def run(self) -> ShardTotals:
        """The totals of all rows, when the last shard is finished. Raises AsrError."""
        self._update(self.done.rows / max(self.plan.recordings, 1))
        since, warned = time.monotonic(), False
        while self._todo or any(index for _, index in self._calls.values()):
            ready, _ = self.ray.wait(list(self._calls), timeout=_TICK_SECONDS)
            for call in ready:
                worker, index = self._calls.pop(call)
                self._returned(call, worker, index)
            if ready:
                since = time.monotonic()
            starting = all(index is None for _, index in self._calls.values())
            if starting and not warned and time.monotonic() - since > _PATIENCE_SECONDS:
                warned = True
                self.job.say("no worker has started yet: the cluster may have no room for one")
        return self.done

    def end(self) -> None:
        """End all workers."""
        while self._workers:
            self._end_one(self._workers[-1])

    def _start(self) -> None:
        worker = self._actor.remote(self.job, self.plan)
        self._workers.append(worker)
        self._calls[worker.prepare.remote(self._probes)] = worker, None

    def _end_one(self, worker: Any) -> None:
        self._workers = [each for each in self._workers if each is not worker]
        self.ray.kill(worker)

    def _returned(self, call: Any, worker: Any, index: int | None) -> None:
        """A worker has started, has finished a shard, or is gone."""
        try:
            result = self.ray.get(call)
        except self.ray.exceptions.RayTaskError:
            raise  # a bug
        except self.ray.exceptions.RayError as error:
            self._died(worker, index, error)
            return
        if index is None:
            if result:
                raise AsrError(result)
            self._unready = 0
        else:
            self._finished(index, result)
        self._next(worker)

    def _finished(self, index: int, outcome: ShardOutcome) -> None:
        if outcome.error:
            raise AsrError(outcome.error)
        if outcome.taken:
            # By a worker of a driver that was killed, perhaps, which is about to end too.
            since = self._taken.setdefault(index, time.monotonic())
            if time.monotonic() - since > _PATIENCE_SECONDS:
                raise AsrError(
                    f"shard {index}/{self.plan.shards} is being transcribed by another process; "
                    "end it, or wait for it, and run the same command again"
                )
            self._todo.append(index)
            time.sleep(0.1)
            return
        self._deaths_in_a_row = 0
        for message in outcome.messages:
            self.job.say(message)
        self.done += outcome.totals
        self._update(self.done.rows / max(self.plan.recordings, 1))

    def _next(self, worker: Any) -> None:
        """Give a worker the next shard, or let it go."""
        if not self._todo:
            self._end_one(worker)
            return
        index = self._todo.popleft()
        rows = self._rows(index)
        # A shard that ends its workers is read recording by recording; the one that ends a worker
        # twice then is given up.
        alone = self._deaths[index] > 1
        fatal = rows if self._deaths_at[index, rows] > 1 else None
        call = worker.run.remote(index, alone, fatal)
        self._calls[call] = worker, index

    def _died(self, worker: Any, index: int | None, error: Exception) -> None:
        """Replace a worker that is gone; its shard is done by another one."""
        self._end_one(worker)  # it may only be out of reach
        if index is None:
            self._unready += 1
            if self._unready >= _STARTS:
                raise AsrError(f"workers end before they are ready: {_reason(error)}")
        else:
            self.replaced += 1
            self._deaths_in_a_row += 1
            if self._deaths_in_a_row > self._most_deaths:
                raise AsrError(
                    f"{self._deaths_in_a_row} workers ended, and no shard was finished meanwhile: "
                    f"{_reason(error)}. Fewer workers need less memory"
                )
            if self._deaths[index] > 1:
                self._deaths_at[index, self._rows(index)] += 1
            self._deaths[index] += 1
            self._todo.append(index)
            self.job.say(
                f"a worker ended in shard {index}/{self.plan.shards}, another one goes on: "
                f"{_reason(error)}"
            )
        self._start()

    def _rows(self, index: int) -> int:
        """How many rows of an unfinished shard are written."""
        path = ShardFiles(self.job.folder, self.plan, index, self.job.form).unfinished
        try:
            with path.open("rb") as file:
                return sum(line.endswith(b"\n") for line in file)
        except FileNotFoundError:
            return 0


def _reason(error: Exception) -> str:
    """The line of a long message of Ray's that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    wanted = ("Error", "exit", "killed", "died")
    return next((line for line in reversed(lines) if any(w in line for w in wanted)), lines[0])
