"""Loading is the same with any number of workers, and a killed training sees the same batches."""

import multiprocessing
import pickle
from dataclasses import replace

import lightning.pytorch as lightning
import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch.callbacks import Callback

from asr import audio
from asr.corpus.index import durations_of
from asr.corpus.manifest import Utterance
from asr.corpus.workers import FORKS
from asr.errors import AsrError
from asr.features import logmel_torch as frontend
from asr.features.settings import Frontend
from asr.settings.data import AugmentSettings, DataSettings
from asr.text.tokenizer import CharacterTokenizer
from asr.train import augment
from asr.train import data as training_data
from asr.train.batches import collate
from asr.train.data import AudioCache, SpeechData

TOKENIZER = CharacterTokenizer()
FRONTEND = Frontend(mels=20)
AUGMENT = AugmentSettings(noise_probability=0.5)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory) -> list[Utterance]:
    folder, draw = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    made = []
    for i in range(22):
        samples = 0.1 * draw.standard_normal(int(draw.uniform(0.2, 0.5) * 16000))
        soundfile.write(folder / f"{i}.wav", samples, 16000)
        made.append(
            Utterance(
                f"u{i}", str(folder / f"{i}.wav"), len(samples) / 16000, f"Word {'ab'[i % 2]}", ""
            )
        )
    return made


def speech(utterances: list[Utterance], **data) -> SpeechData:
    settings = DataSettings(**{"batch_seconds": 2.0, "max_seconds": 1.0, **data})
    return SpeechData(
        utterances[:18], utterances[18:], TOKENIZER, FRONTEND, AUGMENT, settings, seed=5
    )


class Linear(lightning.LightningModule):
    """Records every batch; its weights depend on all of them, in their order."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(20, 4)
        self.seen: list[tuple] = []
        self.validated: list[list[str]] = []

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, index, *batch.ids, batch.features.sum().item()))
        return self.layer(batch.features).square().mean()

    def validation_step(self, batch, index):
        self.validated.append(batch.ids)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    """Checkpoints after given steps, and at the end of each training epoch."""

    def __init__(self, folder, steps) -> None:
        self.folder, self.steps = folder, steps

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step in self.steps:
            trainer.save_checkpoint(self.folder / f"step{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer, *_) -> None:
        trainer.save_checkpoint(self.folder / f"epoch{trainer.current_epoch}.ckpt")


def fit(data: SpeechData, epochs: int, callbacks=(), resume=None) -> Linear:
    module = Linear()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=True if resume else None)
    return module


# Lightning does not know that the data module is exact and that there are two cores.
@pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch")
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")  # Lightning's own
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 and 3.13
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_training_sees_the_batches_of_the_uninterrupted_one(
    utterances, tmp_path, workers
):
    steps = speech(utterances).steps_per_epoch
    assert steps >= 4
    at = (2, steps, steps + 1)  # in the middle of an epoch, at its last step, after one step
    whole = fit(speech(utterances, workers=workers), 3, [SaveAt(tmp_path, at)])
    assert len(whole.seen) == 3 * steps
    saved = {f"step{step}": step for step in at} | {"epoch0": steps, "epoch1": 2 * steps}
    for name, step in saved.items():
        resumed = fit(speech(utterances, workers=workers), 3, resume=tmp_path / f"{name}.ckpt")
        assert resumed.seen == whole.seen[step:], name
        assert torch.equal(resumed.layer.weight, whole.layer.weight), name


def loaded(data: SpeechData, epoch: int) -> list[tuple]:
    """One epoch through the data module's own loader."""
    plan = data._plan(epoch)
    return [
        (*batch.ids, batch.features, batch.feature_lengths, batch.targets)
        for batch in data._loader(data._train, plan, epoch)
    ]


