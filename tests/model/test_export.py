"""An exported network computes the same in ONNX Runtime; a wrong one is not written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import SMALL, VARIANTS, network, save
from typer.testing import CliRunner

from asr.cli.main import app
from asr.errors import AsrError
from asr.model.file import load_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from dataclasses import replace  # noqa: E402

from asr.model import export as module  # noqa: E402
from asr.model.export import export  # noqa: E402


def run(path: Path, features: np.ndarray, lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {"features": features, "lengths": np.array(lengths, np.int64)}
    return session.run(["log_probs", "output_lengths"], given)


@pytest.mark.parametrize("variant", [*VARIANTS, {"cell": "rnn_tanh"}, {"cell": "gru",
    "shared_input": True, "combine": "concat"}], ids=str)  # fmt: skip
def test_every_kind_of_network_is_the_same_in_onnx_runtime(tmp_path, variant):
    path = save(tmp_path / "model.asr", network(replace(SMALL, **variant)))
    report = export(path, tmp_path / "model.onnx")
    assert report.error < 2e-5
    assert report.bytes == (tmp_path / "model.onnx").stat().st_size
    features = np.random.default_rng(0).normal(0, 1, (4, 61, 80)).astype(np.float32)
    lengths = [61, 7, 30, 60]
    found, frames = run(tmp_path / "model.onnx", features, lengths)
    with torch.inference_mode():
        expected, expected_frames = load_model(path).model(
            torch.tensor(features), torch.tensor(lengths)
        )
    assert frames.tolist() == expected_frames.tolist()
    assert found == pytest.approx(expected.numpy(), abs=2e-5)


def test_frames_beyond_a_length_change_nothing(tmp_path):
    export(save(tmp_path / "model.asr", network()), tmp_path / "model.onnx")
    features = np.random.default_rng(0).normal(0, 1, (2, 50, 80)).astype(np.float32)
    found, _ = run(tmp_path / "model.onnx", features, [50, 21])
    features[1, 21:] = 1e3
    again, frames = run(tmp_path / "model.onnx", features, [50, 21])
    assert np.array_equal(found, again)
    assert not found[1, frames[1] :].any()
    alone, _ = run(tmp_path / "model.onnx", features[1:, :21], [21])
    assert alone[0] == pytest.approx(found[1, : frames[1]], abs=1e-5)


def test_the_file_holds_tokenizer_frontend_and_dimensions(tmp_path, trained):
    report = export(trained, tmp_path / "model.onnx")
    assert report.error < 1e-4
    model = onnx.load(tmp_path / "model.onnx")
    props = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert props["tokenizer"]["kind"] == "characters"
    assert props["frontend"]["sample_rate"] == 16000
    assert props["model"]["cell"] == "gru"
    weight = onnx.numpy_helper.to_array(next(
        tensor for tensor in model.graph.initializer if list(tensor.dims) == [2, 384, 128]
    ))  # fmt: skip
    assert (weight == 0).mean() == pytest.approx(0.9, abs=0.05)


def test_the_command_prints_the_error_and_a_note_on_zeros(tmp_path):
    path = save(tmp_path / "model.asr", network())
    result = CliRunner().invoke(app, ["export", str(path), "-o", str(tmp_path / "model.onnx")])
    assert result.exit_code == 0
    assert f"largest error in ONNX Runtime {onnxruntime.__version__}: " in result.output
    assert "multiplies zeros like any other number" in result.output


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch):
    path = save(tmp_path / "model.asr", network())
    monkeypatch.setattr("asr.model.fold.NORM_EPSILON", 0.5)
    with pytest.raises(AsrError, match=r"not written: ONNX Runtime .* differs by"):
        export(path, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.asr"]
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(AsrError, match="cannot be written"):
        export(path, tmp_path / "file" / "model.onnx")
    assert module.TOLERANCE == 1e-3


def test_a_missing_package_is_named_with_its_extra(tmp_path):
    path = save(tmp_path / "model.asr", network())
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from asr.cli.main import main\n"
        f"sys.argv = ['asr', 'export', {str(path)!r}, '-o', 'model.onnx']\nmain()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 2
    assert "this needs the package onnx: pip install '.[onnx]' in the checkout" in result.stderr
