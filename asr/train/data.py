"""Utterances -> batches of features for Lightning, resumed exactly in the middle of an epoch.

The batches of an epoch are a pure function of seed and epoch, and each utterance draws its
augmentation from (seed, epoch, id). So the state of the data is two numbers, whatever the number of
worker processes. The loader is built anew for every epoch: use
`Trainer(use_distributed_sampler=False, reload_dataloaders_every_n_epochs=1)`.
"""

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from asr import audio
from asr.audio.batch import batch_by_length
from asr.corpus.index import durations_of
from asr.corpus.manifest import Utterance
from asr.corpus.workers import FORKS, end_with_parent
from asr.errors import AsrError
from asr.features import logmel_torch as frontend
from asr.features.settings import Frontend
from asr.settings.data import AugmentSettings, DataSettings
from asr.text.normalise import normalise
from asr.text.tokenizer import Tokenizer
from asr.train import augment
from asr.train.batches import Batch, BatchPlan, collate
from asr.train.trainer import batches_done

Item = tuple[str, torch.Tensor, list[int], float]

_FULL_SCALE = 32768.0
_LARGEST = 30.0
"""Of a normalised feature in training. A band that holds nothing but one click, behind a filter,
can come to a thousand deviations, and spoils the statistics of the batch norms; others that were
looked at stayed below 25."""
_SLACK = 1600
"""Samples beyond the duration in a manifest, which may be rounded."""


