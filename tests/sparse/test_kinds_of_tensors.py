"""`save`, `load_into`, `sparsify` and every kind of tensor of torch: as torch does, or refused."""

import pytest
import torch
from torch import nn

from asr.errors import AsrError
from asr.sparse import SparseGRU, SparseLSTM, SparseRNN, load_into, save, sparsify


class Holder(nn.Module):
    def __init__(self, tensor):
        super().__init__()
        self.register_buffer("given", tensor)


def some(dtype=torch.float32):
    torch.manual_seed(0)
    return torch.randn(8, 8).masked_fill(torch.rand(8, 8) < 0.5, 0.0).to(dtype)


TYPES = [
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.int64,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_tensor_of_any_type_comes_back_in_its_type(dtype, tmp_path):
    tensor = some().mul(3).to(dtype)
    save(Holder(tensor), tmp_path / "x.asr", values="fp32")
    again = Holder(torch.zeros(8, 8).to(dtype))
    load_into(again, tmp_path / "x.asr")
    assert again.given.dtype == dtype
    assert torch.equal(again.given.double(), tensor.double())


@pytest.mark.filterwarnings("ignore:Sparse \\w+ tensor support is in beta")
@pytest.mark.parametrize(
    "layout",
    ["to_sparse", "to_sparse_csr", "to_sparse_csc", "to_sparse_bsr", "to_sparse_bsc", "to_mkldnn"],
)
def test_a_tensor_of_a_sparse_layout_is_stored_with_its_values(layout, tmp_path):
    arguments = [(2, 2)] if "bs" in layout else []
    save(Holder(getattr(some(), layout)(*arguments)), tmp_path / "x.asr", values="fp32")
    again = Holder(torch.zeros(8, 8))
    load_into(again, tmp_path / "x.asr")
    assert torch.equal(again.given, some())


def nested():
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def quantised():
    return torch.quantize_per_tensor(some(), 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.filterwarnings("ignore:.*quantize.*")
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.ones(2, 2, device="meta"), "'given' is on the meta device, without values"),
        (nested, "'given' is nested of torch.float32, .* an ordinary dense tensor"),
        (quantised, "'given' is quantised of torch.qint8"),
        (lambda: torch.ones(2, 2, dtype=torch.complex32), r"'given' is .*complex32"),
        (lambda: torch.ones(2, 2, dtype=torch.complex64), "'given' is of type complex64"),
        (lambda: torch.ones(2, dtype=torch.complex64).conj(), "'given' is of type complex64"),
        (lambda: torch.full((2, 2), torch.nan).to(torch.float8_e5m2), "'given' .*NaN"),
    ],
)
def test_a_tensor_that_a_file_cannot_hold_is_refused_by_name(make, message, tmp_path):
    with pytest.raises(AsrError, match=rf"x\.asr: not written: tensor {message}"):
        save(Holder(make()), tmp_path / "x.asr")
    assert not (tmp_path / "x.asr").exists()


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_layer_without_a_shape_is_refused(tmp_path):
    with pytest.raises(AsrError, match="'weight' has no shape yet: run one batch"):
        save(nn.LazyLinear(3), tmp_path / "x.asr")


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_int8_and_fp16_hold_for_matrices_of_every_float_type(kind, tmp_path):
    torch.manual_seed(0)
    layer = nn.Linear(64, 64).to(kind)
    sizes, stored = {}, {}
    for values in ("fp32", "fp16", "int8"):
        header = save(layer, tmp_path / "x.asr", values)
        sizes[values], stored[values] = header.file_bytes, header.tensors[0].layout.values
        again = nn.Linear(64, 64).to(kind)
        load_into(again, tmp_path / "x.asr")
        atol = {"fp32": 0, "fp16": 1e-4, "int8": 1e-3}[values]
        torch.testing.assert_close(again.weight, layer.weight, rtol=0, atol=atol)
        assert torch.equal(again.bias, layer.bias)
    own = str(kind).removeprefix("torch.")
    assert stored == {"fp32": own, "fp16": "float16", "int8": "int8"}
    assert sizes["int8"] < sizes["fp16"] <= sizes["fp32"]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("kind", ["meta", "csr", "coo"])
