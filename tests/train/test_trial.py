"""`data.batch_seconds=auto` is the largest batch that fits; what it found is used, and stays."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rich.console import Console

from asr.errors import AsrError
from asr.model.torch_network import DeepSpeech
from asr.report.schema import MachineRecord
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.sparse import torch_training
from asr.sparse.kernels import library
from asr.train import record, trial
from asr.train.ranks import Ranks
from asr.train.run import train
from asr.train.trial import BATCHES, STEP, largest_that_fits, most_seconds

GPU = {"gpu": "Accelerator 9", "gpu_memory_gib": 79.6}
FRAMES = 2000
"""That the memory of the fake GPU holds in a batch: 20 s."""


@hypothesis_settings(max_examples=200, deadline=None)
@given(least=st.floats(0.5, 30), factor=st.floats(1, 1e5), memory=st.floats(0.1, 1e6))
def test_the_search_ends_at_the_largest_that_fits_after_few_trials(
    least: float, factor: float, memory: float
) -> None:
    most, tried = least * factor, list[float]()

    def fits(seconds: float) -> bool:
        tried.append(seconds)
        return seconds <= memory

    found = largest_that_fits(fits, least, most)
    if least > memory:
        assert found is None
        assert tried == [least]
        return
    assert found is not None
    assert least <= found <= min(memory, most)
    assert found >= min(memory, most) / STEP * (1 - 1e-9)
    assert max(tried) <= most, "more than is wanted is not tried"
    assert len(tried) <= 2 + math.log2(factor) + math.log2(math.log(2) / math.log(STEP)) + 1


def test_no_batch_is_larger_than_a_hundredth_of_an_epoch_of_a_rank() -> None:
    assert most_seconds(3600.0, 20.0, 1) == 36.0
    assert most_seconds(36_000.0, 20.0, 4) == 90.0
    assert most_seconds(3600.0, 20.0, 4) == 20.0, "but one utterance must fit"


def words_of(folder: Path, corpus: Path, *more: str) -> list[str]:
    return [
        f"runs={folder}", "name=auto", f"data.root={corpus}", "data.train=[train.jsonl]",
        "data.dev=[dev.jsonl]", "data.test=[test.jsonl]", "data.batch_seconds=auto",
        "data.max_seconds=9", "model.hidden=8", "model.layers=1", "model.conv_channels=[2,2]",
        "training.epochs=1", "training.progress=false", "training.precision=float32",
        "optimiser.learning_rate=1e-4", *more,
    ]  # fmt: skip


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device whose memory is full above so many frames in training; the frames of each try."""
    frames: list[int] = []
    forward = DeepSpeech.forward

    def limited(self: DeepSpeech, features: torch.Tensor, *rest: Any) -> Any:
        if self.training:
            frames.append(features.shape[0] * features.shape[1])
            if frames[-1] > FRAMES:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return forward(self, features, *rest)

    monkeypatch.setattr(DeepSpeech, "forward", limited)
    monkeypatch.setattr(trial, "gpu", lambda: GPU)
    monkeypatch.setattr(record, "gpu", lambda: GPU)
    monkeypatch.setattr(trial, "BATCHES", 2)
    return frames


