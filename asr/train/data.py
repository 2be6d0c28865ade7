"""Utterances -> batches of features for Lightning, resumed exactly in the middle of an epoch.

The epoch's plan is a pure function, and each utterance draws from (seed, epoch, id); so the
state of the data is two numbers, whatever the number of worker processes. The loader is built
anew for every epoch: use `Trainer(use_distributed_sampler=False,
reload_dataloaders_every_n_epochs=1)`.
"""

import mmap
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from asr import audio
from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from asr.features import logmel_torch as frontend
from asr.features.settings import Frontend
from asr.settings.data import AugmentSettings, DataSettings
from asr.text.normalise import normalise
from asr.train import augment
from asr.train.batches import Batch, BatchPlan, collate, sorted_batches

Item = tuple[str, torch.Tensor, list[int], float]

_FULL_SCALE = 32768.0
_SLACK = 1600
"""Samples of room beyond a rounded duration in a manifest."""


class Tokenizer(Protocol):
    """What is asked of the symbols here."""

    def encode(self, text: str) -> list[int]:
        """Symbol indices, no blank."""


class AudioStore:
    """Decoded waveforms, kept in memory as 16-bit samples up to a number of bytes.

    The memory is shared with worker processes that are forked later, which matters because
    they are started anew for every epoch; under other start methods each process fills its own.
    """

    def __init__(self, utterances: list[Utterance], sample_rate: int, limit_bytes: int) -> None:
        self.paths = [utterance.audio_filepath for utterance in utterances]
        self.sample_rate = sample_rate
        seconds = np.array([utterance.duration for utterance in utterances], dtype=np.float64)
        ends = np.cumsum(np.ceil(seconds * sample_rate).astype(np.int64) + _SLACK)
        kept = int(np.searchsorted(ends * 2, limit_bytes, side="right"))
        self.offsets = np.concatenate([[0], ends[:kept]])
        self._open()

    @property
    def nbytes(self) -> int:
        """Bytes that the store may grow to."""
        return int(self.offsets[-1]) * 2

    def _open(self) -> None:
        # Pages of an anonymous map take memory only once they are written.
        kept = len(self.offsets) - 1
        self._samples = np.frombuffer(mmap.mmap(-1, max(self.nbytes, 2)), dtype=np.int16)
        self._lengths = np.frombuffer(mmap.mmap(-1, max(kept, 1) * 8), dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_samples", "_lengths")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __getitem__(self, index: int) -> np.ndarray:
        """Waveform `(n,)` float32; rounded to 16 bits whether it is kept or not."""
        kept = index < len(self.offsets) - 1
        if kept and self._lengths[index]:
            start = self.offsets[index]
            samples = self._samples[start : start + self._lengths[index]]
        else:
            samples = self._decode(index)
            if kept and len(samples) <= self.offsets[index + 1] - self.offsets[index]:
                start = self.offsets[index]
                self._samples[start : start + len(samples)] = samples
                # Written last: another process that sees the length also sees the samples.
                self._lengths[index] = len(samples)
        return samples.astype(np.float32) / np.float32(_FULL_SCALE)

    def _decode(self, index: int) -> np.ndarray:
        samples = audio.load(self.paths[index], self.sample_rate).samples
        return np.clip(np.rint(samples * _FULL_SCALE), -32768, 32767).astype(np.int16)


class SpeechDataset(Dataset[Item]):
    """Utterances by `(epoch, index)`, each as `(id, features, target symbols, seconds)`.

    With `changes` None nothing is random: for validation.
    """

    def __init__(
        self,
        utterances: list[Utterance],
        tokenizer: Tokenizer,
        settings: Frontend,
        store: AudioStore,
        changes: AugmentSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.utterances = utterances
        self.tokenizer = tokenizer
        self.settings = settings
        self.store = store
        self.changes = changes
        self.seed = seed

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        utterance, rate = self.utterances[index], self.settings.sample_rate
        samples = self.store[index]
        if self.changes is None:
            features = frontend.features(samples, self.settings)
        else:
            draw = augment.generator(self.seed, epoch, utterance.id)
            samples = augment.waveform(samples, self.changes, draw, rate)
            features = frontend.features(samples, self.settings)
            mean = 0.0 if self.settings.normalise == "utterance" else float(features.mean())
            features = augment.spec(features, self.changes, draw, fill=mean)
        return utterance.id, features, _symbols(utterance, self.tokenizer), len(samples) / rate


def _symbols(utterance: Utterance, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(normalise(utterance.text))


class SpeechData(LightningDataModule):
    """Training and validation loaders.

    `train` and `dev` are checked utterances. `data.batch_seconds` limits a batch at the slowest
    speed of `augment`. Raises `AsrError` when a training utterance is longer than that, and
    when there are too few for one batch on each rank.
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
    ) -> None:
        super().__init__()
        self.data = data
        self.seed = seed
        _refuse_longer(train, data.batch_seconds)
        limit = int(data.cache_gigabytes * 1e9)
        store = AudioStore(dev, frontend.sample_rate, limit)
        self._dev = SpeechDataset(dev, tokenizer, frontend, store)
        store = AudioStore(train, frontend.sample_rate, limit - store.nbytes)
        self._train = SpeechDataset(train, tokenizer, frontend, store, augment, seed)
        self._durations = _durations(train) / min(augment.speeds)
        self._restored: dict[str, int] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch on one rank, the same in every epoch."""
        return len(self._plan(0))

    def _plan(self, epoch: int, start: int = 0) -> BatchPlan:
        rank = self.trainer.global_rank if self.trainer else 0
        world = self.trainer.world_size if self.trainer else 1
        limit = self.data.batch_seconds
        plan = BatchPlan(self._durations, limit, self.seed, epoch, rank, world, start)
        if not len(plan):
            raise AsrError(
                f"{len(self._durations)} training utterances make fewer than {world} batches of "
                f"data.batch_seconds={limit:g}, and each of {world} processes needs one"
            )
        return plan

    def largest_batch(self) -> Batch:
        """The batch of the first epoch that takes the most memory, to be tried first."""
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
        """The validation utterances, longest first, never augmented."""
        batches = sorted_batches(_durations(self._dev.utterances), self.data.batch_seconds)
        return self._loader(self._dev, [[(0, i) for i in batch] for batch in batches], 0)

    def _loader(self, dataset: SpeechDataset, batches: Any, epoch: int) -> DataLoader[Item]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.data.workers,
            # Its own: making an iterator draws from the global generator otherwise, and a
            # resumed training, which makes another number of them, would draw other dropout.
            generator=torch.Generator().manual_seed(epoch),
        )

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches are done."""
        assert self.trainer is not None
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        done = 0 if progress.is_last_batch else progress.current.processed
        return {"epoch": self.trainer.current_epoch, "batch": done}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Kept for the next loader."""
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


def evaluation_batches(
    utterances: list[Utterance], tokenizer: Tokenizer | None, settings: Frontend, data: DataSettings
) -> Iterator[Batch]:
    """Batches of features for evaluation, longest first; no targets if `tokenizer` is None."""
    for batch in sorted_batches(_durations(utterances), data.batch_seconds):
        items = []
        for utterance in (utterances[i] for i in batch):
            sound = audio.load(utterance.audio_filepath, settings.sample_rate)
            symbols = _symbols(utterance, tokenizer) if tokenizer else []
            features = frontend.features(sound.samples, settings)
            items.append((utterance.id, features, symbols, sound.seconds))
        yield collate(items)
