"""The examples for other people's networks run as they are written."""

import runpy
from pathlib import Path

import pytest
from paths import ROOT

EXAMPLES = ROOT / "recipes" / "examples"


def test_a_gru_is_pruned_in_a_plain_loop_and_written_small(tmp_path: Path) -> None:
    figures = runpy.run_path(str(EXAMPLES / "prune_gru.py"))["main"](folder=tmp_path)
    assert figures["sparsity"] == pytest.approx(0.9, abs=0.005)
    assert figures["dense error"] < 0.01, "always predicting 0 gives an error of 0.5"
    assert figures["pruned error"] < 0.02
    assert figures["read back error"] == figures["pruned error"]
    assert figures["packed bytes"] == (tmp_path / "predictor.asr").stat().st_size
    assert figures["packed bytes"] < figures["dense bytes"] / 5


def test_a_network_of_torchaudio_is_pruned_in_lightning_and_still_recognises(
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = runpy.run_path(str(EXAMPLES / "prune_torchaudio.py"))
    error, sparsity = example["main"]()
    assert sparsity == pytest.approx(0.9, abs=0.005)
    assert error < 0.1
    printed = capsys.readouterr().out
    assert "bi_rnn.weight_hh_l0_reverse  recurrent" in printed
    assert "out.weight" not in printed


@pytest.mark.parametrize("name", ["prune_gru.py", "prune_torchaudio.py"])
def test_examples_import_only_pruning_and_sparse(name: str) -> None:
    lines = (EXAMPLES / name).read_text().splitlines()
    ours = [line for line in lines if line.startswith(("import asr", "from asr"))]
    assert ours
    assert all(line.startswith(("from asr.pruning", "from asr import sparse")) for line in ours)
