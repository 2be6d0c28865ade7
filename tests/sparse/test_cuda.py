"""The layers for a GPU equal the dense layers; tested on the CPU where there is no GPU."""

import copy
import pickle

import pytest
import torch
from pruned_modules import KINDS, pruned, states
from pruned_networks import VARIANTS, network
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from asr.errors import AsrError
from asr.sparse import SparseLinear, load_into, save, sparsify
from asr.sparse.convert import TORCH_SPARSE
from asr.sparse.cuda import CsrGRU, CsrLinear, CsrLSTM, CsrRNN
from asr.sparse.weight import Options

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TWINS = {nn.GRU: CsrGRU, nn.LSTM: CsrLSTM, nn.RNN: CsrRNN}


@pytest.fixture(autouse=True)
def inference():
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        yield


def assert_near(found: object, expected: object, tolerance: float = 5e-6) -> None:
    if isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other, tolerance)
        return
    assert found.shape == expected.shape
    assert torch.allclose(found.cpu(), expected.cpu(), rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("device", DEVICES)
def test_linear_equals_the_dense_layer(device):
    dense = pruned(nn.Linear(70, 48))
    sparse = CsrLinear.from_dense(dense, Options(device=device))
    for shape in [(70,), (3, 70), (2, 5, 70)]:
        x = torch.randn(shape)
        assert_near(sparse(x.to(device)), dense(x))
    assert torch.equal(sparse.state_dict()["weight"].cpu(), dense.weight)
    assert "torch.sparse" in repr(sparse)
    again = pickle.loads(pickle.dumps(sparse))
    assert_near(again(x.to(device)), dense(x))
    assert dict(sparse.weights())["weight"].bytes < 4 * dense.weight.numel()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("kind", "extra"), KINDS, ids=str)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers_equal_the_dense_layers(device, kind, extra, bidirectional):
    dense = pruned(kind(23, 16, 2, bidirectional=bidirectional, bias=kind is not nn.LSTM, **extra))
    sparse = TWINS[kind].from_dense(dense, Options(device=device))
    x, hx = torch.randn(9, 4, 23), states(dense, 4)
    moved = tuple(h.to(device) for h in hx) if isinstance(hx, tuple) else hx.to(device)
    assert_near(sparse(x.to(device), moved), dense(x, hx))
    assert_near(sparse(x[:, 0].to(device)), dense(x[:, 0]))
    lengths = torch.tensor([4, 9, 1, 6])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    expected, end = dense(packed, hx)
    found, found_end = sparse(packed.to(device), moved)
    assert_near(found.data, expected.data)
    assert_near(found_end, end)
    with pytest.raises(AsrError, match="a length is outside the 9 frames"):
        sparse(x.to(device), lengths=torch.tensor([10, 1, 1, 1]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_our_network_runs_on_the_device(device, variant, tmp_path):
    model = network(variant)
    sparse = copy.deepcopy(model)
    report = sparsify(sparse, min_elements=0, kernel=TORCH_SPARSE, device=device)
    assert [layer.name for layer in report.replaced] == ["rnn.0", "rnn.1"]
    assert {layer.kernels for layer in report.replaced} == {(TORCH_SPARSE,)}
    x, lengths = torch.randn(3, 80, 80), torch.tensor([80, 33, 57])
    expected, _ = model(x, lengths)
    assert_near(sparse(x.to(device), lengths.to(device))[0], expected, 2e-5)
    save(sparse, tmp_path / "a.asr", "fp32")
    load_into(sparse, tmp_path / "a.asr")
    assert_near(sparse(x.to(device), lengths.to(device))[0], expected, 2e-5)


def test_convolutions_stay_dense_on_the_device():
    model = nn.ModuleList([pruned(nn.Conv1d(64, 64, 5)), pruned(nn.Linear(200, 160))])
    report = sparsify(model, kernel=TORCH_SPARSE)
    assert report.kept_dense == {"0": "torch.sparse is not faster for it"}
    assert [layer.name for layer in report.replaced] == ["1"]


def test_arguments_that_contradict_each_other_are_refused():
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(AsrError, match="kernel 'perm16' runs on the CPU; on cuda there is"):
        sparsify(model, kernel="perm16", device="cuda")
    with pytest.raises(AsrError, match=r"values='int8': torch\.sparse multiplies fp32"):
        sparsify(model, values="int8", device="cuda")


def test_gradients_and_other_types_and_devices_are_refused():
    layer = CsrLinear(20, 48, options=Options(kernel=TORCH_SPARSE))
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.zeros(1, 20, requires_grad=True)
        with pytest.raises(AsrError, match="CsrLinear has no gradients"):
            layer(x)
    with pytest.raises(AsrError, match=r"runs on the CPU in float32, its input is torch.float64"):
        layer(torch.zeros(1, 20, dtype=torch.float64))
    for_cpu = SparseLinear(20, 48)
    with pytest.raises(AsrError, match=r"sparsify\(model, device='cuda'\)"):
        for_cpu(torch.zeros(1, 20, device="meta"))
