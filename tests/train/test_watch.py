"""What goes wrong in a training is named with what to try, and an early stop waits for pruning."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from asr.errors import AsrError
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train import callbacks, module, run
from asr.train.watch import BLANK_STEPS, Watch

SETTINGS = load(Run, None, ["optimiser.warmup=0.1"])


class Steps:
    """A trainer and a module as far as Watch looks at them, and its steps."""

    def __init__(self, total: int = 10_000) -> None:
        self.said: list[str] = []
        self.watch = Watch(SETTINGS, total, self.said.append)
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.optimiser = torch.optim.SGD([self.weight], lr=1.0)
        self.trainer: Any = SimpleNamespace(global_step=0, current_epoch=0, callback_metrics={})
        self.module: Any = SimpleNamespace(batches_since_step=0)

    def step(self, loss: float = 1.0, gradient: float = 0.1, written: int | None = None) -> None:
        self.module.batches_since_step = 1
        self.weight.grad = torch.full((3,), gradient)
        self.watch.on_before_optimizer_step(self.trainer, self.module, self.optimiser)
        self.optimiser.step()
        self.trainer.global_step += 1
        outputs = {"train_loss": torch.tensor(loss)}
        if written is not None:
            outputs["written"] = torch.tensor(written)
        self.watch.on_train_batch_end(self.trainer, self.module, outputs, None, 0)

    def end_epoch(self, written: int) -> None:
        self.trainer.callback_metrics = {"dev_written": torch.tensor(float(written))}
        self.watch.on_train_epoch_end(self.trainer, self.module)
        self.trainer.current_epoch += 1


def test_blank_output_after_the_warm_up_is_named_once_until_something_is_written() -> None:
    steps = Steps(total=1000)
    steps.trainer.global_step = 100
    steps.end_epoch(written=0)
    assert not steps.said, "still warming up"
    steps.trainer.global_step = 200
    steps.end_epoch(written=0)
    steps.end_epoch(written=0)
    (line,) = steps.said
    assert line.startswith("epoch 2, step 200: the network wrote nothing but blanks for all dev")
    assert "optimiser.learning_rate (now 0.002)" in line
    steps.step(written=5)
    steps.end_epoch(written=1)
    steps.end_epoch(written=0)
    assert len(steps.said) == 2


def test_blank_output_within_a_long_epoch_is_named() -> None:
    steps = Steps(total=10_000)  # a warm-up of 1000
    steps.step(written=1)
    steps.trainer.global_step = 1000 + BLANK_STEPS - 2
    steps.step(written=0)
    assert not steps.said
    steps.step(written=0)
    (line,) = steps.said
    assert "nothing but blanks in 1,000 steps of training" in line


def test_spikes_of_the_loss_are_one_line_an_epoch() -> None:
    steps = Steps()
    for i in range(100):
        steps.step(loss=9.0 if i == 50 else 2.0)  # the first hundred are only watched
    steps.step(loss=5.9)
    steps.end_epoch(written=1)
    assert not steps.said
    steps.step(loss=6.1)
    steps.step(loss=7.0)
    steps.end_epoch(written=1)
    steps.end_epoch(written=1)
    (line,) = steps.said
    assert "above 3 times its median in 2 of the steps, first at step 102 (6.1 against 2)" in line
    assert "optimiser.clip_norm (now 5)" in line
    assert steps.watch.warnings == steps.said


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_step_whose_gradient_is_not_finite_is_left_out_and_twenty_stop(value: float) -> None:
    steps = Steps()
    steps.step(gradient=0.25)
    steps.step(gradient=value)
    assert steps.weight.tolist() == [0.75] * 3
    (line,) = steps.said
    assert line.startswith("epoch 1, step 1: the gradient is infinite or NaN although the loss is")
    for _ in range(18):
        steps.step(gradient=value)
    with pytest.raises(AsrError, match="in 20 steps in a row: the weights are broken; lower"):
        steps.step(gradient=value)
    again = Watch(SETTINGS, 100, print)
    again.load_state_dict(json.loads(json.dumps(steps.watch.state_dict())))
    assert again.state_dict() == steps.watch.state_dict()


def test_a_step_of_which_every_batch_was_skipped_changes_nothing() -> None:
    steps = Steps()
    steps.weight.grad = torch.zeros(3)  # what several processes have then
    steps.watch.on_before_optimizer_step(steps.trainer, steps.module, steps.optimiser)
    assert steps.weight.grad is None
    assert not steps.said


def words_of(folder: Path, corpus: Path, name: str, *more: str) -> list[str]:
    return [
        f"runs={folder}", f"name={name}", f"data.root={corpus}", "data.train=[train.jsonl]",
        "data.dev=[dev.jsonl]", "data.batch_seconds=20", "data.max_seconds=9", "model.hidden=8",
        "model.layers=1", "model.conv_channels=[2,2]", "training.epochs=9",
        "training.progress=false", "training.patience=2", *more,
    ]  # fmt: skip


def train(words: list[str], console: Console | None = None) -> dict[str, Any]:
    folder = run.train(load(Run, None, words), console or Console(quiet=True))
    record: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return record["training"]


def worse_from(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """Let the dev WER rise from this epoch on, whatever is learnt."""

    def end(self: module.SpeechTraining) -> None:
        late = max(0, self.current_epoch + 1 - epoch)
        for name, value in (("dev_loss", 1.0), ("dev_wer", 0.5 + 0.1 * late), ("dev_written", 1.0)):
            self.log(name, value)

    patch.setattr(module.SpeechTraining, "on_validation_epoch_end", end)


def test_training_stops_when_dev_has_not_improved_for_so_many_epochs(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    worse_from(2, monkeypatch)
    words = words_of(tmp_path, corpus, "dense")
    ended = train(words, Console())
    assert (ended["epochs"], ended["best_epoch"]) == (3, 1)
    assert ended["steps"] % 3 == 0
    lines = " ".join(capsys.readouterr().out.split())
    assert "dense: stopped after epoch 3: dev WER has not fallen since epoch 1" in lines

    # Killed between the stop and the record, it does not go on.
    (tmp_path / "dense" / "record.json").unlink()
    assert train(words)["epochs"] == 3
    assert len((tmp_path / "dense" / "metrics.csv").read_text().splitlines()) == 4


@pytest.mark.filterwarnings("ignore::asr.pruning.FewUpdates")
def test_patience_begins_when_pruning_has_ended(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse_from(1, monkeypatch)
    pruning = ["pruning.method=cubic", "pruning.target=0.5", "pruning.mask_updates=4"]
    ended = train(words_of(tmp_path, corpus, "sparse", *pruning, "pruning.end=0.5"))
    assert ended["best_epoch"] >= 5, "none before pruning had ended"
    assert ended["epochs"] == ended["best_epoch"] + 2


def test_warnings_are_in_the_record(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = callbacks.SeedEachStep.on_train_batch_start

    def breaking(self: Any, trainer: Any, training: Any, batch: Any, index: int) -> None:
        begun(self, trainer, training, batch, index)
        if trainer.global_step == 3:
            bias = training.model.output.linear.bias
            handle = bias.register_hook(lambda grad: handle.remove() or grad * float("nan"))

    monkeypatch.setattr(callbacks.SeedEachStep, "on_train_batch_start", breaking)
    ended = train(words_of(tmp_path, corpus, "nan", "training.epochs=2", "training.patience=0"))
    assert any("step 3: the gradient is infinite or NaN" in line for line in ended["warnings"])
    assert ended["final_loss"] < 1000
