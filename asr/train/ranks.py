"""The processes of one training, and what they do together.

One process reads, checks and writes files: rank 0. The others wait for it, however long it takes,
and are given what it found. In training all of them wait for each other in every step, and there
`training.timeout_minutes` is the longest that one may take.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from asr.errors import AsrError
from asr.settings.training import TrainingSettings

T = TypeVar("T")

_PATIENCE = timedelta(days=30)
"""For work of rank 0 alone, such as decoding all recordings once; a process that dies is noticed
at once, because its connections close."""
_LOST = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out")
_ENDED = "asr/ended"


class OnEveryRank(AsrError):
    """An AsrError that all processes raise at the same time; rank 0 prints it."""


@dataclass(frozen=True)
class ProcessPlace:
    """Which process this is: `rank` of `world`, `local` of the `devices` on its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0
    devices: int = 1
    nodes: int = 1
    launcher: str = ""
    """`torchrun` or `SLURM`; empty: a process that was started by itself."""


class Ranks:
    """The processes of a training as one of them sees them; made by `joined`.

    Without arguments it is a training in one process, and nothing is sent anywhere.
    """

    def __init__(self, place: ProcessPlace | None = None, ddp: bool = False) -> None:
        self.place = place or ProcessPlace()
        self.ddp = ddp
        """Whether there is a process group, perhaps of one process."""
        self._patient: Any = None
        self._quick: Any = None
        self._store: Any = None

    @property
    def rank(self) -> int:
        """This process, from 0."""
        return self.place.rank

    @property
    def world(self) -> int:
        """Number of processes on all machines."""
        return self.place.world

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks of a tensor on the training's device; the argument may change."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order; for what can be pickled."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value, group=self._quick)
        return found

    def agree(self, decision: bool) -> bool:
        """What rank 0 decided: for decisions by a clock."""
        if self.world == 1:
            return decision
        decided = torch.tensor([int(decision)])
        distributed.broadcast(decided, src=0, group=self._quick)
        return bool(decided)

    def on_first(self, work: Callable[[], T]) -> T:
        """Work of rank 0 alone; its result on every rank.

        If it fails, rank 0 raises its error, and the others end without a message of their own.
        """
        if self.world == 1:
            return work()
        box: list[Any] = [None, None]
        if self.rank == 0:
            try:
                box[0] = work()
            except BaseException as error:
                distributed.broadcast_object_list([None, _status(error)], 0, group=self._patient)
                raise
        distributed.broadcast_object_list(box, 0, group=self._patient)
        if box[1] is not None:
            raise SystemExit(box[1])
        return box[0]

    def everywhere(self, work: Callable[[], T]) -> T:
        """Work of every rank by itself; if an AsrError ends it on any, rank 0 raises the first."""
        if self.world == 1:
            return work()
        result, problem = None, None
        try:
            result = work()
        except AsrError as error:
            problem = str(error)
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, problem, group=self._patient)
        for rank, text in enumerate(found):
            if text is not None:
                raise OnEveryRank(text if rank == 0 else f"process {rank}: {text}")
        return result  # type: ignore[return-value]

    def lost(self, error: BaseException | None) -> str:
        """What to say if an error means that another process has ended; empty if it does not.

        Raises SystemExit if that process has said itself why it ended.
        """
        while error is not None:
            text = str(error).lower()
            if self.world > 1 and any(sign in text for sign in _LOST):
                break
            error = error.__context__
        else:
            return ""
        if self._said():
            raise SystemExit(2)
        # Without the place in the library's source before it, and its advice behind it.
        first = re.sub(r"^\[[^\]]*\] ", "", str(error).partition("\n")[0]).partition(". ")[0]
        return (
            f"process {self.rank}: another of the {self.world} processes of this training was "
            f"killed, lost its connection or did not answer for training.timeout_minutes: {first}"
        )

    def say(self) -> None:
        """Tell the others that this process prints why it ends."""
        with contextlib.suppress(RuntimeError):  # the process that held the store may be gone
            self._store.set(_ENDED, str(self.rank))

    def _said(self) -> bool:
        try:
            return bool(self._store.check([_ENDED]))
        except RuntimeError:
            return False

    def _join(self, timeout: timedelta) -> None:
        """Make the process groups: NCCL between GPUs, Gloo between CPUs."""
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", self.place.local) if cuda else None
        if cuda:
            torch.cuda.set_device(self.place.local)
        if self.place.launcher:
            url = "env://"
            rendezvous = distributed.rendezvous(url, self.rank, self.world, timeout=timeout)
            self._store = next(iter(rendezvous))[0]
        else:
            self._store = distributed.HashStore()
        distributed.init_process_group(
            "nccl" if cuda else "gloo",
            store=distributed.PrefixStore("default", self._store),
            rank=self.rank,
            world_size=self.world,
            timeout=timeout,
            device_id=device,
        )
        self._quick = distributed.new_group(backend="gloo", timeout=timeout) if cuda else None
        self._patient = distributed.new_group(backend="gloo", timeout=_PATIENCE)


