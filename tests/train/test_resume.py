"""A pruned training that is stopped at each kind of step is the same training, bit for bit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from asr.model.file import load_model
from asr.pruning.masks import unpack
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train import callbacks, run
from asr.train.plan import plan_of

# Few updates, so that there are steps between them.
pytestmark = pytest.mark.filterwarnings("ignore::asr.pruning.FewUpdates")

SHORT = ["training.epochs=2", "pruning.mask_updates=6", "pruning.end=0.7", "data.test=[]"]
METHODS = {
    "ramp to a target": ["pruning.method=threshold_ramp", "pruning.target=0.8"],
    # Under a fifth of the weights, so that the steps after the last update are sparse.
    "banks": ["pruning.method=cubic", "pruning.target=0.9", "pruning.pattern=bank"],
    "blocks by group, accumulating": [
        "pruning.method=cubic", "pruning.target=0.8", "pruning.pattern=block",
        "pruning.block=[4,2]", "pruning.scope=group",
        "optimiser.name=nesterov", "optimiser.learning_rate=1e-3", "training.accumulate=2",
        "data.batch_seconds=5", "data.max_seconds=5", "data.unusable=exclude",
    ],
    "to a target, averaged": [
        "pruning.method=threshold_ramp", "pruning.target=0.8", "training.average=0.9", *SHORT,
        "training.accumulate=2", "data.batch_seconds=5", "data.max_seconds=5",
        "data.unusable=exclude",
    ],
    "exchanging, averaged": [
        "pruning.method=rigl", "pruning.target=0.8", "training.average=0.9", *SHORT,
    ],
}  # fmt: skip


class Killed(BaseException):
    """Ends a training at once; nothing more is written."""


class Training:
    """One run folder, trained in parts; the resume point of every step is saved beside it."""

    def __init__(self, folder: Path, corpus: Path, name: str, more: list[str]) -> None:
        words = [
            f"runs={folder}", f"name={name}", "recipe=t", f"data.root={corpus}",
            "data.train=[train.jsonl]", "data.dev=[dev.jsonl]", "data.batch_seconds=10",
            "data.max_seconds=9", "model.hidden=12", "model.layers=2", "model.conv_channels=[4,4]",
            "model.dropout=0.1", "training.epochs=3", "training.progress=false",
            "training.checkpoint_steps=1", "pruning.mask_updates=10", "pruning.end=0.9",
            "pruning.start=0.1", "pruning.ramp=0.3", *more,
        ]  # fmt: skip
        self.settings = load(Run, None, words)
        self.folder = folder / "t" / name

    def go(self, patch: pytest.MonkeyPatch, die_at: int | None = None, keep: bool = False) -> None:
        """Continue training until the batch after step `die_at`, or to the end."""
        begun = callbacks.SeedEachStep.on_train_batch_start
        saved = callbacks.ResumePoint.save

        def dying(self: Any, trainer: Any, *rest: Any) -> None:
            if trainer.global_step == die_at:
                raise Killed
            begun(self, trainer, *rest)

        def keeping(self: Any, trainer: Any) -> None:
            saved(self, trainer)
            shutil.copy(self.path, self.path.parent / f"{trainer.global_step}.ckpt")

        with patch.context() as patched:
            patched.setattr(callbacks.SeedEachStep, "on_train_batch_start", dying)
            if keep:
                patched.setattr(callbacks.ResumePoint, "save", keeping)
            try:
                run.train(self.settings, Console(quiet=True))
            except Killed:
                assert die_at is not None

    def state(self, step: int | str = "last") -> dict[str, Any]:
        return torch.load(self.folder / "checkpoints" / f"{step}.ckpt", weights_only=True)


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Keys at which two nested states of tensors and plain values differ in any bit."""
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and torch.equal(a, b)
        return [] if same else [where]
    if isinstance(a, dict):
        if not isinstance(b, dict) or set(a) != set(b):
            return [where]
        return [d for key in a for d in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, (x, y) in pairs for d in differences(x, y, f"{where}/{i}")]
    return [] if a == b else [where]


def compared(state: dict[str, Any]) -> dict[str, Any]:
    """Weights, optimiser, pruner with its masks and controllers, and the curve of each tensor."""
    return {
        "weights": state["state_dict"],
        "optimiser": state["optimizer_states"],
        "rate": state["lr_schedulers"],
        "pruner": state["callbacks"]["PruningCallback"],
        "curve": state["callbacks"]["SparsityCurve"]["rows"],
    }


