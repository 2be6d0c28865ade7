"""`asr/sparse` works in another project with only two small modules and `setup.py` beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asr.sparse.kernels import library

ROOT = Path(__file__).resolve().parents[2]
COMPILER = shutil.which(os.environ.get("CC", "cc"))

ARRAYS = """
import sys
import numpy as np
from asr.errors import AsrError
from asr.sparse import CsrMatrix, read_csr, write
from asr.sparse.csr import from_dense
from asr.sparse.kernels import library, prepare

dense = np.random.default_rng(0).normal(0, 1, (96, 128)).astype(np.float32)
dense[np.abs(dense) < 1.6] = 0
write("matrix.asr", {"weight": dense}, {"author": "me"})
tensors, metadata = read_csr("matrix.asr")
assert metadata == {"author": "me"}
assert isinstance(tensors["weight"], CsrMatrix)
matrix = prepare(tensors["weight"], exact=True)
x = np.ones((3, 128), np.float32)
assert np.allclose(matrix(x), x @ dense.T, atol=1e-3)
assert "torch" not in sys.modules
"""
LAYERS = """
import torch
from torch import nn
from asr.sparse import load_into, save, sparsify

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(64, 96)

    def forward(self, x):
        return self.gru(x)[0]

torch.manual_seed(0)
network = Network().eval()
for name, tensor in network.gru.named_parameters():
    if name.startswith("weight"):
        tensor.data[tensor.abs() < 0.09] = 0
x = torch.randn(7, 2, 64)
with torch.inference_mode():
    expected = network(x)
    save(network, "network.asr", "fp32")
    load_into(network, "network.asr")
    report = sparsify(network, exact=True, kernel=None if library() else "numpy")
    assert [layer.name for layer in report.replaced] == ["gru"], report.table()
    assert torch.allclose(network(x), expected, atol=1e-4)
"""
ORIGIN = """
import os
origin = {name: m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "asr"}
assert all(path.startswith(os.getcwd()) for path in origin.values()), origin
print(matrix.kernel)
"""


def run(folder: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + ORIGIN],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Another project that contains the folder, without a compiled library."""
    shutil.copytree(
        ROOT / "asr/sparse",
        tmp_path / "asr/sparse",
        ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"),
    )
    for name in ("errors.py", "files.py"):
        shutil.copy(ROOT / "asr" / name, tmp_path / "asr")
    (tmp_path / "asr/__init__.py").touch()
    return tmp_path


def test_without_a_library_numpy_saves_loads_and_multiplies(elsewhere):
    assert run(elsewhere, ARRAYS + LAYERS) == "numpy"


@pytest.mark.skipif(library() is None, reason="the C library was not built")
def test_with_a_copied_library_the_c_kernels_multiply(elsewhere):
    for path in (ROOT / "asr/sparse/kernels").glob("_sparse.*"):
        shutil.copy(path, elsewhere / "asr/sparse/kernels")
    assert run(elsewhere, ARRAYS + LAYERS) != "numpy"
    assert run(elsewhere, ARRAYS) != "numpy"


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no compiler")
def test_the_same_setup_builds_the_library_outside_the_project(elsewhere):
    pytest.importorskip("setuptools")
    shutil.copy(ROOT / "setup.py", elsewhere)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=elsewhere, check=True, capture_output=True)
    assert run(elsewhere, ARRAYS + LAYERS) != "numpy"