def test_a_training_uses_what_fits_and_says_how_much_and_where(
    corpus: Path, tmp_path: Path, small_gpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, console = load(Run, None, words_of(tmp_path, corpus)), Console(quiet=True)
    folder = train(settings, console)
    content = json.loads((folder / "record.json").read_text())
    found = content["settings"]["data"]["batch_seconds"]
    # It is a tenth below what was tried, and a batch is never quite as large as it may be.
    assert 0.6 * FRAMES / 100 < found <= FRAMES / 100
    assert max(small_gpu) > FRAMES, "too much was tried"
    tries = len(small_gpu) - content["training"]["steps"]
    assert max(small_gpu[tries:]) <= FRAMES, "and the training had room"
    assert content["machine"]["gpu"] == "Accelerator 9"
    assert content["machine"]["gpu_memory_gib"] == 79.6
    assert load(Run, folder / "config.yaml").data.batch_seconds == found

    # Resumed, even where there is no GPU, it is the same; and so it is when it has finished.
    monkeypatch.setattr(trial, "gpu", dict)
    monkeypatch.setattr(record, "gpu", dict)
    (folder / "record.json").unlink()
    small_gpu.clear()
    for _ in range(2):
        assert train(settings, console) == folder
        again = json.loads((folder / "record.json").read_text())
        assert again["settings"]["data"]["batch_seconds"] == found
    assert small_gpu == [], "nothing was tried, and no step was left"
    with pytest.raises(AsrError, match=r"data\.batch_seconds: .* there, 11"):
        train(load(Run, None, words_of(tmp_path, corpus, "data.batch_seconds=11")), console)


def test_all_ranks_take_the_smallest_that_any_found(
    corpus: Path, tmp_path: Path, small_gpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []

    def of_both(self: Ranks, value: float) -> list[float]:
        found.append(value)
        return [value, 9.8765]

    monkeypatch.setattr(Ranks, "gather", of_both)
    folder = train(load(Run, None, words_of(tmp_path, corpus, "data.test=[]")), Console(quiet=True))
    assert found[0] > 9.8765
    assert load(Run, folder / "config.yaml").data.batch_seconds == 9.8


def test_another_error_than_full_memory_is_an_error(
    corpus: Path, tmp_path: Path, small_gpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(trial, "ctc_losses", broken)
    with pytest.raises(AsrError, match=r"(?s)largest batch of train.*illegal memory access"):
        train(load(Run, None, words_of(tmp_path, corpus)), Console(quiet=True))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_where_not_even_one_utterance_fits_is_said(
    corpus: Path,
    tmp_path: Path,
    small_gpu: list[int],
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(trial, "ctc_losses", full)
    with pytest.raises(AsrError, match=r"a batch of 9\.0 s.* 79\.6 GiB of Accelerator 9"):
        train(load(Run, None, words_of(tmp_path, corpus)), Console(quiet=True))


def test_without_a_gpu_it_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(AsrError, match=r"no GPU here: set .* such as data\.batch_seconds=120"):
        train(load(Run, None, words_of(tmp_path, tmp_path / "none")), Console(quiet=True))


def test_a_dev_recording_that_memory_cannot_hold_fails_before_training(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = DeepSpeech.forward

    def limited(self: DeepSpeech, features: torch.Tensor, *rest: Any) -> Any:
        if not self.training:
            raise RuntimeError("out of memory")
        return forward(self, features, *rest)

    monkeypatch.setattr(DeepSpeech, "forward", limited)
    with pytest.raises(AsrError, match=r"(?s)largest batch of dev .*out of data\.dev"):
        train(load(Run, None, words_of(tmp_path, corpus, "data.batch_seconds=9")))


@pytest.mark.filterwarnings("ignore:.*only 10 updates")
@pytest.mark.skipif(library() is None, reason="sparse steps need the C library")
def test_the_sparse_step_of_a_pruned_training_is_tried_too(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch_training, "run", full)
    words = words_of(tmp_path, corpus, "data.batch_seconds=9", "pruning.method=cubic")
    words += ["pruning.target=0.9", "pruning.mask_updates=5"]
    with pytest.raises(AsrError, match=r"(?s)largest batch of train .*out of memory"):
        train(load(Run, None, words))


def test_a_bad_word_is_refused_and_a_record_names_the_gpu() -> None:
    with pytest.raises(AsrError, match="expected a number or 'auto', found 'much'"):
        load(Run, None, ["data.batch_seconds=much"])
    assert str(MachineRecord("CPU", 2, 8.0, "GPU", 79.64)) == (
        "CPU, 2 cores, 8.0 GiB, GPU with 80 GiB"
    )
    assert BATCHES == 100, "as SCALING.md says"
