"""A training that is killed and started again ends with the same weights."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from small_run import in_process, pruned, settings_of

from asr import audio
from asr.corpus.manifest import read_manifest, write_manifest
from asr.errors import AsrError
from asr.model.file import load_model
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train import prepare


def check_resume(folder: Path, corpus: Path, dense: Path, die_at: int, *more: str) -> None:
    """A run killed before step `die_at` and started again equals one that was never killed."""
    tag = "-".join([str(die_at), *(m.split("=")[1] for m in more)])
    # Thresholds of a dense network and a target: the largest state that a pruner has.
    how = [*pruned(dense), "pruning.target=0.85", "pruning.tolerance=0.005"]
    whole = settings_of(folder, corpus, f"whole-{tag}", *how, *more)
    stopped = settings_of(folder, corpus, f"stopped-{tag}", *how, *more)
    assert in_process(whole).returncode == 0
    assert in_process(stopped, die_at).returncode == -signal.SIGKILL
    last = folder / "t" / f"stopped-{tag}" / "checkpoints" / "last.ckpt"
    step = torch.load(last, weights_only=True)["global_step"]
    assert 0 < step <= die_at
    assert not (folder / "t" / f"stopped-{tag}" / "record.json").exists()
    again = in_process(stopped)
    assert again.returncode == 0, again.stderr
    for file in ("checkpoints/last.ckpt",):
        a, b = (
            torch.load(folder / "t" / f"{kind}-{tag}" / file, weights_only=True)["state_dict"]
            for kind in ("whole", "stopped")
        )
        assert list(a) == list(b)
        assert all(torch.equal(a[name], b[name]) for name in a)
    a, b = (folder / "t" / f"{kind}-{tag}" / "packed.asr" for kind in ("whole", "stopped"))
    first, second = load_model(a).model.state_dict(), load_model(b).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    record = json.loads((b.parent / "record.json").read_text())
    assert record["pruning"]["sparsity"] == pytest.approx(0.85, abs=0.005)
    assert len(record["resumed"]) == 1


def test_a_training_killed_while_pruning_and_resumed_ends_with_equal_weights(
    folder: Path, corpus: Path, dense: Path
) -> None:
    steps = json.loads((dense / "record.json").read_text())["training"]["steps"]
    per_epoch = steps // 3
    die_at = per_epoch + per_epoch // 2 + 1
    assert die_at % 4 != 0, "not where a resume point is"
    assert die_at % per_epoch != 0, "in the middle of an epoch"
    check_resume(folder, corpus, dense, die_at)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fraction", [0.1, 0.34, 0.67, 0.95])
def test_a_training_killed_anywhere_and_resumed_ends_with_equal_weights(
    folder: Path, corpus: Path, dense: Path, fraction: float, workers: int
) -> None:
    steps = json.loads((dense / "record.json").read_text())["training"]["steps"]
    check_resume(folder, corpus, dense, round(fraction * steps), f"data.workers={workers}")


def test_other_data_is_not_resumed(folder: Path, corpus: Path, tmp_path: Path) -> None:
    utterances = read_manifest(corpus / "train.jsonl")
    write_manifest(tmp_path / "train.jsonl", utterances)
    words = settings_of(folder, corpus, "data", f"data.train=[{tmp_path}/train.jsonl]")
    assert in_process(words, die_at=6).returncode == -signal.SIGKILL
    write_manifest(tmp_path / "train.jsonl", utterances[1:])
    again = in_process(words)
    assert again.returncode == 2
    assert "other training or dev data" in again.stderr


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_does_not_look_finished(
    folder: Path, corpus: Path, sent: signal.Signals, status: int
) -> None:
    words = settings_of(folder, corpus, f"sent-{sent.name}")
    run = in_process(words, die_at=6, sent=sent)
    assert run.returncode == status, run.stderr
    assert "Traceback" not in run.stderr
    assert not (folder / "t" / f"sent-{sent.name}" / "record.json").exists()


def test_test_recordings_are_decoded_once_however_often_a_training_is_resumed(
    folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = read_manifest(corpus / "test.jsonl")[:2]
    moved = []
    for u in utterances:
        path = tmp_path / Path(u.audio_filepath).name
        path.write_bytes(Path(u.audio_filepath).read_bytes())
        moved.append(replace(u, audio_filepath=str(path)))
    write_manifest(tmp_path / "test.jsonl", moved)
    decoded: list[str] = []
    loading = audio.load
    monkeypatch.setattr(
        prepare.audio, "load", lambda path, rate: decoded.append(path) or loading(path, rate)
    )
    words = settings_of(folder, corpus, "once", f"data.test=[{tmp_path}/test.jsonl]")
    settings, console = load(Run, None, words), Console(quiet=True)
    (folder / "t" / "once").mkdir(parents=True)
    for _ in range(2):
        prepare.prepare(settings, folder / "t" / "once", console)
    assert sum(Path(path).parent == tmp_path for path in decoded) == 2
    damaged = Path(moved[1].audio_filepath)
    damaged.write_bytes(damaged.read_bytes()[:500])
    for _ in range(2):
        with pytest.raises(AsrError, match=rf"data\.test, .*{damaged.name}"):
            prepare.prepare(settings, folder / "t" / "once", console)