def same(first: list[tuple], second: list[tuple]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_batches_are_the_same_with_workers_without_a_cache_and_on_a_second_reading(utterances):
    data = speech(utterances)
    first = loaded(data, 1)
    assert same(first, loaded(data, 1))
    assert same(first, loaded(speech(utterances, workers=2), 1))
    assert same(first, loaded(speech(utterances, cache_gigabytes=0.0), 1))
    assert not same(first, loaded(data, 2))


def test_features_of_an_utterance_change_from_epoch_to_epoch_and_its_text_does_not(utterances):
    data = speech(utterances)
    (_, first, tokens, _), (_, second, others, _) = data._train[0, 3], data._train[1, 3]
    assert tokens == others == TOKENIZER.encode("WORD B")
    assert first.shape != second.shape or not torch.equal(first, second)


def test_a_click_behind_a_filter_does_not_spoil_the_statistics_of_a_batch(utterances, monkeypatch):
    def clicked(_: np.ndarray, settings: Frontend) -> torch.Tensor:
        features = torch.zeros(50, settings.mels)
        features[7, 12] = 1277.0
        return features

    monkeypatch.setattr(frontend, "features", clicked)
    monkeypatch.setattr(augment, "spec", lambda features, *_, **__: features)
    data = speech(utterances)
    for normalise, largest in (("speech", 30.0), ("none", 1277.0)):
        data._train.settings = replace(FRONTEND, normalise=normalise)
        assert float(data._train[0, 0][1].max()) == largest


def test_batches_stay_within_the_limit_at_the_slowest_speed(utterances):
    for batch in (b for e in range(3) for b in loaded(speech(utterances, batch_seconds=1.5), e)):
        features = batch[-3]
        assert len(features) * (features.shape[1] * 0.01 + 0.015) <= 1.5 + 0.02 * len(features)


def test_validation_is_sorted_by_length_never_augmented_and_complete(utterances):
    data, dev = speech(utterances, batch_seconds=1.0), utterances[18:]
    batches = list(data.val_dataloader())
    assert len(batches) > 1
    order = [name for batch in batches for name in batch.ids]
    assert order == [u.id for u in sorted(dev, key=lambda u: -u.duration)]
    for batch in batches:
        for row, count, name in zip(batch.features, batch.feature_lengths, batch.ids, strict=True):
            utterance = next(u for u in dev if u.id == name)
            samples = audio.load(utterance.audio_filepath).samples
            torch.testing.assert_close(row[:count], frontend.features(samples, FRONTEND))
            assert batch.seconds == pytest.approx(sum(u.duration for u in dev if u.id in batch.ids))


def test_the_largest_batch_has_the_most_seconds(utterances):
    data = speech(utterances)
    largest = data.largest_batch()
    costs = [(len(b), max(data._durations[i] for _, i in b)) for b in data._plan(0)]
    assert len(largest.ids) * max(
        data._durations[int(name[1:])] for name in largest.ids
    ) == pytest.approx(max(count * longest for count, longest in costs))


def test_an_utterance_longer_than_a_batch_is_refused(utterances):
    long = [replace(utterances[0], duration=2.5), *utterances[1:]]
    with pytest.raises(AsrError, match=r"batch_seconds=2: u0 with 2\.5 s, in all 1 of 18"):
        speech(long)


def test_fewer_batches_than_processes_are_refused(utterances):
    data = speech(utterances)
    data.rank, data.world = 3, 100
    with pytest.raises(AsrError, match="4 dev utterances for 100 processes"):
        data.val_dataloader()
    with pytest.raises(AsrError, match="18 training utterances make fewer than 100 batches"):
        _ = data.steps_per_epoch


def test_the_cache_decodes_once_stays_within_its_limit_and_returns_the_same_samples(
    utterances, monkeypatch
):
    read = []
    load = audio.load
    monkeypatch.setattr(audio, "load", lambda path, rate: read.append(path) or load(path, rate))
    cache = AudioCache(durations_of(utterances), 16000, limit_bytes=40_000)
    assert 20_000 < cache.nbytes <= 40_000
    first = [cache.load(i, u.source) for i, u in enumerate(utterances)]
    second = [cache.load(i, u.source) for i, u in enumerate(utterances)]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    cached = 2 * len(utterances) - len(read)
    assert 0 < cached < len(utterances)
    assert read[: len(utterances)] == [u.audio_filepath for u in utterances]
    assert np.array_equal(first[0], load(utterances[0].audio_filepath).samples)


def test_a_recording_longer_than_its_manifest_says_is_not_cached_and_not_cropped(utterances):
    wrong = [replace(utterances[0], duration=0.05), utterances[1]]
    cache = AudioCache(durations_of(wrong), 16000, limit_bytes=10**6)
    for _ in range(2):
        for i, utterance in enumerate(utterances[:2]):
            assert len(cache.load(i, utterance.source)) == round(utterance.duration * 16000)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.skipif(not FORKS, reason="worker processes are not forked here")
@pytest.mark.parametrize("default", ["fork", "forkserver"])  # of Python 3.11 and of 3.14
def test_the_cache_contains_what_a_worker_decoded_and_is_pickled_empty(utterances, default):
    data, before = speech(utterances, workers=2), multiprocessing.get_start_method()
    multiprocessing.set_start_method(default, force=True)
    try:
        loaded(data, 0)
    finally:
        multiprocessing.set_start_method(before, force=True)
    cache = data._train.cache
    assert (cache._lengths > 0).all()  # filled by workers that have ended
    again = pickle.loads(pickle.dumps(cache))
    assert not again._lengths.any()
    source = utterances[0].source
    assert np.array_equal(again.load(0, source), cache.load(0, source))


def test_processes_share_the_limit_and_workers_that_are_not_forked_cache_nothing(
    utterances, monkeypatch
):
    def nbytes(workers: int, sharing: int = 1) -> int:
        settings = DataSettings(batch_seconds=2.0, max_seconds=1.0, workers=workers)
        settings = replace(settings, cache_gigabytes=1e-4)
        parts = utterances[:18], utterances[18:]
        data = SpeechData(*parts, TOKENIZER, FRONTEND, AUGMENT, settings, 5, sharing=sharing)
        return data._dev.cache.nbytes + data._train.cache.nbytes

    assert 75_000 < nbytes(0) <= 100_000
    assert 25_000 < nbytes(0, sharing=2) <= 50_000
    monkeypatch.setattr(training_data, "FORKS", False)
    assert nbytes(0) > 0
    assert nbytes(2) == 0


def test_loading_does_not_change_the_global_random_state(utterances):
    before = torch.get_rng_state()
    data = speech(utterances)
    loaded(data, 0)
    list(data.val_dataloader())
    assert torch.equal(before, torch.get_rng_state())


def test_collate_of_the_dataset_preserves_tokens_and_lengths(utterances):
    data = speech(utterances)
    batch = collate([data._train[0, i] for i in (0, 1)])
    assert batch.targets.tolist() == [TOKENIZER.encode("WORD A"), TOKENIZER.encode("WORD B")]
    assert batch.features.shape[1] == batch.feature_lengths.max()
