"""A sparse layer refuses to be traced or exported: a graph would hold its output as a constant."""

import io

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from asr.errors import AsrError
from asr.sparse import sparsify

RECORDERS = {
    "trace": torch.jit.trace,
    "legacy ONNX export": lambda model, x: torch.onnx.export(
        model, (x,), io.BytesIO(), dynamo=False
    ),
    "make_fx": lambda model, x: make_fx(model)(x),
    "torch.export": lambda model, x: torch.export.export(model, (x,)),
}


class First(nn.Module):
    """The outputs of a recurrent layer without its state."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


MODELS = {
    "linear": (lambda: nn.Sequential(nn.Linear(64, 64)), (3, 64)),
    "1-d convolution": (lambda: nn.Sequential(nn.Conv1d(64, 64, 3)), (1, 64, 9)),
    "2-d convolution": (lambda: nn.Sequential(nn.Conv2d(64, 128, 3)), (1, 64, 5, 5)),
    "GRU": (lambda: First(nn.GRU(64, 64, bidirectional=True)), (5, 2, 64)),
    "LSTM": (lambda: First(nn.LSTM(64, 64)), (5, 2, 64)),
    "RNN": (lambda: First(nn.RNN(64, 64)), (5, 2, 64)),
}


def sparse_model(name, kernel):
    made, shape = MODELS[name]
    torch.manual_seed(0)
    model = made().eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data[torch.rand_like(weight) < 0.9] = 0
    report = sparsify(model, min_elements=1, kernel=kernel)
    assert len(report.replaced) == 1
    return model, torch.randn(shape)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recorder", RECORDERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_sparse_layer_refuses_to_be_recorded(name, recorder):
    model, x = sparse_model(name, "numpy")
    with torch.no_grad():
        expected = model(x)
        with pytest.raises(AsrError, match=r"cannot be traced or exported: .* the dense model"):
            RECORDERS[recorder](model, x)
        assert torch.equal(model(x), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recorder", RECORDERS)
@pytest.mark.parametrize("name", ["linear", "GRU", "LSTM", "RNN"])
def test_a_layer_on_torchs_sparse_product_refuses_to_be_recorded(name, recorder):
    model, x = sparse_model(name, "torch.sparse")
    with torch.no_grad(), pytest.raises(AsrError, match="cannot be traced or exported"):
        RECORDERS[recorder](model, x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["linear", "GRU"])
def test_a_dense_model_is_traced_before_it_is_made_sparse(name):
    made, shape = MODELS[name]
    model, x = made().eval(), torch.randn(shape)
    with torch.no_grad():
        traced = torch.jit.trace(model, x)
        other = torch.randn(shape)
        torch.testing.assert_close(traced(other), model(other))