@contextlib.contextmanager
def joined(settings: TrainingSettings, place: ProcessPlace) -> Iterator[Ranks]:
    """The processes of a training, connected until the end of the block.

    An AsrError of one process ends the others too: at once where they wait for it, at the latest
    after `training.timeout_minutes`. Raises AsrError if they do not find each other.
    """
    check_place(settings, place)
    ranks = Ranks(place, ddp=place.world > 1 or settings.strategy == "ddp")
    if not ranks.ddp:
        yield ranks
        return
    try:
        ranks._join(timedelta(minutes=settings.timeout_minutes))
    except RuntimeError as error:
        raise AsrError(_not_joined(place, settings, error)) from None
    try:
        yield ranks
    except OnEveryRank:
        if ranks.rank:
            raise SystemExit(2) from None
        raise
    except AsrError as error:
        ranks.say()
        raise AsrError(f"process {ranks.rank}: {error}" if ranks.rank else str(error)) from None
    else:
        # Threads of gloo that outlive the program may abort it.
        distributed.destroy_process_group()


def check_place(settings: TrainingSettings, place: ProcessPlace) -> None:
    """AsrError if the settings and the program that started the processes disagree."""
    wanted = {"devices": settings.devices, "nodes": settings.nodes}
    started = {"devices": place.devices, "nodes": place.nodes}
    for key, count in wanted.items():
        if not count or count == started[key]:
            continue
        if not place.launcher:
            raise AsrError(
                f"training.{key}={count}: start {settings.devices or 'N'} processes on each of "
                f"{settings.nodes or 1} machines, with torchrun --nnodes {settings.nodes or 1} "
                f"--nproc-per-node {settings.devices or 'N'} -m asr train ..., or with srun (see "
                "recipes/SCALING.md)"
            )
        raise AsrError(
            f"training.{key}={count}, but {place.launcher} started {place.devices} processes on "
            f"each of {place.nodes} machines: give both the same number, or leave training.{key} "
            "out"
        )
    if torch.cuda.is_available() and torch.cuda.device_count() < place.devices:
        raise AsrError(
            f"{place.devices} processes on this machine and {torch.cuda.device_count()} GPUs that "
            "each of them sees: start as many processes as there are GPUs. Under SLURM ask for "
            "--gpus-per-node, not --gpus-per-task: every process must see all GPUs of its machine"
        )


def distinct(name: str, ranks: Ranks) -> str:
    """A file name of this rank's own: `batch.pt`, and `batch.rank3.pt` on rank 3."""
    stem, suffix = os.path.splitext(name)
    return f"{stem}.rank{ranks.rank}{suffix}" if ranks.rank else name


def _not_joined(place: ProcessPlace, settings: TrainingSettings, error: BaseException) -> str:
    first = str(error).partition("\n")[0]
    advice = (
        "; start the program with srun inside the batch script, not by itself"
        if place.launcher == "SLURM"
        else ""
    )
    return (
        f"process {place.rank}: the {place.world} processes of this training did not find each "
        f"other within training.timeout_minutes={settings.timeout_minutes:g}: {first}{advice}"
    )


def _status(error: BaseException) -> int:
    """The exit status of a program that ends with this error."""
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, AsrError) else 1
