"""Which utterances go together, in which order: a pure function of (seed, epoch, rank).

Nothing is drawn while loading and no state is kept, so a training resumes at any batch at once,
with any number of worker processes. `recipes/benchmarks/plan.py` measures how long 30 million
utterances take, and how much memory.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from asr.audio.batch import SHORTEST, split_by_length

SPREAD = 0.1
"""Utterances may change places within a batch plan if their durations differ by this fraction."""
_AT_ONCE = 2**20
"""Durations in arrays of double precision."""


@dataclass
class Batch:
    """Utterances padded to the longest.

    `features` `(batch, frames, mels)` float32, `targets` `(batch, longest)` int64, both zero
    beyond the int64 lengths `(batch,)`; `seconds` of audio, padding not counted.
    """

    features: Tensor
    feature_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    ids: list[str]
    seconds: float

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes send batches. A tensor would go through the shared memory of the system
        # (/dev/shm), and where that is small, as in containers, end the worker with a bus error.
        # An array goes through a pipe, which takes some milliseconds and no room.
        return {
            name: value.numpy()
            if isinstance(value, Tensor) and value.device.type == "cpu"
            else value
            for name, value in vars(self).items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            is_array = isinstance(value, np.ndarray)
            setattr(self, name, torch.from_numpy(value) if is_array else value)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Copy with its tensors on `device`; Lightning calls this."""
        moved = {
            field.name: getattr(self, field.name).to(device, non_blocking=non_blocking)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


class BatchPlan(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch on one rank, as lists of `(epoch, index)`.

    `durations` in seconds; a batch costs `longest * count <= batch_seconds`. Every utterance
    comes once an epoch, except in at most `world - 1` batches that are left out, different ones in
    each epoch, so that all ranks have as many. The number is also the same in every epoch. The
    first `start` batches are skipped; `len` still counts them, as Lightning's progress does.
    """

    def __init__(
        self,
        durations: np.ndarray,
        batch_seconds: float,
        seed: int,
        epoch: int,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
    ) -> None:
        assert 0 <= rank < world
        assert start >= 0
        self.batch_seconds = batch_seconds
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self.world = world
        self.start = start
        # There may be tens of millions of durations, so they stay as they come (float32), nothing
        # is held twice, and larger numbers are made of one class of durations at a time.
        self.durations = np.asarray(durations)
        self._order = _longest_first(self.durations)
        self._ordered = self.durations[self._order]
        # Split once, as if each place had the longest utterance that any epoch may put there. So
        # the places of a batch, and with them the number of batches, are those of every epoch.
        self._edges = split_by_length(self._ordered, batch_seconds, longer=SPREAD)

    def __len__(self) -> int:
        return (len(self._edges) - 1) // self.world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, batches = self._epoch()
        for batch in batches[self.start :]:
            yield self._keys(order, batch)

    def _epoch(self) -> tuple[np.ndarray, np.ndarray]:
        """The utterances by place in this epoch, and this rank's batches, the skipped ones too."""
        generator = np.random.default_rng([self.seed, self.epoch])
        order = self._jittered(generator)
        shuffled = generator.permutation(len(self._edges) - 1)[: len(self) * self.world]
        return order, shuffled[self.rank :: self.world]

    def _keys(self, order: np.ndarray, batch: int) -> list[tuple[int, int]]:
        places = order[self._edges[batch] : self._edges[batch + 1]]
        return [(self.epoch, index) for index in places.tolist()]

    def _jittered(self, generator: np.random.Generator) -> np.ndarray:
        """The sorted list, shuffled within classes of duration that are `1 + SPREAD` wide.

        The classes begin elsewhere in each epoch, so that neighbours are not the same ones.
        """
        order = np.empty_like(self._order)
        classes = _classes(self._ordered, generator.random())
        edges = [0, *(np.flatnonzero(np.diff(classes)) + 1).tolist(), len(order)]
        for start, end in pairwise(edges):
            shuffled = np.argsort(generator.random(end - start), kind="stable")
            order[start:end] = self._order[start:end][shuffled]
        return order

    def largest(self) -> list[tuple[int, int]]:
        """The batch of this epoch and rank with the most seconds, padding included."""
        order, batches = self._epoch()
        longest = np.maximum.reduceat(self.durations[order], self._edges[:-1])
        cost = (longest.astype(np.float64) * np.diff(self._edges))[batches]
        return self._keys(order, int(batches[np.argmax(cost)]))


def _longest_first(durations: np.ndarray) -> np.ndarray:
    """Indices by falling duration, equal ones in their order; int32 where that is enough."""
    order = np.argsort(-np.maximum(durations, SHORTEST), kind="stable")
    return order.astype(np.int32 if len(order) < 2**31 else np.int64)


def _classes(ordered: np.ndarray, phase: float) -> np.ndarray:
    """For each of some durations the number of its class; classes are `1 + SPREAD` wide."""
    classes, width = np.empty(len(ordered), dtype=np.int32), np.log1p(SPREAD)
    for start in range(0, len(ordered), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        seconds = np.maximum(ordered[part].astype(np.float64), SHORTEST)
        classes[part] = np.floor(np.log(seconds) / width + phase)
    return classes


def collate(
    items: Sequence[tuple[str, Tensor, Sequence[int], float]],
) -> Batch:
    """Pad `(id, features (frames, mels), target tokens, seconds)` of utterances to one batch."""
    ids, features, targets, seconds = zip(*items, strict=True)
    tokens = [torch.tensor(target, dtype=torch.int64) for target in targets]
    pad = torch.nn.utils.rnn.pad_sequence
    return Batch(
        features=pad(list(features), batch_first=True),
        feature_lengths=torch.tensor([len(f) for f in features]),
        targets=pad(tokens, batch_first=True),
        target_lengths=torch.tensor([len(t) for t in tokens]),
        ids=list(ids),
        seconds=float(sum(seconds)),
    )


def batch_bytes(batch: Batch) -> bytes:
    """A batch as a file that `torch.load` reads with `weights_only`."""
    buffer = io.BytesIO()
    torch.save(vars(batch), buffer)
    return buffer.getvalue()
