"""One training: the record, fine-tuning, errors."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_run import pruned, settings_of

from asr.corpus.manifest import read_manifest, write_manifest
from asr.decode.priors import token_priors
from asr.errors import AsrError
from asr.evaluate.tune import run_set
from asr.model.file import load_model
from asr.model.torch_network import DeepSpeech
from asr.plain import Reader
from asr.report.records import read_record, text_of
from asr.report.schema import RunRecord
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.sparse import torch_training
from asr.sparse.kernels import library
from asr.train import trial
from asr.train.fit import TrainingParts
from asr.train.folder import exclusive
from asr.train.record import finish
from asr.train.run import train
from asr.transcribe.recogniser import Recogniser
from asr.transcribe.recogniser import load as open_recogniser


def test_the_record_has_the_keys_of_the_schema_and_no_others(dense: Path) -> None:
    path = dense / "record.json"
    plain, record = json.loads(path.read_text()), read_record(path)
    reader = Reader(missing="refuse", unknown="refuse")
    assert reader.read(RunRecord, plain) == record
    assert reader.problems == []
    assert text_of(record) == path.read_text()


def test_the_record_describes_the_training(dense: Path) -> None:
    record = json.loads((dense / "record.json").read_text())
    parameters = sum(p.numel() for p in load_model(dense / "model.asr").model.parameters())
    assert record["model"]["parameters"] == parameters
    assert record["pruning"] is None
    assert record["evaluation"]["test"]["words"] > 50
    assert record["training"]["steps"] % 3 == 0
    assert record["settings"]["runs"] == ""
    assert record["resumed"] == []
    assert str(dense.parent.parent) not in json.dumps(record)
    assert {p.name for p in dense.iterdir()} >= {
        "config.yaml", "metrics.csv", "model.asr", "packed.asr", "ref_hyp.test.txt", "record.json"
    }  # fmt: skip
    assert len((dense / "metrics.csv").read_text().splitlines()) == 4


def test_the_model_file_has_the_priors_of_its_tokens_on_the_dev_set(
    dense: Path, corpus: Path
) -> None:
    recogniser = open_recogniser(dense / "model.asr")
    found = token_priors(run_set(recogniser, read_manifest(corpus / "dev.jsonl")))
    assert recogniser.token_priors == pytest.approx(found, abs=1e-4)
    packed = open_recogniser(dense / "packed.asr").token_priors
    assert packed == pytest.approx(recogniser.token_priors)


def test_the_network_is_tested_on_the_device_that_the_trainer_found(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(dense, tmp_path / "run")
    plain = json.loads((run / "record.json").read_text())["training"]
    figures = {k: plain[k] for k in ("seconds", "steps", "epochs", "audio_hours")}
    options: dict[str, Any] = {}

    def noting(*args: Any, **given: Any) -> Recogniser:
        options.update(given)
        return open_recogniser(*args, **given)

    monkeypatch.setattr("asr.train.record.load", noting)
    found = finish(load(Run, run / "config.yaml"), run, figures, None)
    assert options == {"backend": "torch", "device": "auto"}
    before = read_record(dense / "record.json").evaluation["test"]
    assert found.evaluation["test"].wer == pytest.approx(before.wer, rel=1e-5)


def test_a_finished_run_is_not_repeated_and_other_settings_are_refused(
    folder: Path, corpus: Path, dense: Path
) -> None:
    words = settings_of(folder, corpus, "dense", "data.test=[test.jsonl]")
    before = (dense / "model.asr").stat().st_mtime_ns
    train(load(Run, None, words))
    assert (dense / "model.asr").stat().st_mtime_ns == before
    with pytest.raises(AsrError, match=r"model\.hidden: 12 there, 16 now"):
        train(load(Run, None, [*words, "model.hidden=16"]))


def test_a_finished_run_is_given_another_label_and_group(
    folder: Path, corpus: Path, dense: Path
) -> None:
    words = settings_of(folder, corpus, "dense", "data.test=[test.jsonl]")
    path = dense / "record.json"
    before = path.read_text()
    train(load(Run, None, [*words, "label=Large", "group=gru"]))
    now = json.loads(path.read_text())
    assert [now["label"], now["group"]] == ["Large", "gru"]
    assert [now["settings"]["label"], now["settings"]["group"]] == ["Large", "gru"]
    train(load(Run, None, words))
    assert path.read_text() == before


def test_fine_tuning_preserves_the_zeros_of_a_packed_file(
    folder: Path, corpus: Path, dense: Path
) -> None:
    sparse = train(load(Run, None, settings_of(folder, corpus, "sparse", *pruned(dense))))
    more = [f"init={sparse / 'packed.asr'}", "pruning.method=fixed_mask", "training.epochs=1"]
    tuned = train(load(Run, None, settings_of(folder, corpus, "tuned", *more)))
    before = load_model(sparse / "packed.asr").model.state_dict()
    after = load_model(tuned / "model.asr").model.state_dict()
    names = [n for n in before if n.startswith("rnn") and ".weight_" in n]
    assert sum(int((before[n] == 0).sum()) for n in names) > 1000
    for name in names:
        assert bool((after[name][before[name] == 0] == 0).all())
    assert any(not torch.equal(before[n], after[n]) for n in names)


def test_a_target_is_reached_without_a_dense_network_and_pruned_further_from_the_packed_file(
    folder: Path, corpus: Path
) -> None:
    words = ["pruning.method=threshold_ramp", "pruning.target=0.7", "pruning.tolerance=0.005"]
    sparse = train(load(Run, None, settings_of(folder, corpus, "to-target", *words)))
    record = json.loads((sparse / "record.json").read_text())["pruning"]
    assert record["sparsity_min"] == pytest.approx(0.7, abs=0.005)
    assert record["sparsity_max"] == pytest.approx(0.7, abs=0.005)
    assert (record["method"], record["scope"]) == ("threshold_ramp", "tensor")
    assert record["target_sparsity"] == 0.7
    assert len(record["curve"]) == record["mask_updates"] >= 30
    assert all(t["q"] > 0 for t in record["thresholds"].values())
    more = [
        f"init={sparse / 'packed.asr'}", "pruning.method=cubic", "pruning.target=0.85",
        "pruning.keep_zeros=true",
    ]  # fmt: skip
    further = train(load(Run, None, settings_of(folder, corpus, "further", *more)))
    before, after = (load_model(f / "packed.asr").model.state_dict() for f in (sparse, further))
    record = json.loads((further / "record.json").read_text())["pruning"]
    assert record["pattern"] == {"name": "element"}
    assert record["sparsity"] == pytest.approx(0.85, abs=0.005)
    for name in (n for n in before if n.startswith("rnn") and ".weight_" in n):
        assert not after[name][before[name] == 0].any()


def test_rigl_and_group_lasso_train_from_settings(folder: Path, corpus: Path) -> None:
    words = ["pruning.method=rigl", "pruning.target=0.8", "pruning.mask_updates=10"]
    run = train(load(Run, None, settings_of(folder, corpus, "rigl", *words)))
    record = json.loads((run / "record.json").read_text())["pruning"]
    assert record["sparsity"] == pytest.approx(0.8, abs=0.001)
    assert {round(fraction, 2) for _, fraction in record["curve"]} == {0.8}, (
        "from the first step on"
    )

    norms = []
    for weight in (0.0, 0.3):
        words = [
            "pruning.method=one_shot", "pruning.target=0.5", "pruning.at=1", "training.epochs=1",
            "pruning.pattern=block", "pruning.block=[4,1]", f"pruning.lasso={weight}",
        ]  # fmt: skip
        run = train(load(Run, None, settings_of(folder, corpus, f"lasso{weight}", *words)))
        state = load_model(run / "model.asr").model.state_dict()
        weights = [v for k, v in state.items() if k.startswith("rnn") and ".weight_" in k]
        norms.append(sum(float(w.view(-1, 4, w.shape[1]).norm(dim=1).sum()) for w in weights))
    assert norms[1] < 0.95 * norms[0], "the penalty becomes smaller"


@pytest.mark.skipif(library() is None, reason="needs the C library")
def test_steps_after_the_last_update_leave_the_zeros_out(
    folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["pruning.method=one_shot", "pruning.target=0.9", "pruning.at=0.6", "training.epochs=1"]
    steps: list[int] = []
    sparse = torch_training.run
    monkeypatch.setattr(torch_training, "run", lambda *a: steps.append(1) or sparse(*a))
    run = train(load(Run, None, settings_of(folder, corpus, "final", *words)))
    record = json.loads((run / "record.json").read_text())
    [[update, _]] = record["pruning"]["curve"]
    assert 0 < update < record["training"]["steps"]
    tried = 1  # before the training, with the largest batch
    assert len(steps) == 2 * (tried + record["training"]["steps"] - update), "two layers"


def test_weights_of_another_network_are_refused(folder: Path, corpus: Path, dense: Path) -> None:
    words = settings_of(folder, corpus, "other", f"init={dense / 'model.asr'}", "model.hidden=16")
    with pytest.raises(AsrError, match="does not fit the network"):
        train(load(Run, None, words))
    words = settings_of(folder, corpus, "other2", *pruned(dense), "model.hidden=16")
    with pytest.raises(AsrError, match="hidden 12 against 16"):
        train(load(Run, None, words))


def test_a_recording_in_two_parts_is_refused(folder: Path, corpus: Path) -> None:
    words = settings_of(folder, corpus, "leak", "data.test=[train.jsonl]")
    with pytest.raises(AsrError, match=r"is in data\.test and in data\.train"):
        train(load(Run, None, words))


def test_a_recording_in_two_parts_is_refused_by_another_path_too(
    folder: Path, corpus: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(corpus)
    words = settings_of(folder, corpus, "leak2", f"data.test=[{link}/dev.jsonl]")
    with pytest.raises(AsrError, match=r"in data\.dev and in data\.test"):
        train(load(Run, None, words))


def test_a_damaged_test_recording_is_refused_before_training(
    folder: Path, corpus: Path, tmp_path: Path
) -> None:
    utterances = read_manifest(corpus / "test.jsonl")[:1]
    flac = Path(utterances[0].audio_filepath).read_bytes()
    (tmp_path / "damaged.flac").write_bytes(flac[: len(flac) // 2])
    bad = replace(utterances[0], id="damaged", audio_filepath=str(tmp_path / "damaged.flac"))
    write_manifest(tmp_path / "test.jsonl", [*utterances, bad])
    words = settings_of(folder, corpus, "damaged-test", f"data.test=[{tmp_path}/test.jsonl]")
    with pytest.raises(AsrError, match=r"data\.test, .*damaged\.flac"):
        train(load(Run, None, words))
    for name in ("x", "y"):
        write_manifest(tmp_path / name / "eval1.jsonl", utterances)
    tests = f"data.test=[{tmp_path}/x/eval1.jsonl,{tmp_path}/y/eval1.jsonl]"
    words = settings_of(folder, corpus, "twice", tests)
    with pytest.raises(AsrError, match=r"both called 'eval1'"):
        train(load(Run, None, words))
    write_manifest(tmp_path / "x" / "test.jsonl", utterances)
    write_manifest(tmp_path / "x-test.jsonl", utterances)
    tests = f"data.test=[{tmp_path}/x/test.jsonl,{tmp_path}/x-test.jsonl]"
    with pytest.raises(AsrError, match=r"both be written to ref_hyp\.x-test\.txt; give one"):
        train(load(Run, None, settings_of(folder, corpus, "one-file", tests)))


def test_a_refused_start_can_be_corrected_under_the_same_name(
    folder: Path, corpus: Path, dense: Path
) -> None:
    words = settings_of(folder, corpus, "corrected", "training.epochs=1")
    with pytest.raises(AsrError, match="does not fit the network"):
        train(load(Run, None, [*words, f"init={dense / 'model.asr'}", "model.hidden=16"]))
    assert (train(load(Run, None, words)) / "record.json").exists()


def test_two_processes_do_not_train_in_one_folder(folder: Path, corpus: Path) -> None:
    settings = load(Run, None, settings_of(folder, corpus, "busy"))
    with exclusive(folder / "t" / "busy"), pytest.raises(AsrError, match="another process"):
        train(settings)


def test_a_sparsity_far_from_the_expected_one_is_an_error(
    folder: Path, corpus: Path, dense: Path
) -> None:
    more = [*pruned(dense), "pruning.expected_sparsity=0.1", "pruning.tolerance=0.01"]
    settings = load(Run, None, settings_of(folder, corpus, "missed", *more))
    for _ in range(2):  # the second time it is a finished run
        with pytest.raises(AsrError, match=r"instead of 10\.0%"):
            train(settings)


@pytest.mark.parametrize(
    "fails", ["asr.train.trial.ctc_losses", "torch.optim.AdamW.step", "torch.Tensor.backward"]
)
def test_a_batch_that_memory_cannot_hold_fails_before_training(
    folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(fails, full)
    name = f"large-{fails.rpartition('.')[2]}"
    with pytest.raises(AsrError, match=r"(?s)largest batch.*out of memory.*data\.batch_seconds"):
        train(load(Run, None, settings_of(folder, corpus, name)))
    saved = torch.load(folder / "t" / name / "failed_batch.pt", weights_only=True)
    assert saved["ids"]
    assert saved["features"].dim() == 3


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_largest_batch_is_tried_with_the_step_of_the_training(
    folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    words = ["training.epochs=1", f"training.precision={precision}", "training.average=0.9"]
    settings = load(Run, None, settings_of(folder, corpus, f"trial-{precision}", *words))
    steps: list[tuple[str, object]] = []
    forward, backward = DeepSpeech.forward, torch.Tensor.backward
    step, trying = torch.optim.AdamW.step, trial.try_largest_batch

    def seen_forward(self: DeepSpeech, *rest: torch.Tensor) -> object:
        steps.append(("forward", torch.is_autocast_enabled("cpu")))
        return forward(self, *rest)

    def seen_backward(self: torch.Tensor, *rest: object, **more: object) -> None:
        steps.append(("backward", torch.is_autocast_enabled("cpu")))
        backward(self, *rest, **more)

    def seen_step(self: torch.optim.AdamW, closure: object = None) -> object:
        result = step(self, closure)
        steps.append(("step", sum(len(state) for state in self.state.values())))
        return result

    def tried(parts: TrainingParts) -> None:
        before = {k: v.clone() for k, v in parts.module.state_dict().items()}
        trying(parts)
        assert all(torch.equal(before[k], v) for k, v in parts.module.state_dict().items())
        assert all(p.grad is None for p in parts.model.parameters())
        raise KeyboardInterrupt

    monkeypatch.setattr(DeepSpeech, "forward", seen_forward)
    monkeypatch.setattr(torch.Tensor, "backward", seen_backward)
    monkeypatch.setattr(torch.optim.AdamW, "step", seen_step)
    monkeypatch.setattr("asr.train.run.try_largest_batch", tried)
    with pytest.raises(KeyboardInterrupt):
        train(settings)
    names, (states, autocast, in_backward, _, validating) = zip(*steps, strict=True)
    assert names == ("step", "forward", "backward", "step", "forward")
    parameters = len(list(DeepSpeech(settings.model).parameters()))
    assert states == 3 * parameters, "two moments and a counter of each, before the forward pass"
    assert autocast is validating is (precision == "bf16")
    assert in_backward is False, "as in Lightning"


def test_utterances_that_cannot_be_aligned_are_refused_or_listed(
    folder: Path, corpus: Path, tmp_path: Path
) -> None:
    utterances = read_manifest(corpus / "train.jsonl")
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(16000, np.float32), 16000)
    bad = type(utterances[0])("short", str(path), 1.0, "MANY WORDS " * 10, "s")
    write_manifest(tmp_path / "train.jsonl", [*utterances, bad])
    words = settings_of(folder, corpus, "short", f"data.train=[{tmp_path}/train.jsonl]")
    with pytest.raises(AsrError, match=r"(?s)short.*data\.unusable=exclude"):
        train(load(Run, None, words))
    words += ["data.unusable=exclude", "training.epochs=1"]
    done = train(load(Run, None, words))
    assert "short" in (done / "unusable.txt").read_text()
    assert json.loads((done / "record.json").read_text())["training"]["excluded_utterances"] == 1