@pytest.mark.parametrize(
    ("method", "workers"),
    [
        ("ramp to a target", 0),
        ("ramp to a target", 2),
        ("blocks by group, accumulating", 0),
        pytest.param("banks", 0, marks=pytest.mark.slow),
    ],
)
def test_a_training_stopped_at_any_step_and_resumed_is_the_same(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, workers: int
) -> None:
    more = [*METHODS[method], f"data.workers={workers}"]
    whole = Training(tmp_path, corpus, "whole", more)
    whole.go(monkeypatch, keep=True)
    record = json.loads((whole.folder / "record.json").read_text())
    total = record["training"]["steps"]
    updates = [step for step, _ in record["pruning"]["curve"]]
    between = [step for step in range(updates[0], updates[-1]) if step not in updates]
    kinds = {
        "before pruning": updates[0] - 2,
        "on an update": updates[len(updates) // 2],
        "between two": next(step for step in between if step > updates[len(updates) // 2]),
        "on the last update": updates[-1],
        "after it": updates[-1] + 1,
        "before the last step": total - 1,
    }
    assert list(kinds.values()) == sorted(set(kinds.values()))

    stopped = Training(tmp_path, corpus, "stopped", more)
    for kind, step in kinds.items():
        stopped.go(monkeypatch, die_at=step)
        assert not (stopped.folder / "record.json").exists()
        state = stopped.state()
        assert state["global_step"] == step, kind
        assert differences(compared(whole.state(step)), compared(state)) == [], kind

    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:  # after the last step, before the record
        patched.setattr(run, "finish", dies)
        with pytest.raises(Killed):
            run.train(stopped.settings, Console(quiet=True))
    stopped.go(monkeypatch)
    assert differences(compared(whole.state()), compared(stopped.state())) == []
    tables = [(t.folder / "sparsity.csv").read_text() for t in (whole, stopped)]
    assert tables[0] == tables[1]
    again = json.loads((stopped.folder / "record.json").read_text())
    assert again["pruning"] == record["pruning"]
    assert again["model"] == record["model"]
    assert len(again["resumed"]) == len(kinds) + 1
    assert record["pruning"]["sparsity"] == pytest.approx(whole.settings.pruning.target, abs=0.03)


@pytest.mark.parametrize("method", ["to a target, averaged", "exchanging, averaged"])
def test_the_saved_average_is_that_of_the_steps_since_the_last_update_with_or_without_a_stop(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    whole = Training(tmp_path, corpus, "whole", METHODS[method])
    whole.go(monkeypatch, keep=True)
    record = json.loads((whole.folder / "record.json").read_text())
    total, curve = record["training"]["steps"], record["pruning"]["curve"]
    updates = {step for step, _ in curve}
    assert 2 < len(updates) < max(updates) < total - 3

    average: dict[str, torch.Tensor] = {}
    averaged = 0
    for step in range(1, total + 1):
        state = whole.state(step)
        masks = state["callbacks"]["PruningCallback"]["masks"]
        own, raw = parts(state)
        averaged = 0 if step in updates else averaged
        keep = min(0.9, (1 + averaged) / (10 + averaged)) if averaged else 0.0
        for name, weight in raw.items():
            old = average.get(name, torch.zeros(()))
            average[name] = keep * old + (1 - keep) * weight.double()
            if weight.is_floating_point():
                assert torch.allclose(own[name].double(), average[name], atol=1e-6), (step, name)
            if name in masks:
                kept = unpack(masks[name], weight.shape)
                assert not own[name][~kept].any(), (step, name)
        averaged += 1
    assert averaged == total + 1 - max(updates), "since the last update"
    assert any(not torch.equal(own[name], raw[name]) for name in masks)

    stopped = Training(tmp_path, corpus, "stopped", METHODS[method])
    for step in (sorted(updates)[2], max(updates) + 2):
        stopped.go(monkeypatch, die_at=step)
        assert stopped.state()["global_step"] == step
        assert differences(compared(whole.state(step)), compared(stopped.state())) == []
    stopped.go(monkeypatch)
    assert differences(compared(whole.state()), compared(stopped.state())) == []

    best = record["training"]["best_epoch"]
    validated, _ = parts(whole.state(best * total // 2))
    for training in (whole, stopped):
        saved = load_model(training.folder / "model.asr")
        assert differences(validated, saved.model.state_dict()) == []
        assert saved.metadata.training["average"] == 0.9
    for name, bits in masks.items():
        zeros = saved.model.state_dict()[name] == 0
        assert torch.equal(zeros, ~unpack(bits, zeros.shape)), "the final masks"
    counts = {t["name"]: t["nonzeros"] for t in record["model"]["tensors"]}
    packed = load_model(whole.folder / "packed.asr").model.state_dict()
    assert counts == {name: int(packed[name].count_nonzero()) for name in masks}
    assert record["pruning"]["sparsity"] == pytest.approx(curve[-1][1], abs=1e-6)
    assert record["training"]["average"] == 0.9


def parts(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The average and its network, from a resume point."""
    weights = state["state_dict"]
    prefixes = ("average.module.", "model.")
    average, raw = (
        {k.removeprefix(p): v for k, v in weights.items() if k.startswith(p)} for p in prefixes
    )
    assert set(average) == set(raw)
    return average, raw


def test_the_run_prunes_at_the_steps_that_the_plan_predicts(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Training(tmp_path, corpus, "one", [*METHODS["ramp to a target"], "data.test=[]"])
    one.go(monkeypatch)
    record = json.loads((one.folder / "record.json").read_text())
    predicted = plan_of(one.settings, record["training"]["steps"])
    curve = record["pruning"]["curve"]
    assert [step for step, _ in predicted.curve] == [step for step, _ in curve]
    assert predicted.final == pytest.approx(curve[-1][1], abs=1e-3)
    assert {t.name for t in predicted.tensors} == {t["name"] for t in record["model"]["tensors"]}
    rows = (one.folder / "sparsity.csv").read_text().splitlines()
    assert rows[0].split(",")[:3] == ["step", "pruned", "model"]
    assert set(rows[0].split(",")[3:]) == {t.name for t in predicted.tensors}
    assert len(rows) == 1 + len(curve)
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert float(last["pruned"]) == pytest.approx(record["pruning"]["sparsity"], abs=1e-5)
    parameters, zeros = record["model"]["parameters"], 0
    for t in record["model"]["tensors"]:
        zeros += t["elements"] - t["nonzeros"]
        assert float(last[t["name"]]) == pytest.approx(1 - t["nonzeros"] / t["elements"], abs=1e-5)
    assert float(last["model"]) == pytest.approx(zeros / parameters, abs=1e-5)
