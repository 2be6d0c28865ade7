"""How a process finds its place among others, what it refuses, what one process does alone."""

import os
from pathlib import Path

import pytest
import torch
from torch import distributed

from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from asr.settings.run import Run
from asr.settings.training import TrainingSettings
from asr.settings.yaml import load
from asr.train.folder import begin, resume_point
from asr.train.launch import started_here
from asr.train.ranks import OnEveryRank, ProcessPlace, Ranks, check_place, distinct, joined
from asr.train.trainer import device, place

ALONE = ProcessPlace()
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29400",
}  # fmt: skip
SLURM = {
    "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_JOB_ID": "12345", "SLURM_JOB_NAME": "train",
    "SLURM_NODELIST": "gpu[03-04]",
}  # fmt: skip


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment of a process that was started by itself."""
    for name in {*TORCHRUN, *SLURM}:
        monkeypatch.setenv(name, "")  # noted, so that it is restored
        monkeypatch.delenv(name)
    return monkeypatch


def given(patch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        patch.setenv(name, value)


def test_a_process_finds_its_place_under_torchrun_and_under_slurm(
    clean: pytest.MonkeyPatch,
) -> None:
    assert place() == ProcessPlace()
    given(clean, SLURM)
    assert place() == ProcessPlace(5, 8, local=1, devices=4, nodes=2, launcher="SLURM")

    assert os.environ["MASTER_ADDR"] == "gpu03", "the first machine of the job"
    given(clean, TORCHRUN)
    assert place() == ProcessPlace(5, 8, local=1, devices=4, nodes=2, launcher="torchrun")


def test_slurm_must_say_how_many_tasks_a_machine_has(clean: pytest.MonkeyPatch) -> None:
    given(clean, SLURM)
    clean.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(AsrError, match="give sbatch or srun --ntasks-per-node instead of --ntasks"):
        place()


@pytest.mark.parametrize(
    ("settings", "there", "message"),
    [
        (
            {"devices": 4},
            ProcessPlace(),
            r"training\.devices=4: start 4 processes on each of 1 machines",
        ),
        (
            {"nodes": 2},
            ProcessPlace(),
            r"training\.nodes=2: .*torchrun --nnodes 2 --nproc-per-node N",
        ),
        (
            {"devices": 4},
            ProcessPlace(0, 2, 0, 2, 1, "torchrun"),
            r"training\.devices=4, but torchrun started 2 processes on each of 1 machines",
        ),
    ],
)
def test_settings_that_contradict_what_was_started_are_refused(
    settings: dict[str, int], there: ProcessPlace, message: str
) -> None:
    with pytest.raises(AsrError, match=message):
        check_place(TrainingSettings(**settings), there)


def test_asr_train_starts_the_processes_of_one_machine_itself(clean: pytest.MonkeyPatch) -> None:
    assert started_here(TrainingSettings(devices=2))
    assert not started_here(TrainingSettings())
    assert not started_here(TrainingSettings(devices=2, nodes=2)), "refused by check_place"
    given(clean, TORCHRUN)
    assert not started_here(TrainingSettings(devices=4))


def test_fewer_gpus_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    there = ProcessPlace(3, 4, 3, devices=4, nodes=1, launcher="SLURM")
    with pytest.raises(AsrError, match=r"4 processes on this machine and 1 GPUs.*--gpus-per-node"):
        check_place(TrainingSettings(), there)
    assert device().type == "cuda"


def test_another_number_of_processes_does_not_resume(tmp_path: Path) -> None:
    settings = load(Run, None, ["name=a"])
    utterances = [Utterance("u", "u.wav", 1.0, "A", "")]
    begin(tmp_path, settings, utterances, [], processes=2)
    resume_point(tmp_path).parent.mkdir()
    resume_point(tmp_path).touch()
    begin(tmp_path, settings, utterances, [], processes=2)
    with pytest.raises(AsrError, match="this run started with 2 processes, and 4 would go on"):
        begin(tmp_path, settings, utterances, [], processes=4)


def test_one_process_sends_nothing_and_waits_for_nobody() -> None:
    ranks = Ranks()
    assert ranks.on_first(lambda: 3) == ranks.everywhere(lambda: 3) == 3
    assert ranks.gather("x") == ["x"]
    assert [ranks.agree(True), ranks.agree(False)] == [True, False]
    assert ranks.sum(torch.tensor(2.0)) == 2
    assert ranks.lost(RuntimeError("Connection closed by peer")) == "", "nobody to lose"
    assert distinct("batch.pt", ranks) == "batch.pt"
    assert distinct("batch.pt", Ranks(ProcessPlace(3, 4))) == "batch.rank3.pt"


def test_a_group_of_one_is_made_on_request_and_left_at_the_end(clean: pytest.MonkeyPatch) -> None:
    with joined(TrainingSettings(strategy="ddp"), place()) as ranks:
        assert distributed.get_world_size() == 1
        assert ranks.on_first(lambda: "made") == "made"
    assert not distributed.is_initialized()


def test_an_error_that_all_ranks_raise_is_printed_by_the_first(clean: pytest.MonkeyPatch) -> None:
    with pytest.raises(OnEveryRank), joined(TrainingSettings(strategy="ddp"), place()):
        raise OnEveryRank("broken")
    distributed.destroy_process_group()
