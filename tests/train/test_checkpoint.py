"""Empty, cut and damaged checkpoints: a sentence that names them and says what to do."""

import io
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from asr.errors import AsrError
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train import run
from asr.train.callbacks import ResumePoint
from asr.train.checkpoint import check_resume_point, read_checkpoint
from asr.train.stats import stats_to


class Stopped(Exception):
    """Ends a training after its first resume point."""


@pytest.fixture(scope="module")
def stopped(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Settings of a training that was stopped after a step."""
    words = [
        f"runs={tmp_path_factory.mktemp('runs')}", "name=x", f"data.root={corpus}",
        "data.train=[train.jsonl]", "data.dev=[dev.jsonl]", "data.batch_seconds=10",
        "data.max_seconds=9", "model.hidden=8", "model.layers=1", "model.conv_channels=[4,4]",
        "training.epochs=1", "training.progress=false", "training.checkpoint_steps=1",
    ]  # fmt: skip
    made, saved = load(Run, None, words), ResumePoint.save

    def stopping(self: ResumePoint, trainer: object) -> None:
        saved(self, trainer)  # type: ignore[arg-type]
        raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumePoint, "save", stopping)
        with pytest.raises(Stopped):
            run.train(made, Console(quiet=True))
    return made


def as_file(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


DAMAGES = {
    "empty": lambda whole: b"",
    "of one byte": lambda whole: b"P",
    "cut in the middle": lambda whole: whole[: len(whole) // 2],
    "cut by a byte": lambda whole: whole[:-1],
    "with its middle overwritten": lambda whole: (
        whole[: len(whole) // 3] + b"\xff" * 99 + whole[len(whole) // 3 + 99 :]
    ),
    "all zeros": lambda whole: bytes(len(whole)),
    "a text": lambda whole: b"not a checkpoint\n" * 50,
    "of weights alone": lambda whole: as_file({"weight": torch.zeros(3)}),
    "a list": lambda whole: as_file([1, 2]),
    "of a pickled class": lambda whole: as_file(Path("x")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_training_is_not_resumed_from_a_file_that_is_no_whole_checkpoint(damage, stopped):
    last = Path(stopped.runs) / "x" / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(damage(whole))
    try:
        with pytest.raises(AsrError, match=r"last\.ckpt: not a checkpoint.*remove it to train"):
            run.train(stopped, Console(quiet=True))
    finally:
        last.write_bytes(whole)


def test_a_checkpoint_of_another_network_is_refused(stopped):
    last = Path(stopped.runs) / "x" / "checkpoints" / "last.ckpt"
    with pytest.raises(AsrError, match=r"last\.ckpt: a checkpoint of another network"):
        check_resume_point(last, torch.nn.Linear(2, 2))


@pytest.mark.parametrize("content", [b"", b"{", b"3", b'[{"date": 1}]', b"\xff"])
def test_damaged_starts_are_named(content, stopped):
    path = Path(stopped.runs) / "x" / "starts.json"
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        with pytest.raises(AsrError, match=r"starts\.json: damaged"):
            run.train(stopped, Console(quiet=True))
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["a.ckpt", "a.pt", "a.asr"])
@pytest.mark.parametrize("damage", list(DAMAGES.values())[:7], ids=list(DAMAGES)[:7])
def test_statistics_of_a_damaged_file_are_refused_by_its_name(damage, name, stopped, tmp_path):
    last = Path(stopped.runs) / "x" / "checkpoints" / "last.ckpt"
    (tmp_path / name).write_bytes(damage(last.read_bytes()))
    with pytest.raises(AsrError, match=name):
        stats_to(tmp_path / name)


STATE = as_file({"state_dict": {"weight": torch.arange(40.0)}, "epoch": 3})


@settings(max_examples=150, deadline=None)
@given(
    place=st.integers(0, len(STATE) - 1), new=st.binary(min_size=1, max_size=9), cut=st.booleans()
)
def test_a_changed_checkpoint_is_refused_or_read_and_nothing_else(
    place, new, cut, tmp_path_factory
):
    path = tmp_path_factory.mktemp("checkpoint") / "a.ckpt"
    path.write_bytes(STATE[:place] if cut else STATE[:place] + new + STATE[place + len(new) :])
    try:
        found = str(read_checkpoint(path))
    except AsrError as error:
        found = str(error)
    assert "a.ckpt: not a checkpoint" in found or "state_dict" in found
