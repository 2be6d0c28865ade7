"""Utterances -> batches of features for Lightning, resumed exactly in the middle of an epoch.

The batches of an epoch are a pure function of seed and epoch, and each utterance draws its
augmentation from (seed, epoch, id). So the state of the data is two numbers, whatever the number of
worker processes. The loader is built anew for every epoch: use
`Trainer(use_distributed_sampler=False, reload_dataloaders_every_n_epochs=1)`.
"""

import mmap
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from asr import audio
from asr.audio.batch import batch_by_length
from asr.corpus.manifest import Utterance
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
_SLACK = 1600
"""Samples beyond the duration in a manifest, which may be rounded."""


class AudioCache:
    """Decoded waveforms in memory, as 16-bit samples, up to a number of bytes.

    The memory is shared with worker processes that are forked later, which matters because
    they are started anew for every epoch; under other start methods each process fills its own.
    """

    def __init__(self, utterances: list[Utterance], sample_rate: int, limit_bytes: int) -> None:
        self.sources = [utterance.source for utterance in utterances]
        self.sample_rate = sample_rate
        seconds = np.array([utterance.duration for utterance in utterances], dtype=np.float64)
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

    def __getitem__(self, index: int) -> np.ndarray:
        """Waveform `(n,)` float32; rounded to 16 bits whether it is cached or not."""
        has_room = index < len(self.offsets) - 1
        if has_room and self._lengths[index]:
            start = self.offsets[index]
            samples = self._samples[start : start + self._lengths[index]]
        else:
            samples = self._decode(index)
            if has_room and len(samples) <= self.offsets[index + 1] - self.offsets[index]:
                start = self.offsets[index]
                self._samples[start : start + len(samples)] = samples
                # Written last: another process that sees the length also sees the samples.
                self._lengths[index] = len(samples)
        return samples.astype(np.float32) / np.float32(_FULL_SCALE)

    def _decode(self, index: int) -> np.ndarray:
        samples = audio.load(self.sources[index], self.sample_rate).samples
        return np.clip(np.rint(samples * _FULL_SCALE), -32768, 32767).astype(np.int16)


class SpeechDataset(Dataset[Item]):
    """Utterances by `(epoch, index)`, each as `(id, features, target tokens, seconds)`.

    With `changes` None nothing is random: for validation.
    """

    def __init__(
        self,
        utterances: list[Utterance],
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
        samples = self.cache[index]
        if self.changes is None:
            features = frontend.features(samples, self.settings)
        else:
            draw = augment.generator(self.seed, epoch, utterance.id)
            samples = augment.waveform(samples, self.changes, draw, rate)
            features = frontend.features(samples, self.settings).clamp_(-30, 30)
            mean = float(features.mean()) if self.settings.normalise == "none" else 0.0
            features = augment.spec(features, self.changes, draw, fill=mean)
        return utterance.id, features, _tokens(utterance, self.tokenizer), len(samples) / rate


def _tokens(utterance: Utterance, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(normalise(utterance.text))


class SpeechData(LightningDataModule):
    """Training and validation loaders.

    `train` and `dev` are checked utterances. `data.batch_seconds` limits a batch at the slowest
    speed of `augment`. Raises `AsrError` when a training utterance is longer than that, and
    when there are too few for one batch on each rank of `world`.
    """

    def __init__(
        self,
        train: list[Utterance],
        dev: list[Utterance],
        tokenizer: Tokenizer,
        frontend: Frontend,
        augment: AugmentSettings,
        data: DataSettings,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__()
        self.data = data
        self.seed = seed
        self.rank = rank
        self.world = world
        _refuse_longer(train, data.batch_seconds)
        limit = int(data.cache_gigabytes * 1e9)
        cache = AudioCache(dev, frontend.sample_rate, limit)
        self._dev = SpeechDataset(dev, tokenizer, frontend, cache)
        cache = AudioCache(train, frontend.sample_rate, limit - cache.nbytes)
        self._train = SpeechDataset(train, tokenizer, frontend, cache, augment, seed)
        self._durations = _durations(train) / min(augment.speeds)
        self._restored: dict[str, int] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch on one rank, the same in every epoch."""
        return len(self._plan(0))

    def _plan(self, epoch: int, start: int = 0) -> BatchPlan:
        world, limit = self.world, self.data.batch_seconds
        plan = BatchPlan(self._durations, limit, self.seed, epoch, self.rank, world, start)
        if not len(plan):
            raise AsrError(
                f"{len(self._durations)} training utterances make fewer than {world} batches of "
                f"data.batch_seconds={limit:g}, and each of {world} processes needs one"
            )
        return plan

    def largest_batch(self) -> Batch:
        """The batch of the first epoch that takes the most memory."""
        return collate([self._train[key] for key in self._plan(0).largest()])

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
        durations = _durations(self._dev.utterances)
        if len(durations) < self.world:
            raise AsrError(
                f"{len(durations)} dev utterances for {self.world} processes: each needs one"
            )
        own = np.argsort(-durations, kind="stable")[self.rank :: self.world]
        batches = batch_by_length(durations[own], self.data.batch_seconds)
        return self._loader(self._dev, [[(0, int(own[i])) for i in batch] for batch in batches], 0)

    def _loader(self, dataset: SpeechDataset, batches: Any, epoch: int) -> DataLoader[Item]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.data.workers,
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


def _durations(utterances: list[Utterance]) -> np.ndarray:
    return np.array([utterance.duration for utterance in utterances], dtype=np.float32)


def _refuse_longer(utterances: list[Utterance], batch_seconds: float) -> None:
    longer = [u for u in utterances if u.duration > batch_seconds]
    if longer:
        raise AsrError(
            f"longer than data.batch_seconds={batch_seconds:g}: {longer[0].id} with "
            f"{longer[0].duration:.1f} s, in all {len(longer)} of {len(utterances)} utterances; "
            f"raise it or leave them out"
        )
