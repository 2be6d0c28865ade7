"""Our networks give the same outputs after `sparsify`."""

import copy
import pickle

import pytest
import torch
from pruned_modules import pruned
from pruned_networks import VARIANTS, network

from asr.model.file import load_model
from asr.model.torch_layers import RecurrentLayer
from asr.model.torch_network import DeepSpeech
from asr.model.torch_sparse import SparseRecurrentLayer
from asr.sparse import convert, load_into, save, sparsify
from asr.sparse.kernels import library

KERNEL = None if library() else "numpy"


@torch.inference_mode()
def log_probs(model: DeepSpeech) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return model(torch.randn(3, 80, 80, generator=generator), torch.tensor([80, 33, 57]))[0]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_kind_of_network_is_the_same_without_its_zeros(variant, tmp_path):
    model = network(variant)
    sparse = copy.deepcopy(model)
    report = sparsify(sparse, exact=True, min_elements=0, kernel=KERNEL)
    assert [layer.name for layer in report.replaced] == ["rnn.0", "rnn.1"]
    assert {"conv.0.convolution", "output.linear"} <= report.kept_dense.keys()
    assert (log_probs(sparse) - log_probs(model)).abs().max() < 2e-5
    assert list(sparse.state_dict()) == list(model.state_dict())

    other = DeepSpeech(model.dimensions).eval()
    other.load_state_dict(sparse.state_dict())
    assert torch.equal(log_probs(other), log_probs(model))
    save(model, tmp_path / "a.asr", "fp32")
    before = log_probs(sparse)
    sparse.load_state_dict(DeepSpeech(model.dimensions).state_dict())
    assert (log_probs(sparse) - before).abs().max() > 0.01
    load_into(sparse, tmp_path / "a.asr")
    assert torch.equal(log_probs(sparse), before)


def test_a_shared_input_matrix_is_prepared_once():
    model = network({"shared_input": True})
    sparsify(model, min_elements=0, kernel=KERNEL)
    layer = model.rnn[1]
    assert isinstance(layer, SparseRecurrentLayer)

    def weight(cell: object) -> object:
        return dict(cell.weights())["weight_ih_l0"]

    assert weight(layer.forward_cell) is weight(layer.backward_cell)
    state = {k: v for k, v in model.state_dict().items() if "backward_cell.weight_ih" not in k}
    model.load_state_dict(state)
    assert weight(layer.forward_cell) is weight(layer.backward_cell)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_network_survives_pickling(sparse):
    model = network({"shared_input": True})
    if sparse:
        sparsify(model, min_elements=0, kernel=KERNEL)
    other = pickle.loads(pickle.dumps(model))
    assert torch.equal(log_probs(other), log_probs(model))
    state = {k: v for k, v in model.state_dict().items() if "backward_cell.weight_ih" not in k}
    other.load_state_dict(state)
    assert torch.equal(log_probs(other), log_probs(model))


@torch.inference_mode()
def test_a_stream_of_a_sparse_network_is_that_of_the_dense_one():
    model = network({"bidirectional": False})
    sparse = copy.deepcopy(model)
    sparsify(sparse, exact=True, min_elements=0, kernel=KERNEL)
    frames = torch.randn(12, model.dimensions.conv_features)
    states = (None, None)
    for part in (frames[:5], frames[5:]):
        found = [net.recur(part, state) for net, state in zip((model, sparse), states, strict=True)]
        states = tuple(state for _, state in found)
        assert (found[0][0] - found[1][0]).abs().max() < 2e-5


def test_a_weight_of_two_sparse_layers_is_stored_once(tmp_path):
    layer = pruned(torch.nn.Linear(64, 64))
    model = torch.nn.Sequential(layer, layer)
    sparsify(model, min_elements=0, kernel=KERNEL)
    header = save(model, tmp_path / "a.asr")
    assert [entry.same_as for entry in header.tensors if "weight" in entry.name] == ["", "0.weight"]


def test_cells_with_hooks_and_foreign_cells_stay_dense():
    model = network({})
    model.rnn[0].backward_cell.register_forward_hook(lambda *_: None)

    class Own(torch.nn.GRU):
        pass

    model.rnn[1].forward_cell = pruned(Own(16, 16, batch_first=True))
    report = sparsify(model, min_elements=0, kernel="csr" if library() else "numpy")
    assert "hooks, which would be lost" in report.kept_dense["rnn.0"]
    assert "not plain nn.GRU" in report.kept_dense["rnn.1"]
    assert isinstance(model.rnn[0], RecurrentLayer)


def test_our_layer_is_known_to_asr_sparse_only_by_registration():
    assert RecurrentLayer in convert._FACTORIES


def test_a_trained_network_has_the_same_log_probabilities(trained):
    model = load_model(trained).model
    sparse = copy.deepcopy(model)
    report = sparsify(sparse, exact=True, kernel=KERNEL)
    assert len(report.replaced) == model.dimensions.layers
    assert 0.85 < report.replaced[0].sparsity < 0.95
    expected = log_probs(model)
    assert (log_probs(sparse) - expected).abs().max() < 1e-3
    rounded = copy.deepcopy(model)
    sparsify(rounded, kernel=KERNEL)
    assert (log_probs(rounded).exp() - expected.exp()).abs().max() < 0.05
