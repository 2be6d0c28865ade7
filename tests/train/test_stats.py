"""`asr prune stats` on each kind of file, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run_asr
from torch import nn

from asr.errors import AsrError
from asr.model.info import describe
from asr.sparse import write
from asr.train.stats import read_weights, stats_to


@pytest.fixture
def model() -> nn.Module:
    net = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].weight[:3] = 0.0
    return net


def test_a_packed_model_is_counted_as_info_counts_it(trained: Path) -> None:
    table = stats_to(trained)
    parameters = describe(trained).parameters
    last = table.splitlines()[-1].split()
    assert last[:2] == ["whole", "model"]
    assert last[2:4] == [f"{parameters.elements:,}", f"{parameters.nonzeros:,}"]
    assert "rnn.2.backward_cell.weight_hh_l0  recurrent" in table
    assert "(reset " in table


def test_files_of_other_models_and_checkpoints_of_torch_count_alike(
    model: nn.Module, tmp_path: Path
) -> None:
    state = model.state_dict()
    torch.save(state, tmp_path / "state.pt")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "lightning.ckpt")
    write(tmp_path / "packed", {n: t.numpy() for n, t in state.items()}, {})
    tables = {stats_to(tmp_path / name) for name in ("state.pt", "lightning.ckpt", "packed")}
    (table,) = tables
    assert table.splitlines()[1].split() == [
        "0.weight", "linear", "32", "8", "75.00%", "(3", "empty", "rows)"
    ]  # fmt: skip


def test_tied_tensors_of_a_file_count_once(tmp_path: Path) -> None:
    array = np.eye(4, dtype=np.float32)
    write(tmp_path / "tied", {"a.weight": array, "b.weight": array}, {})
    weights = read_weights(tmp_path / "tied")
    assert weights["a.weight"] is weights["b.weight"]
    assert stats_to(tmp_path / "tied").splitlines()[-1].split()[2:4] == ["16", "4"]


def test_the_command_prints_the_table_and_draws(trained: Path, tmp_path: Path) -> None:
    run = run_asr(
        "prune", "stats", trained, "--plot", tmp_path / "new" / "p.png",
        "--tensors", "rnn.0*", "--tensors", "output*",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 14
    assert (tmp_path / "new" / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "options", "fragment"),
    [
        ("missing", {}, r"missing"),
        ("words.txt", {}, r"words\.txt: .*model file"),
        ("list.pt", {}, r"list\.pt: holds no weights by name"),
        ("nested.pt", {}, r"nested\.pt: holds no tensor at its top level"),
        ("unsafe.pt", {}, r"unsafe\.pt: not a checkpoint that can be read safely"),
        ("vector.pt", {}, r"vector\.pt: no prunable weight"),
        ("good.pt", {"patterns": ["x*"]}, r"good\.pt: no prunable weight matches 'x\*'; there are"),
        ("good.pt", {"plot": Path("p.docx")}, r"p\.docx: a picture's name ends with \.png"),
    ],
)
def test_what_cannot_be_counted_is_refused(
    tmp_path: Path, name: str, options: dict[str, object], fragment: str
) -> None:
    (tmp_path / "words.txt").write_text("no model")
    torch.save([torch.ones(2, 2)], tmp_path / "list.pt")
    torch.save({"model": {"weight": torch.ones(2, 2)}}, tmp_path / "nested.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "unsafe.pt")
    torch.save({"bias": torch.ones(2)}, tmp_path / "vector.pt")
    torch.save({"weight": torch.eye(2)}, tmp_path / "good.pt")
    with pytest.raises(AsrError, match=fragment):
        stats_to(tmp_path / name, **options)  # type: ignore[arg-type]