class AudioCache:
    """Decoded waveforms in memory, as 16-bit samples, up to a number of bytes.

    The memory is shared with worker processes that are forked later, which matters because
    they are started anew for every epoch.
    """

    def __init__(self, durations: np.ndarray, sample_rate: int, limit_bytes: int) -> None:
        self.sample_rate = sample_rate
        # Of millions of utterances only those that may have room are looked at.
        seconds = durations[: limit_bytes // (2 * _SLACK) + 1].astype(np.float64)
        ends = np.cumsum(np.ceil(seconds * sample_rate).astype(np.int64) + _SLACK)
        cached = int(np.searchsorted(ends * 2, limit_bytes, side="right"))
        self.offsets = np.concatenate([[0], ends[:cached]])
        self._open()

    @property
    def nbytes(self) -> int:
        """Bytes that the cache may grow to."""
        return int(self.offsets[-1]) * 2

    def _open(self) -> None:
        # Pages of an anonymous map take memory only once they are written.
        cached = len(self.offsets) - 1
        self._samples = np.frombuffer(mmap.mmap(-1, max(self.nbytes, 2)), dtype=np.int16)
        self._lengths = np.frombuffer(mmap.mmap(-1, max(cached, 1) * 8), dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_samples", "_lengths")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def load(self, index: int, source: str | audio.Clip) -> np.ndarray:
        """Waveform `(n,)` float32 of an utterance, which is decoded from `source` if it is not yet.

        It is rounded to 16 bits whether it is cached or not.
        """
        has_room = index < len(self.offsets) - 1
        if has_room and self._lengths[index]:
            start = self.offsets[index]
            samples = self._samples[start : start + self._lengths[index]]
        else:
            samples = self._decode(source)
            if has_room and len(samples) <= self.offsets[index + 1] - self.offsets[index]:
                start = self.offsets[index]
                self._samples[start : start + len(samples)] = samples
                # Written last: another process that sees the length also sees the samples.
                self._lengths[index] = len(samples)
        return samples.astype(np.float32) / np.float32(_FULL_SCALE)

    def _decode(self, source: str | audio.Clip) -> np.ndarray:
        samples = audio.load(source, self.sample_rate).samples
        return np.clip(np.rint(samples * _FULL_SCALE), -32768, 32767).astype(np.int16)


class SpeechDataset(Dataset[Item]):
    """Utterances by `(epoch, index)`, each as `(id, features, target tokens, seconds)`.

    With `changes` None nothing is random: for validation.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        tokenizer: Tokenizer,
        settings: Frontend,
        cache: AudioCache,
        changes: AugmentSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.utterances = utterances
        self.tokenizer = tokenizer
        self.settings = settings
        self.cache = cache
        self.changes = changes
        self.seed = seed

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        utterance, rate = self.utterances[index], self.settings.sample_rate
        samples = self.cache.load(index, utterance.source)
        if self.changes is None:
            features = frontend.features(samples, self.settings)
        else:
            draw = augment.generator(self.seed, epoch, utterance.id)
            samples = augment.waveform(samples, self.changes, draw, rate)
            features, mean = frontend.features(samples, self.settings), 0.0
            if self.settings.normalise == "none":
                mean = float(features.mean())
            else:
                features = features.clamp(-_LARGEST, _LARGEST)
            features = augment.spec(features, self.changes, draw, fill=mean)
        return utterance.id, features, _tokens(utterance, self.tokenizer), len(samples) / rate


def _tokens(utterance: Utterance, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(normalise(utterance.text))


class SpeechData(LightningDataModule):
    """Training and validation loaders.

    `train` and `dev` are checked utterances: a list, or an index of millions. `data.batch_seconds`
    limits a batch at the slowest speed of `augment`. `sharing` processes of this machine share
    `data.cache_gigabytes`. Raises `AsrError` when a training utterance is longer than a batch, and
    when there are too few for one batch on each rank of `world`.
    """

    def __init__(
        self,
        train: Sequence[Utterance],
        dev: Sequence[Utterance],
        tokenizer: Tokenizer,
        frontend: Frontend,
        augment: AugmentSettings,
        data: DataSettings,
        seed: int,
        rank: int = 0,
        world: int = 1,
        sharing: int = 1,
    ) -> None:
        super().__init__()
        self.data = data
        self.seed = seed
        self.rank = rank
        self.world = world
        durations = durations_of(train)
        _refuse_longer(train, durations, data.batch_limit)
        limit = int(data.cache_gigabytes * 1e9 / sharing) if can_cache(data) else 0
        self._dev_durations = durations_of(dev)
        cache = AudioCache(self._dev_durations, frontend.sample_rate, limit)
        self._dev = SpeechDataset(dev, tokenizer, frontend, cache)
        cache = AudioCache(durations, frontend.sample_rate, limit - cache.nbytes)
        self._train = SpeechDataset(train, tokenizer, frontend, cache, augment, seed)
        self._durations = slowest(durations, augment)
        self._restored: dict[str, int] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch on one rank, the same in every epoch."""
        return len(self._plan(0))

    def _plan(self, epoch: int, start: int = 0) -> BatchPlan:
        return self._plan_of(self.data.batch_limit, epoch, start)

    def _plan_of(self, batch_seconds: float, epoch: int, start: int = 0) -> BatchPlan:
        place = self.rank, self.world
        return plan_epoch(self._durations, batch_seconds, self.seed, epoch, *place, start)

    def largest_batch(self, batch_seconds: float | None = None) -> Batch:
        """The batch of the first epoch that takes the most memory.

        With `batch_seconds` as it would be with these.
        """
        plan = self._plan_of(batch_seconds or self.data.batch_limit, 0)
        return collate([self._train[key] for key in plan.largest()])

    @property
    def longest(self) -> float:
        """Seconds of the longest training utterance at the slowest speed."""
        return float(self._durations.max())

    @property
    def seconds(self) -> float:
        """Seconds of all training utterances at the slowest speed."""
        return float(self._durations.sum(dtype=float))

    def train_dataloader(self) -> DataLoader[Item]:
        """The loader of the trainer's current epoch, from the batch where a resumed one stopped."""
        assert self.trainer is not None
        epoch, start = self.trainer.current_epoch, 0
        if self._restored is not None:
            start = self._restored["batch"] if self._restored["epoch"] == epoch else 0
            self._restored = None
        return self._loader(self._train, self._plan(epoch, start), epoch)

    def val_dataloader(self) -> DataLoader[Item]:
        """The rank's part of the validation utterances, longest first, never augmented."""
        return self._loader(self._dev, self._dev_batches(), 0)

    def _dev_batches(self) -> list[list[tuple[int, int]]]:
        durations = self._dev_durations
        if len(durations) < self.world:
            raise AsrError(
                f"{len(durations)} dev utterances for {self.world} processes: each needs one"
            )
        own = np.argsort(-durations, kind="stable")[self.rank :: self.world]
        batches = batch_by_length(durations[own], self.data.batch_limit)
        return [[(0, int(own[i])) for i in batch] for batch in batches]

    def largest_dev_batch(self) -> Batch:
        """The validation batch of this rank with the most seconds, padding included."""
        cost = lambda batch: self._dev_durations[batch[0][1]] * len(batch)  # noqa: E731
        return collate([self._dev[key] for key in max(self._dev_batches(), key=cost)])

    def _loader(self, dataset: SpeechDataset, batches: Any, epoch: int) -> DataLoader[Item]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.data.workers,
            # For the cache. They only read audio, so what torch has started does not matter.
            multiprocessing_context="fork" if FORKS and self.data.workers else None,
            worker_init_fn=end_with_parent,
            # Otherwise each new iterator draws from the global generator; a resumed training, which
            # makes fewer iterators, would then draw other dropout.
            generator=torch.Generator().manual_seed(epoch),
        )

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches are done."""
        assert self.trainer is not None
        return {"epoch": self.trainer.current_epoch, "batch": batches_done(self.trainer)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Read by the next loader."""
        self._restored = state_dict


def can_cache(data: DataSettings) -> bool:
    """Whether decoded audio is kept for the next epoch: workers that are not forked lose it."""
    return FORKS or not data.workers


def slowest(durations: np.ndarray, augment: AugmentSettings) -> np.ndarray:
    """Seconds of utterances at the slowest speed of the augmentation, float32."""
    return durations / np.float32(min(augment.speeds))


def plan_epoch(
    durations: np.ndarray,
    batch_seconds: float,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
) -> BatchPlan:
    """The plan of an epoch. Raises AsrError if not every rank has a batch."""
    plan = BatchPlan(durations, batch_seconds, seed, epoch, rank, world, start)
    if not len(plan):
        raise AsrError(
            f"{len(durations)} training utterances make fewer than {world} batches of "
            f"data.batch_seconds={batch_seconds:g}, and each of {world} processes needs one"
        )
    return plan


def _refuse_longer(
    utterances: Sequence[Utterance], durations: np.ndarray, batch_seconds: float
) -> None:
    longer = np.flatnonzero(durations > batch_seconds)
    if len(longer):
        first = utterances[int(longer[0])]
        raise AsrError(
            f"longer than data.batch_seconds={batch_seconds:g}: {first.id} with "
            f"{first.duration:.1f} s, in all {len(longer)} of {len(utterances)} utterances; "
            f"raise it or leave them out"
        )
