"""Grids: order, references between runs, and the width of a small dense network."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from paths import ROOT
from pruned_networks import parameters_of
from report_records import plain_record
from rich.console import Console

from asr.errors import AsrError
from asr.model.dimensions import Model
from asr.model.shapes import count_parameters
from asr.model.torch_network import DeepSpeech
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train.grid import (
    matching_hidden,
    overrides_of,
    read_grid,
    records_of,
    run_grid,
    settings_of,
)

RECIPES = ROOT / "recipes"


def grid(tmp_path: Path, runs: str) -> Path:
    (tmp_path / "base.yaml").write_text("data: {train: [a.jsonl], dev: [b.jsonl]}\n")
    path = tmp_path / "grid.yaml"
    path.write_text(f"base: base.yaml\nset: [recipe=g, runs={tmp_path}/runs]\nruns:\n{runs}")
    return path


def test_nested_lists_of_settings_are_joined(tmp_path: Path) -> None:
    path = grid(
        tmp_path,
        "  - {name: a, set: &a [seed=2, training.epochs=3]}\n"
        "  - {name: b, set: [*a, [[model.hidden=8]], training.epochs=4]}\n",
    )
    b = settings_of(read_grid(path, []), "b")
    assert (b.seed, b.model.hidden, b.training.epochs) == (2, 8, 4)
    with pytest.raises(AsrError, match="run 1"):
        read_grid(grid(tmp_path, "  - {name: a, set: [[{seed: 2}]]}\n"), [])


@pytest.mark.parametrize("parameters", [60_000, 107_000, 300_000])
def test_small_dense_network_matches_the_non_zeros_within_five_per_cent(parameters: int) -> None:
    dimensions = Model(conv_channels=[16, 16])
    hidden = matching_hidden(dimensions, parameters)
    network = DeepSpeech(replace(dimensions, hidden=hidden))
    assert abs(parameters_of(network) - parameters) <= 0.05 * parameters


def test_a_width_that_cannot_match_is_an_error() -> None:
    with pytest.raises(AsrError, match="no dense network of these dimensions"):
        matching_hidden(Model(), 5_000)


def test_a_run_may_only_need_runs_above_it(tmp_path: Path) -> None:
    path = grid(tmp_path, "  - {name: sparse, dense: large}\n  - {name: large}\n")
    with pytest.raises(AsrError, match="needs 'large', which is not a run above it"):
        read_grid(path, [])


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    path = grid(tmp_path, "  - {name: large}\n  - {name: large}\n")
    with pytest.raises(AsrError, match="needs a name of its own"):
        read_grid(path, [])


def test_a_misspelt_key_of_a_run_is_named(tmp_path: Path) -> None:
    path = grid(tmp_path, "  - {name: large, lable: x}\n")
    with pytest.raises(AsrError, match=r"run 1: lable: .*Did you mean: 'label'"):
        read_grid(path, [])


def test_a_misspelt_setting_of_the_last_run_is_found_before_the_first_starts(
    tmp_path: Path,
) -> None:
    path = grid(tmp_path, "  - {name: large}\n  - {name: x, set: [model.hiden=3]}\n")
    with pytest.raises(AsrError, match="Did you mean: 'hidden'"):
        read_grid(path, [])


def test_overrides_carry_the_dense_network_and_the_matched_width(tmp_path: Path) -> None:
    runs = "  - {name: large}\n  - {name: sparse, dense: large, group: sparse}\n"
    plan = read_grid(grid(tmp_path, runs + "  - {name: small, match: sparse}\n"), ["seed=3"])
    words = overrides_of(plan, plan.run("sparse"))
    assert f"pruning.dense={tmp_path}/runs/g/large/model.asr" in words
    assert load(Run, plan.base, words).seed == 3

    folder = tmp_path / "runs/g/sparse"
    folder.mkdir(parents=True)
    record = plain_record("sparse", sparsity=0.9, nonzeros=200_000)
    record["settings"] = {"model": {"outputs": 29}}
    (folder / "record.json").write_text(json.dumps(record))
    settings = load(Run, plan.base, overrides_of(plan, plan.run("small")))
    size = count_parameters(replace(settings.model, outputs=29))
    assert abs(size - 200_000) <= 10_000


def test_the_networks_of_the_demo_do_not_wait_for_each_other() -> None:
    plan = read_grid(RECIPES / "demo.yaml", [])
    assert [(r.name, r.needs) for r in plan.runs] == [
        ("wide-sparse", set()), ("dense", set()), ("small", set())
    ]  # fmt: skip


def test_a_method_that_a_run_names_is_not_overridden_by_its_dense_network(tmp_path: Path) -> None:
    runs = "  - {name: large}\n  - {name: sparse, dense: large, set: [pruning.method=%s]}\n"
    with pytest.raises(AsrError, match=r"run 'sparse': pruning\.method=cubic .*no thresholds"):
        read_grid(grid(tmp_path, runs % "cubic, pruning.target=0.9"), [])
    plan = read_grid(grid(tmp_path, runs % "threshold_ramp"), [])
    assert settings_of(plan, "sparse").pruning.dense == "later"
    plan = read_grid(grid(tmp_path, "  - {name: large}\n  - {name: sparse, dense: large}\n"), [])
    assert settings_of(plan, "sparse").pruning.method == "threshold_ramp"


def test_settings_that_contradict_each_other_are_found_before_the_first_run(tmp_path: Path) -> None:
    words = "pruning.method=threshold_ramp, pruning.target=0.9, pruning.pattern=bank"
    path = grid(tmp_path, f"  - {{name: large}}\n  - {{name: x, set: [{words}]}}\n")
    with pytest.raises(AsrError, match=r"run 'x': pruning\.method=threshold_ramp .*banks of equal"):
        read_grid(path, [])


def test_a_student_waits_for_its_teacher_and_gets_its_file(tmp_path: Path) -> None:
    path = grid(tmp_path, "  - {name: student, teacher: large}\n  - {name: large}\n")
    with pytest.raises(AsrError, match="'student' needs 'large', which is not a run above it"):
        read_grid(path, [])
    path = grid(tmp_path, "  - {name: large}\n  - {name: student, teacher: large}\n")
    plan = read_grid(path, [])
    assert plan.run("student").needs == {"large"}
    words = overrides_of(plan, plan.run("student"))
    assert f"distillation.teacher={tmp_path}/runs/g/large/model.asr" in words


def test_a_run_that_continues_another_waits_for_it_and_gets_its_weights(tmp_path: Path) -> None:
    further = "  - {name: further, init: first, set: [pruning.method=fixed_mask]}\n"
    with pytest.raises(AsrError, match="'further' needs 'first', which is not a run above it"):
        read_grid(grid(tmp_path, further + "  - {name: first}\n"), [])
    plan = read_grid(grid(tmp_path, "  - {name: first}\n" + further), [])
    assert plan.run("further").needs == {"first"}
    settings = load(Run, plan.base, overrides_of(plan, plan.run("further")))
    assert settings.init == f"{tmp_path}/runs/g/first/model.asr"
    assert load(Run, plan.base, overrides_of(plan, plan.run("first"))).init == ""


def test_a_run_that_cannot_be_started_leaves_no_record_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = read_grid(grid(tmp_path, "  - {name: a}\n  - {name: b, dense: a}\n"), [])

    def refused(*_: object) -> None:
        raise AsrError("no dense network of these dimensions")

    monkeypatch.setattr("asr.train.grid._start", refused)
    for name in ("a", "b", "other"):
        (tmp_path / f"{name}.json").touch()
    assert run_grid(plan, tmp_path, Console(quiet=True)) == ["a", "b"]
    assert [path.name for path in tmp_path.glob("*.json")] == ["other.json"]
    assert records_of(plan, tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_failed_training_printed_last_is_printed_as_it_is(
    workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = replace(read_grid(grid(tmp_path, "  - {name: a}\n  - {name: b}\n"), []), workers=workers)
    failing = tmp_path / "training"
    failing.write_text("#!/bin/sh\necho '[/pytorch/pair.cc:5] [rank0]: closed' >&2; exit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    for name in ("a", "b"):
        (tmp_path / "runs" / "g" / name).mkdir(parents=True)
        (tmp_path / "runs" / "g" / name / "log.txt").write_text("of an earlier run\n" * workers)
    assert run_grid(plan, tmp_path / "results") == ["a", "b"]
    printed = capsys.readouterr().err
    assert printed.count("FAILED") == 2
    assert printed.count("[/pytorch/pair.cc:5] [rank0]: closed") == (2 if workers == 2 else 0)
    assert ("of an earlier run" in printed) == (workers == 2)


def test_a_run_folder_that_cannot_be_made_fails_that_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = read_grid(grid(tmp_path, "  - {name: a}\n"), [])
    (tmp_path / "runs").touch()
    assert run_grid(plan, tmp_path / "results") == ["a"]
    assert "runs" in capsys.readouterr().err


# Instead of trainings: a program that does nothing until SIGTERM.
STOPPED = """
import sys
from pathlib import Path
from asr.train.grid import read_grid, run_grid
plan = read_grid(Path(sys.argv[1]), [])
sys.executable = sys.argv[2]
run_grid(plan, Path(sys.argv[3]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_grid_that_gets_sigterm_stops_its_trainings(tmp_path: Path) -> None:
    path = grid(tmp_path, "".join(f"  - {{name: {name}}}\n" for name in ("a", "b", "c")))
    training, pids = tmp_path / "training", tmp_path / "pids"
    pids.mkdir()
    training.write_text(
        f'#!/bin/sh\ntrap "touch {tmp_path}/stopped.$$; exit 1" TERM\ntouch {pids}/$$\n'
        "while :; do sleep 0.1; done\n"
    )
    training.chmod(0o755)
    command = [sys.executable, "-c", STOPPED, str(path), str(training), str(tmp_path / "results")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    started: list[int] = []
    try:
        for _ in range(600):
            started = [int(p.name) for p in pids.iterdir()]
            if len(started) == 2 or process.poll() is not None:
                break
            time.sleep(0.1)
        assert len(started) == 2, "two at a time"
        process.terminate()
        assert "run the same command to continue" in process.communicate(timeout=60)[1]
        assert process.returncode == 128 + signal.SIGTERM
        assert {int(p.name) for p in pids.iterdir()} == set(started), "no other was started"
        for pid in started:
            assert (tmp_path / f"stopped.{pid}").exists()
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    finally:
        process.kill()
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_the_methods_that_are_compared_have_one_sparsity_and_three_seeds() -> None:
    plan = read_grid(RECIPES / "methods.yaml", [])
    seeds: dict[str, set[int]] = {}
    for run in plan.runs:
        settings = load(Run, plan.base, overrides_of(plan, replace(run, match="")))
        seeds.setdefault(run.label, set()).add(settings.seed)
        assert settings.pruning.target in (0.0, 0.90625)
        assert bool(settings.pruning.target) == (
            settings.pruning.method != "none" and not run.dense
        )
    assert sorted(len(found) for found in seeds.values()).count(3) == 9
