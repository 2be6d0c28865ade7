"""The dense alternatives compute what torch computes in fp32, or are absent with a reason."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_scripts import FOLDER
from lib.dense_layer import DenseLayer
from lib.sparse import MAIN, sparse_layer
from lib.weights import keep, prune_layer, random_layer, random_tensors, sparsity_of

from asr.benchmark.dense import NAMES, Computation, DenseAlternatives, DenseNetwork
from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.file import read_model, save_model
from asr.model.fold import fold_tensors
from asr.model.torch_network import DeepSpeech, from_arrays
from asr.sparse.csr import BLOCK, pattern_of
from asr.sparse.kernels import CellKind
from asr.text.tokenizer import CharacterTokenizer

assert FOLDER.is_dir()
TOLERANCE = {"fp32": 1e-5, "bf16": 0.05, "int8": 0.2}


@pytest.fixture(autouse=True)
def threads():
    """Restore torch's number of threads, which the alternatives set."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def check(found: dict, absent: dict, expected: np.ndarray) -> None:
    """Every alternative is present and right, or absent with a reason."""
    assert {*found, *absent} == set(NAMES)
    assert "torch fp32" in found
    for name, computation in found.items():
        output = computation.output()
        assert output.shape == expected.shape, name
        assert np.abs(output - expected).max() < TOLERANCE[name.split()[-1]], name
        computation.run()
    for name, reason in absent.items():
        assert "not installed" in reason or "LSTM" in reason or "no plain RNN" in reason, name


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("directions", [1, 2])
def test_every_dense_layer_computes_the_same(cell: CellKind, directions: int) -> None:
    layer = random_layer(cell, 24, 32, directions)
    x = np.random.default_rng(0).standard_normal((3, 7, 24), np.float32)
    found = DenseLayer(layer, 1).alternatives(x)
    module = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}.get(cell)
    extra = {} if module else {"nonlinearity": cell.removeprefix("rnn_")}
    dense = (module or torch.nn.RNN)(
        24, 32, bidirectional=directions == 2, batch_first=True, **extra
    )
    with torch.no_grad():
        for weights, suffix in zip(layer.cells, ("", "_reverse"), strict=False):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(dense, f"{name}_l0{suffix}").copy_(torch.from_numpy(getattr(weights, name)))
        expected = dense(torch.from_numpy(x))[0].numpy()
    check(found.found, found.absent, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cell": "lstm", "combine": "concat"},
        {"bidirectional": False, "cell": "rnn_tanh"},
        {"shared_input": True},
    ],
)
def test_a_folded_network_computes_the_same_in_every_runtime(changes: dict, tmp_path: Path) -> None:
    torch.manual_seed(3)
    settings = {"hidden": 16, "layers": 2, "conv_channels": [4, 4], **changes}
    model = DeepSpeech(Model(**settings)).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "norm" in name and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    save_model(tmp_path / "model.asr", model, CharacterTokenizer(), Frontend())
    tensors = read_model(tmp_path / "model.asr").dense()
    made, dimensions = fold_tensors(tensors, model.dimensions)
    assert not dimensions.batch_norm
    features = np.random.default_rng(1).standard_normal((2, 41, 80), np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(features), torch.tensor([41, 41]))[0].numpy()
    found = DenseNetwork(made, dimensions, 1).alternatives(features)
    check(found.found, found.absent, expected)


def test_a_matrix_of_both_directions_may_be_stored_once() -> None:
    tensors = DeepSpeech(Model(hidden=16, layers=1, shared_input=True)).state_dict()
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    both, dimensions = fold_tensors(arrays, Model(hidden=16, layers=1, shared_input=True))
    del arrays["rnn.0.backward_cell.weight_ih_l0"]
    once, _ = fold_tensors(arrays, dataclasses.replace(dimensions, batch_norm=True))
    assert set(once) == set(both)
    assert all(np.array_equal(once[name], both[name]) for name in both)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "asr.model.onnx", raising=False)
    monkeypatch.delattr(torch.ao.quantization, "quantize_dynamic")
    layer = random_layer("lstm", 8, 8)
    found = DenseLayer(layer, 1).alternatives(np.zeros((1, 3, 8), np.float32))
    assert set(found.found) == {"torch fp32", "torch bf16"}
    assert "has no dynamic int8" in found.absent["torch int8"]
    for name in ("ONNX Runtime fp32", "ONNX Runtime int8", "OpenVINO bf16"):
        assert "not installed" in found.absent[name]


