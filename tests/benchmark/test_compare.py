"""`asr benchmark FILE` measures a model file, and its verdict says if sparse is slower."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.benchmark import compare
from asr.benchmark.compare import EXACT, OWN_DENSE, SPARSE, BenchmarkResult, benchmark
from asr.benchmark.timing import Timing, TimingRun
from asr.cli import main as cli
from asr.errors import AsrError
from asr.sparse import read, write


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch):
    """Short turns; torch keeps its threads."""
    monkeypatch.setattr(compare, "SLOT_SECONDS", 0.01)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def result(
    seconds: dict[str, float], sparsity: float = 0.9, other_load: float = 0.0
) -> BenchmarkResult:
    timings = {name: Timing(s, s, s, 3, s) for name, s in seconds.items()}
    zeros = dict.fromkeys(seconds, 0.0)
    return BenchmarkResult(
        path=Path("x/my.asr"), network="3 x gru 128", sparsity=sparsity, seconds=10, utterances=1,
        threads=2, measured=TimingRun(timings, other_load), errors=zeros, other_tokens=zeros,
        kernels={SPARSE: "perm16"}, absent={"OpenVINO bf16": "package openvino is not installed"},
    )  # fmt: skip


def test_the_trained_network_is_measured_in_every_way_there_is(trained: Path) -> None:
    before = torch.get_num_threads()
    found = benchmark(trained, seconds=0.5, threads=before + 1)
    assert torch.get_num_threads() == before
    assert {"torch fp32", OWN_DENSE, SPARSE, EXACT} <= set(found.measured.timings)
    assert found.sparsity == pytest.approx(0.91, abs=0.02)
    assert found.errors["torch fp32"] == 0
    assert found.errors[EXACT] < 1e-3
    assert found.errors[OWN_DENSE] < 0.05  # convolutions in integers
    assert found.errors[SPARSE] < 0.5
    assert found.other_tokens[SPARSE] < 0.2
    for name, timing in found.measured.timings.items():
        assert f"\n{name} " in found.table()
        assert timing.seconds > 0


def test_the_command_prints_the_verdict(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recording = tmp_path / "speech.wav"
    soundfile.write(recording, 0.1 * np.random.default_rng(1).standard_normal(8000), 16000)
    words = ["benchmark", str(trained), "--recording", str(recording), "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["asr", *words])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert not exit_.value.code
    out = capsys.readouterr().out
    assert "spoken.asr: 3 x gru 128, 90.9 % of its recurrent weights zero" in out
    assert "1 x 0.48 s of audio" in out
    assert "Sparse is" in out or "Sparse LOSES here" in out


def test_the_verdict_names_the_faster_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.benchmark.compare.library", lambda: object())
    wins = result({"torch fp32": 0.5, "torch int8": 0.1, SPARSE: 0.04}).table()
    assert "Sparse is 2.50 times as fast as torch int8 here." in wins
    assert "absent: OpenVINO bf16: package openvino is not installed" in wins
    assert "perm16" in wins
    loses = result({"torch fp32": 0.5, "torch int8": 0.1, SPARSE: 0.2}, sparsity=0.5).table()
    assert "Sparse LOSES here: torch int8 is 2.00 times as fast." in loses
    assert "Below about 80 % zeros" in loses


def test_a_busy_machine_and_a_missing_runtime_are_named() -> None:
    table = result({OWN_DENSE: 0.3, SPARSE: 0.1}, other_load=0.4).table()
    assert "Other programs used up to 40 % of a core" in table
    assert "our own dense kernel, as no other runtime is installed" in table


def test_without_torch_and_runtimes_our_own_dense_kernels_are_measured(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "onnx", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "asr.model.onnx", raising=False)
    found = benchmark(trained, seconds=0.3, threads=1)
    assert list(found.measured.timings) == [OWN_DENSE, SPARSE, EXACT]
    assert found.fastest_dense[0] == OWN_DENSE
    assert found.absent["torch int8"] == "package torch is not installed"


def test_a_runtime_that_fails_when_it_runs_is_absent_with_the_reason(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bind(rows: np.ndarray):
        def run() -> np.ndarray:
            raise RuntimeError("bf16 is not supported on this machine")

        return run

    monkeypatch.setattr("asr.benchmark.dense.make_session", lambda *_: bind)
    monkeypatch.setattr("asr.model.onnx.build_network", lambda *_, **__: None)
    found = benchmark(trained, seconds=0.3, threads=1)
    reason = "it failed with RuntimeError: bf16 is not supported on this machine"
    assert found.absent["OpenVINO bf16"] == reason
    assert f"absent: OpenVINO bf16: {reason}" in found.table()
    assert "torch fp32" in found.measured.timings


def test_impossible_numbers_and_too_short_recordings_are_refused(
    trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(AsrError, match=r"seconds=0 \(0\.1 to 120\)"):
        benchmark(trained, seconds=0)
    soundfile.write(tmp_path / "x.wav", np.zeros(10), 16000)
    with pytest.raises(AsrError, match="too short for a single frame"):
        benchmark(trained, recording=tmp_path / "x.wav")


def test_a_file_that_is_not_a_whole_model_is_refused_by_name(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "else.asr"
    write(path, {"weight": np.ones((4, 4), np.float32)}, {})
    with pytest.raises(AsrError, match=r"else\.asr: "):
        benchmark(path)
    tensors, metadata = read(trained)
    del tensors["rnn.1.forward_cell.weight_hh_l0"]
    write(path, tensors, metadata)
    with pytest.raises(
        AsrError, match=r"else\.asr: .*'rnn\.1\.forward_cell\.weight_hh_l0' is nothing"
    ):
        benchmark(path)


def test_a_loss_without_the_c_library_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "library", lambda: None)
    lost = result({OWN_DENSE: 0.1, SPARSE: 0.2})
    assert "The C library of the kernels is not built" in lost.table()
    assert dataclasses.replace(lost).ratio == 0.5
