"""Distillation: the mixed loss, errors, exact resuming, the record."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.file import TorchModel, load_model, save_model
from asr.model.torch_network import DeepSpeech
from asr.settings.run import Run
from asr.settings.training import DistillationSettings, OptimiserSettings
from asr.settings.yaml import load
from asr.text.tokenizer import CharacterTokenizer
from asr.train.batches import Batch
from asr.train.callbacks import SeedEachStep
from asr.train.distillation import Teacher
from asr.train.losses import best_sequences, ctc_losses, frame_divergence
from asr.train.module import SpeechTraining
from asr.train.run import train

SMALL = Model(hidden=8, layers=1, conv_channels=[2, 2])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model file of an untrained network with statistics in its batch norms."""
    path = tmp_path_factory.mktemp("teacher") / "model.asr"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = DeepSpeech(replace(SMALL, hidden=12, dropout=0.5, layers=2))
        for _ in range(3):
            network(torch.randn(4, 60, 80), torch.tensor([60, 50, 40, 60]))
    save_model(path, network, CharacterTokenizer(), Frontend())
    return path


def batch() -> Batch:
    targets = torch.tensor([[3, 4, 5, 0], [6, 7, 8, 9]])
    features = torch.randn(2, 100, 80, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([100, 80])
    return Batch(features, lengths, targets, torch.tensor([3, 4]), ["first", "second"], 2.0)


def student(dimensions: Model = SMALL) -> DeepSpeech:
    torch.manual_seed(1)
    return DeepSpeech(dimensions)


def distillation(teacher: Path, **settings: Any) -> Teacher:
    chosen = DistillationSettings(teacher=str(teacher), **settings)
    return Teacher.load(chosen, student(), CharacterTokenizer(), Frontend())


@pytest.mark.parametrize("kind", ["frame", "nonblank", "sequence"])
def test_the_loss_is_a_mix_of_ctc_and_the_teachers_loss(teacher: Path, kind: str) -> None:
    temperature = 1.0 if kind == "sequence" else 2.0
    loaded = distillation(teacher, kind=kind, weight=0.3, temperature=temperature)
    training = SpeechTraining(
        student(), CharacterTokenizer(), OptimiserSettings(), 10, teacher=loaded
    )
    result = training.training_step(batch(), 0)
    one = batch()
    log_probs, lengths = student()(one.features, one.feature_lengths)
    with torch.no_grad():
        other, _ = load_model(teacher).model(one.features, one.feature_lengths)
    if kind == "sequence":
        targets, counts = best_sequences(other, lengths)
        wanted = ctc_losses(log_probs, lengths, targets, counts).sum() / counts.sum()
    else:
        total, count = frame_divergence(log_probs, other, lengths, 2.0, kind == "nonblank")
        wanted = total / count
    truth = ctc_losses(log_probs, lengths, one.targets, one.target_lengths).sum() / 7
    assert isinstance(result, dict)
    assert float(result["ctc_loss"]) == pytest.approx(truth.item(), rel=1e-5)
    assert float(result["distillation_loss"]) == pytest.approx(wanted.item(), rel=1e-5)
    mixed = 0.7 * truth.item() + 0.3 * wanted.item()
    assert float(result["loss"].detach()) == pytest.approx(mixed, rel=1e-5)


def test_the_teacher_is_neither_trained_nor_saved_nor_put_into_training_mode(
    teacher: Path,
) -> None:
    loaded = distillation(teacher)
    training = SpeechTraining(
        student(), CharacterTokenizer(), OptimiserSettings(), 10, teacher=loaded
    )
    training.train()
    before = {k: v.clone() for k, v in loaded.model.state_dict().items()}
    result = training.training_step(batch(), 0)
    assert isinstance(result, dict)
    result["loss"].backward()
    assert all(p.grad is None for p in loaded.model.parameters())
    assert all(torch.equal(before[k], v) for k, v in loaded.model.state_dict().items())
    assert not loaded.model.training
    assert set(training.state_dict()) == {f"model.{k}" for k in student().state_dict()}


def other_tokens(loaded: TorchModel) -> TorchModel:
    class Fewer(CharacterTokenizer):
        tokens = CharacterTokenizer().tokens[:-1]  # type: ignore[assignment]

    return replace(loaded, tokenizer=Fewer())


def other_frontend(loaded: TorchModel) -> TorchModel:
    return replace(loaded, frontend=replace(loaded.frontend, low_hertz=50.0))


def other_stride(loaded: TorchModel) -> TorchModel:
    dimensions = replace(SMALL, conv_strides=[[2, 2], [2, 1]])
    return replace(loaded, model=student(dimensions))


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (other_tokens, "its tokens are different (characters, 28; the student has characters, 29)"),
        (other_frontend, "its features are different"),
        (other_stride, "one output frame is 2 of its input frames and 4 of the student's"),
    ],
)
def test_a_teacher_that_does_not_fit_the_student_is_refused(
    teacher: Path, change: Callable[[TorchModel], TorchModel], fragment: str
) -> None:
    loaded = change(load_model(teacher))
    chosen = DistillationSettings(teacher=str(teacher))
    with pytest.raises(AsrError, match="cannot teach this network") as error:
        Teacher(loaded, chosen, student(), CharacterTokenizer(), Frontend())
    assert fragment in str(error.value)
    assert str(error.value).count("\n") == 1, "nothing else is wrong with it"


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["distillation.weight=0"], "weight=0.0: above 0, at most 1"),
        (["distillation.weight=1.1"], "weight=1.1: above 0, at most 1"),
        (["distillation.temperature=0"], "temperature=0.0: above 0"),
        (
            ["distillation.kind=sequence", "distillation.temperature=2"],
            "does nothing without distillation.kind=frame",
        ),
        (["distillation.weight=0.3"], "does nothing without distillation.teacher=FILE"),
    ],
)
def test_impossible_settings_are_refused(words: list[str], fragment: str) -> None:
    if "teacher" not in fragment:
        words = ["distillation.teacher=file.asr", *words]
    with pytest.raises(AsrError, match=fragment.replace(".", r"\.")):
        load(Run, None, words)