def test_a_model_that_cannot_be_filled_is_refused_and_left_as_it_was(kind, tmp_path):
    save(nn.Linear(8, 8), tmp_path / "x.asr")
    model = nn.Linear(8, 8, device="meta" if kind == "meta" else None)
    if kind != "meta":
        dense = some()
        sparse = dense.to_sparse_csr() if kind == "csr" else dense.to_sparse()
        model.weight = nn.Parameter(sparse, requires_grad=False)
    with pytest.raises(AsrError, match=r"x\.asr: not loaded: 'weight' of the model is"):
        load_into(model, tmp_path / "x.asr")


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("kind", ["meta", "csr", "coo", "float8"])
def test_sparsify_refuses_or_leaves_dense_what_it_cannot_read(kind):
    layer = nn.Linear(256, 256, device="meta" if kind == "meta" else None)
    if kind == "float8":
        layer.to(torch.float8_e4m3fn)
    elif kind != "meta":
        weight = torch.zeros(256, 256)
        sparse = weight.to_sparse_csr() if kind == "csr" else weight.to_sparse()
        layer.weight = nn.Parameter(sparse, requires_grad=False)
    model = nn.Sequential(layer)
    if kind == "meta":
        with pytest.raises(AsrError, match=r"0\.weight is on the meta device"):
            sparsify(model, kernel="numpy")
    else:
        assert "0" in sparsify(model, kernel="numpy").kept_dense
        assert model[0] is layer


@pytest.mark.parametrize("shape", ["batch", "single", "packed"])
@pytest.mark.parametrize("container", [tuple, list])
def test_the_state_of_an_lstm_may_be_a_list_as_torch_takes_one(container, shape):
    dense = nn.LSTM(6, 5, 2, bidirectional=True).eval()
    sparse = SparseLSTM.from_dense(dense)
    x, h, c = torch.randn(7, 3, 6), torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    if shape == "single":
        x, h, c = x[:, 0], h[:, 0], c[:, 0]
    if shape == "packed":
        x = nn.utils.rnn.pack_padded_sequence(x, [7, 5, 2])
    with torch.inference_mode():
        expected, ours = dense(x, container([h, c])), sparse(x, container([h, c]))
    data = (expected[0].data, ours[0].data) if shape == "packed" else (expected[0], ours[0])
    torch.testing.assert_close(data[0], data[1], atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(expected[1], ours[1], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1.0, 2.0], r"SparseLSTM is two tensors, \(h, c\), not float, float"),
        ("hc", r"SparseLSTM is two tensors, \(h, c\), not str"),
        ([torch.zeros(1, 3, 5)] * 3, r"SparseLSTM is 2 of \[1, 3, 5\], not"),
        (torch.zeros(1, 3, 5), r"SparseLSTM is 2 of \[1, 3, 5\], not"),
    ],
)
def test_a_state_of_another_form_is_refused(state, message):
    sparse = SparseLSTM.from_dense(nn.LSTM(6, 5))
    with torch.inference_mode(), pytest.raises(AsrError, match=message):
        sparse(torch.randn(7, 3, 6), state)


@pytest.mark.parametrize(("dense", "sparse"), [(nn.GRU, SparseGRU), (nn.RNN, SparseRNN)])
def test_a_state_of_two_parts_is_refused_where_one_is_needed(dense, sparse):
    layer, h = sparse.from_dense(dense(6, 5)), torch.zeros(1, 3, 5)
    with torch.inference_mode(), pytest.raises(AsrError, match=r"is 1 of \[1, 3, 5\], not"):
        layer(torch.randn(7, 3, 6), [h, h])
