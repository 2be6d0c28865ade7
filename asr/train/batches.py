"""Which utterances go together, in which order: a pure function of (seed, epoch, rank).

Nothing is drawn while loading and no state is kept, so a training resumes at any batch at once,
with any number of worker processes. 281,000 utterances are planned in well under a second.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from asr.audio.batch import split_by_length

SPREAD = 0.1
"""Utterances may change places within a batch plan if their durations differ by this fraction."""


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
        self.durations = np.maximum(np.asarray(durations, dtype=np.float64), 1e-3)
        self.batch_seconds = batch_seconds
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self.world = world
        self.start = start
        self._order = np.argsort(-self.durations, kind="stable")
        # Split once, as if each place had the longest utterance that any epoch may put there. So
        # the places of a batch, and with them the number of batches, are those of every epoch.
        ordered = self.durations[self._order]
        longest = ordered[0] if len(ordered) else 0.0
        self._places = split_by_length(np.minimum(ordered * (1 + SPREAD), longest), batch_seconds)

    def __len__(self) -> int:
        return len(self._places) // self.world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self._batches()[self.start :]:
            yield [(self.epoch, int(index)) for index in batch]

    def _batches(self) -> list[np.ndarray]:
        """Index arrays of this epoch's batches on this rank, the skipped ones included."""
        generator = np.random.default_rng([self.seed, self.epoch])
        order = self._jittered(generator)
        shuffled = generator.permutation(len(self._places))[: len(self) * self.world]
        return [order[self._places[i]] for i in shuffled[self.rank :: self.world]]

    def _jittered(self, generator: np.random.Generator) -> np.ndarray:
        """The sorted list, shuffled within classes of duration that are `1 + SPREAD` wide.

        The classes begin elsewhere in each epoch, so that neighbours are not the same ones.
        """
        width = np.log1p(SPREAD)
        ordered = np.log(self.durations[self._order])
        classes = np.floor(ordered / width + generator.random())
        return self._order[np.lexsort((generator.random(len(ordered)), -classes))]

    def largest(self) -> list[tuple[int, int]]:
        """The batch of this epoch and rank with the most seconds, padding included."""
        batches = self._batches()
        cost = [self.durations[batch].max() * len(batch) for batch in batches]
        return [(self.epoch, int(index)) for index in batches[int(np.argmax(cost))]]


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