def test_an_alternative_that_fails_is_absent_with_its_reason_and_the_others_run() -> None:
    def fail() -> None:
        raise RuntimeError("Could not create a primitive descriptor\nsource: onednn.cpp:12")

    found = DenseAlternatives()
    found.offer("OpenVINO bf16", lambda: Computation(fail, lambda: np.zeros(1)))
    found.offer("torch fp32", lambda: Computation(lambda: None, lambda: np.zeros(1)))
    assert list(found.found) == ["torch fp32"]
    assert found.absent == {
        "OpenVINO bf16": "it failed with RuntimeError: Could not create a primitive descriptor"
    }


def test_random_masks_have_the_pattern_and_the_sparsity_that_were_asked_for() -> None:
    weights = np.random.default_rng(0).standard_normal((96, 160), np.float32)
    bank = keep(weights, "bank", 0.90625)
    assert (bank.reshape(96, 5, 32).sum(axis=2) == 3).all()
    block = keep(weights, "block", 0.9)
    assert (block.reshape(6, BLOCK, 160).all(axis=1) == block.reshape(6, BLOCK, 160).any(1)).all()
    for pattern in ("element", "bank", "block"):
        kept = keep(weights, pattern, 0.90625)
        assert pattern_of(kept) == pattern
        assert sparsity_of([kept]) == pytest.approx(0.90625, abs=0.002)
    # The largest remain: in each bank, of all blocks by their norms, of all elements.
    element = keep(weights, "element", 0.9)
    assert np.abs(weights[element]).min() > np.abs(weights[~element]).max()
    with pytest.raises(AsrError, match=r"sparsity=1\.0: from 0 to below 1"):
        keep(weights, "element", 1.0)


def test_a_sparse_layer_computes_what_torch_computes_with_the_same_zeros() -> None:
    x = np.random.default_rng(0).standard_normal((2, 9, 64), np.float32)
    for variant in MAIN:
        weights = prune_layer(random_layer("gru", 64, 64), variant.pattern, 0.875)
        made = sparse_layer(weights, variant)
        dense = DenseLayer(weights, 1).alternatives(x, ("torch fp32",)).found["torch fp32"]
        assert np.abs(made.layer(x)[0] - dense.output()).max() < 5e-3
        about = made.describe()
        assert about["pattern"] == variant.pattern
        assert about["sparsity"] == pytest.approx(0.875, abs=0.01)
        assert about["kept"] == sum(
            np.count_nonzero(m) for c in weights.cells for m in (c.weight_ih, c.weight_hh)
        )
        assert about["bytes_per_kept"] > 1


def test_random_networks_fit_their_dimensions_and_no_others() -> None:
    dimensions = Model(hidden=16, layers=2, conv_channels=[4, 4], batch_norm=False)
    tensors = random_tensors(dimensions, "element", 0.9)
    from_arrays(tensors, dimensions)  # refuses tensors that do not fit
    matrices = [v for n, v in tensors.items() if n.startswith("rnn") and v.ndim == 2]
    assert sparsity_of(matrices) == pytest.approx(0.9, abs=0.01)
    with pytest.raises(AsrError, match="without batch_norm"):
        random_tensors(dataclasses.replace(dimensions, batch_norm=True))


def test_a_bug_of_ours_is_raised_and_hides_no_alternative() -> None:
    def broken() -> Computation:
        raise TypeError("unexpected keyword argument")

    with pytest.raises(TypeError, match="unexpected keyword"):
        DenseAlternatives().offer("torch fp32", broken)