def words_of(folder: Path, corpus: Path, name: str, teacher: Path, *more: str) -> list[str]:
    return [
        f"runs={folder}", f"name={name}", "recipe=t", f"data.root={corpus}",
        "data.train=[train.jsonl]", "data.dev=[dev.jsonl]", "data.batch_seconds=10",
        "data.max_seconds=9", "model.hidden=8", "model.layers=1", "model.conv_channels=[2,2]",
        "model.dropout=0.1", "training.epochs=2", "training.progress=false",
        "training.precision=float32", "training.checkpoint_steps=4",
        f"distillation.teacher={teacher}", *more,
    ]  # fmt: skip


class PowerLoss(Exception):
    """Ends a training between two steps."""


def lose_power_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = SeedEachStep.on_train_batch_start

    def dying(self: SeedEachStep, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == step:
            raise PowerLoss
        before(self, trainer, *rest)

    monkeypatch.setattr(SeedEachStep, "on_train_batch_start", dying)


def test_a_resumed_student_equals_one_that_was_never_stopped_and_names_its_teacher(
    corpus: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(load(Run, None, words_of(tmp_path, corpus, "whole", teacher)))
    steps = json.loads((whole / "record.json").read_text())["training"]["steps"]
    words = words_of(tmp_path, corpus, "stopped", teacher)
    with monkeypatch.context() as patch:
        lose_power_at(steps // 2 + 2, patch)
        with pytest.raises(PowerLoss):
            train(load(Run, None, words))
    # Another file under the name of the teacher must not be used after a restart.
    original = teacher.read_bytes()
    stranger = student(replace(SMALL, hidden=12, layers=2))
    save_model(teacher, stranger, CharacterTokenizer(), Frontend())
    with pytest.raises(AsrError, match="has other weights than when this training began"):
        train(load(Run, None, words))
    teacher.write_bytes(original)
    stopped = train(load(Run, None, words))
    a, b = (load_model(run / "model.asr").model.state_dict() for run in (whole, stopped))
    assert all(torch.equal(a[name], b[name]) for name in a)

    record = json.loads((stopped / "record.json").read_text())
    rows = [
        list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
        for run in (whole, stopped)
    ]
    for first, second in zip(*rows, strict=True):
        assert {k: v for k, v in first.items() if k != "seconds"} == {
            k: v for k, v in second.items() if k != "seconds"
        }
        mixed = 0.5 * float(first["ctc_loss"]) + 0.5 * float(first["distillation_loss"])
        assert float(first["train_loss"]) == pytest.approx(mixed, rel=1e-3)
    found = record["distillation"]
    assert found["teacher"] == f"{teacher.parent.name}/model.asr"
    assert (found["kind"], found["weight"], found["temperature"]) == ("frame", 0.5, 1.0)
    assert found["ctc_loss"] == pytest.approx(float(rows[1][-1]["ctc_loss"]), rel=1e-4)
    assert record["settings"]["distillation"]["teacher"] == found["teacher"]
