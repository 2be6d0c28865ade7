"""A worker of a cluster: holds the recogniser, and transcribes one shard after the other.

It runs in a process of its own, perhaps on another machine. What a person can fix comes back as a
text and not as an exception: an exception would be taken for a fault of the worker.
"""

import os
import socket
from dataclasses import dataclass, field, replace

from asr.bulk.job import BulkJob
from asr.bulk.plan import BulkPlan, read_plan
from asr.bulk.shard import ShardTaken, ShardTotals
from asr.errors import AsrError
from asr.files import check_folder_writable
from asr.transcribe.recogniser import Recogniser

_MOST_MESSAGES = 100
"""Of a shard; its rows have all errors."""


@dataclass(frozen=True)
class ShardOutcome:
    """How the work on a shard ended."""

    totals: ShardTotals = field(default_factory=ShardTotals)
    messages: tuple[str, ...] = ()
    taken: bool = False
    """Another process holds the shard."""
    error: str = ""
    """What all recordings would fail of."""


class ShardWorker:
    """Transcribes shards of a job."""

    def __init__(self, job: BulkJob, plan: BulkPlan) -> None:
        self._messages: list[str] = []
        self.job, self.plan = replace(job, say=self._messages.append), plan
        self._recogniser: Recogniser | None = None

    def prepare(self, probes: list[str]) -> str:
        """Load the recogniser; what this machine lacks, in words, or an empty text.

        `probes` are recordings that the machine of the command has.
        """
        try:
            self._check(probes)
            self._recogniser = self.job.load()
        except (AsrError, ModuleNotFoundError) as error:
            return f"a worker on {socket.gethostname()}: {error}"
        return ""

    def run(self, index: int, alone: bool, fatal: int | None) -> ShardOutcome:
        """Transcribe the `index`-th shard; see `BulkJob.run`."""
        assert self._recogniser is not None
        self._messages.clear()
        try:
            totals = self.job.run(self.plan, index, self._recogniser, alone=alone, fatal=fatal)
        except ShardTaken:
            return ShardOutcome(taken=True)
        except AsrError as error:
            return ShardOutcome(error=f"a worker on {socket.gethostname()}: {error}")
        more = len(self._messages) - _MOST_MESSAGES
        said = self._messages[:_MOST_MESSAGES] + ([f"and {more} more"] if more > 0 else [])
        return ShardOutcome(totals, tuple(said))

    def _check(self, probes: list[str]) -> None:
        shared = "it must lie on a file system that all machines share, under the same path"
        folder = self.job.folder
        plan = read_plan(folder)
        if plan is None or plan.token != self.plan.token:
            raise AsrError(f"the output folder {folder} is not that of this command; {shared}")
        check_folder_writable(folder)
        missing = [path for path in probes if not os.path.exists(path)]
        if missing:
            raise AsrError(f"the recording {missing[0]} is not there; {shared}")
        here = self.job.settings()
        for name, value in self.plan.settings.items():
            if here.get(name) != value:
                raise AsrError(f"{name} is {here.get(name)} there, and {value} for this command")
