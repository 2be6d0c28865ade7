"""`sparsify` replaces the layers of any model that get faster, and reports the others."""

import copy
from collections import Counter

import pytest
import torch
from pruned_modules import pruned
from torch import Tensor, nn
from torch.nn.utils import prune

from asr.errors import AsrError
from asr.sparse import (
    KeepDense,
    SparseConv1d,
    SparseGRU,
    SparseLinear,
    SparseLSTM,
    convert,
    load_into,
    register,
    save,
    sparsify,
)
from asr.sparse.kernels import library
from asr.sparse.weight import Options

needs_c = pytest.mark.skipif(library() is None, reason="the C library was not built")


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class LanguageModel(nn.Module):
    """A model of another project: it predicts the next of 60 words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 48)
        self.lstm = nn.LSTM(48, 128, num_layers=2, batch_first=True)
        self.output = nn.Linear(128, 60)

    def forward(self, words: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embedding(words))
        return self.output(hidden).log_softmax(-1)


def pruned_by_torch(amount: float = 0.9) -> LanguageModel:
    model = LanguageModel()
    for name in [name for name, _ in model.lstm.named_parameters() if name.startswith("weight")]:
        prune.l1_unstructured(model.lstm, name, amount)
        prune.remove(model.lstm, name)
    prune.random_unstructured(model.output, "weight", 0.8)
    prune.remove(model.output, "weight")
    return model.eval()


@torch.inference_mode()
def run(model: nn.Module, words: Tensor) -> Tensor:
    return model(words)


@pytest.mark.parametrize(
    ("values", "exact", "tolerance"), [("fp32", True, 2e-5), ("fp16", False, 0.02)]
)
def test_a_foreign_model_pruned_by_torch_is_packed_loaded_and_sparsified(
    tmp_path, values, exact, tolerance
):
    dense = pruned_by_torch()
    words = torch.randint(60, (3, 40))
    expected = run(dense, words)
    header = save(dense, tmp_path / "model.asr", values, {"vocabulary": "none"})
    assert header.file_bytes < 0.25 * sum(4 * p.numel() for p in dense.parameters())

    loaded = LanguageModel().eval()
    assert load_into(loaded, tmp_path / "model.asr") == {"vocabulary": "none"}
    if exact:
        assert torch.equal(run(loaded, words), expected)
    report = sparsify(loaded, exact=exact, min_elements=1000, kernel=None if library() else "numpy")
    assert isinstance(loaded.lstm, SparseLSTM)
    assert isinstance(loaded.output, SparseLinear)
    assert [layer.name for layer in report.replaced] == ["lstm", "output"]
    assert report.replaced[0].sparsity == pytest.approx(0.9, abs=1e-3)
    assert (run(loaded, words) - expected).abs().max() < tolerance
    again = LanguageModel().eval()
    again.load_state_dict(loaded.state_dict())
    assert (run(again, words) - expected).abs().max() < tolerance

    fresh = copy.deepcopy(loaded)
    with torch.no_grad():
        fresh.embedding.weight.zero_()
    load_into(fresh, tmp_path / "model.asr")  # sparse layers take their rows from the file
    assert torch.equal(run(fresh, words), run(loaded, words))


@needs_c
def test_the_report_lists_what_was_replaced_and_what_stayed_dense_and_why():
    model = nn.ModuleDict(
        {
            "pruned": pruned(nn.Linear(200, 160)),
            "dense": nn.Linear(200, 160),
            "small": pruned(nn.Linear(20, 16)),
            "grouped": pruned(nn.Conv1d(256, 256, 3, groups=2)),
            "projected": pruned(nn.LSTM(100, 64, proj_size=32)),
            "fp64": pruned(nn.Linear(200, 160).double()),
            "narrow": pruned(nn.Conv2d(64, 64, 5)),
            "wide": pruned(nn.Conv2d(16, 128, 5)),
            "point": pruned(nn.Conv2d(256, 96, 1)),
            "convolution": pruned(nn.Conv1d(64, 64, 5)),
            "list": nn.ModuleList([pruned(nn.GRU(80, 64, bidirectional=True))]),
            "norm": nn.BatchNorm1d(5),
        }
    )
    report = sparsify(model)
    assert [layer.name for layer in report.replaced] == [
        "pruned",
        "wide",
        "point",
        "convolution",
        "list.0",
    ]
    assert isinstance(model["convolution"], SparseConv1d)
    assert isinstance(model["list"][0], SparseGRU)
    assert {name: why.split(",")[0] for name, why in report.kept_dense.items()} == {
        "dense": "0.0% zeros",
        "small": "small: 320 weights",
        "grouped": "a convolution with several groups",
        "projected": "an LSTM with a projection",
        "narrow": "64 output channels",
        "fp64": "its weight is torch.float64",
    }
    layer = report.replaced[0]
    assert (layer.elements, layer.nonzeros) == (32000, 3200)
    assert 0 < layer.bytes < 4 * layer.elements
    lines = report.table().splitlines()
    assert lines[0].startswith("pruned: Linear, 32,000 weights, 90.0% zeros, ")
    assert layer.kernels[0] in lines[0]
    assert lines[-2].startswith("fp64: kept dense: its weight is torch.float64")
    assert sparsify(model).replaced == ()


@needs_c
def test_layers_that_a_replacement_would_break_stay_dense():
    hooked, masked = pruned(nn.Linear(200, 160)), nn.Linear(200, 160)
    hooked.register_forward_hook(lambda *_: None)
    prune.l1_unstructured(masked, "weight", 0.9)

    class Own(nn.Linear):
        pass

    model = nn.ModuleDict(
        {
            "hooked": hooked,
            "masked": masked,
            "own": pruned(Own(200, 160)),
            "attention": pruned(nn.MultiheadAttention(128, 2)),
            "block": pruned(nn.TransformerEncoderLayer(128, 2, 256)),
        }
    )
    report = sparsify(model)
    assert not report.replaced
    assert {name: why for name, why in report.kept_dense.items() if "." not in name} == {
        "hooked": "it has hooks, which would be lost",
        "masked": "torch.nn.utils.prune still masks it: call torch.nn.utils.prune.remove first",
        "own": "Own is not a type that sparsify knows: register it",
    }
    assert report.kept_dense["attention.out_proj"] == "attention reads its weight itself"
    assert (
        report.kept_dense["block.linear1"] == "nn.TransformerEncoderLayer reads its weight itself"
    )


@needs_c
def test_a_layer_in_two_places_stays_one_layer():
    layer = pruned(nn.Linear(160, 160))
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(sparsify(model).replaced) == 2
    assert model[0] is model[2]


def test_without_the_c_library_nothing_is_replaced_unless_a_kernel_is_named(monkeypatch):
    monkeypatch.setattr(convert, "library", lambda: None)
    model = nn.Sequential(pruned(nn.Linear(200, 160)))
    dense = copy.deepcopy(model)
    report = sparsify(model)
    assert "the C library was not built" in report.kept_dense["0"]
    report = sparsify(model, kernel="numpy")
    assert report.replaced[0].kernels == ("numpy",)
    x = torch.randn(3, 200)
    assert torch.allclose(run(model, x), run(dense, x), atol=1e-5)


def test_a_registered_factory_replaces_another_kind_of_layer(monkeypatch):
    monkeypatch.setattr(convert, "_FACTORIES", dict(convert._FACTORIES))

    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(160, 160)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * 2

    calls = Counter[str]()

    def factory(layer: Doubled, request: convert.Request) -> nn.Module:
        calls["made"] += 1
        if layer.inner.weight.shape[0] > 1000:
            raise KeepDense("too wide")
        request.require_sparse({"weight": layer.inner.weight})
        sparse = Doubled()
        sparse.inner = SparseLinear.from_dense(layer.inner, request.options)
        return sparse

    register(Doubled, factory)
    model = nn.Sequential(pruned(Doubled()), Doubled()).eval()
    dense, x = copy.deepcopy(model), torch.randn(3, 160)
    kernel = None if library() else "numpy"
    report = sparsify(model, exact=True, kernel=kernel)
    assert calls["made"] == 2
    assert [(layer.name, layer.kind) for layer in report.replaced] == [("0", "Doubled")]
    assert report.replaced[0].elements == 160 * 160
    assert report.kept_dense["1"].startswith("0.0% zeros")
    assert torch.allclose(run(model, x), run(dense, x), atol=1e-5)
    assert list(model.state_dict()) == list(dense.state_dict())


def test_a_model_that_is_itself_a_layer_is_refused_with_advice():
    with pytest.raises(AsrError, match=r"use SparseLinear\.from_dense\(model\)"):
        sparsify(nn.Linear(2, 2))
    with pytest.raises(AsrError, match="min_sparsity=90: a fraction of zeros"):
        sparsify(nn.Sequential(), min_sparsity=90)
    assert sparsify(nn.Sequential()).table() == "no layer has a sparse version"


# --- files ---


def test_a_file_that_does_not_fit_the_model_changes_nothing(tmp_path):
    model = nn.Sequential(pruned(nn.Linear(40, 32)), nn.BatchNorm1d(32))
    save(model, tmp_path / "a.asr")
    for other, message in [
        (nn.Sequential(nn.Linear(41, 32), nn.BatchNorm1d(32)),
         r"'0\.weight' is \[32, 40\] in the file and \[32, 41\] in the model"),
        (nn.Sequential(nn.Linear(40, 32)),
         r"'1\.weight' is \[32\] in the file and nothing in the model"),
        (nn.Sequential(nn.Linear(40, 32), nn.BatchNorm1d(32), nn.Linear(2, 2)),
         r"'2\.weight' is nothing in the file"),
    ]:  # fmt: skip
        before = copy.deepcopy(other.state_dict())
        with pytest.raises(AsrError, match=message):
            load_into(other, tmp_path / "a.asr")
        assert all(torch.equal(before[name], t) for name, t in other.state_dict().items())


def test_all_types_and_tied_tensors_are_saved_and_loaded(tmp_path):
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(30, 20)
            self.output = nn.Linear(20, 30, bias=False)
            self.output.weight = self.embedding.weight
            self.brain = nn.Parameter(torch.randn(4, 4).bfloat16())
            self.small = nn.Parameter(torch.randn(4, 4).half())
            self.register_buffer("mask", torch.rand(3, 4) < 0.5)
            self.register_buffer("count", torch.tensor(5))
            self.register_buffer("kept out", torch.zeros(3), persistent=False)

    model, other = Odd(), Odd()
    header = save(model, tmp_path / "a.asr", "fp32")
    assert [entry.name for entry in header.tensors if entry.same_as] == ["output.weight"]
    load_into(other, tmp_path / "a.asr")
    for name, tensor in model.state_dict().items():
        assert other.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(other.state_dict()[name], tensor), name
    assert other.output.weight is other.embedding.weight


def test_a_sparse_model_is_saved_as_the_dense_one(tmp_path):
    dense = nn.Sequential(pruned(nn.Conv1d(16, 32, 5)))
    sparse = nn.Sequential(SparseConv1d.from_dense(dense[0], Options(exact=True)))
    save(dense, tmp_path / "dense.asr")
    save(sparse, tmp_path / "sparse.asr")
    assert (tmp_path / "dense.asr").read_bytes() == (tmp_path / "sparse.asr").read_bytes()
    load_into(sparse, tmp_path / "dense.asr")


def test_a_state_that_no_file_can_hold_is_refused(tmp_path):
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(AsrError, match="'weight' holds NaN or infinity"):
        save(model, tmp_path / "a.asr")

    class Extra(nn.Module):
        def get_extra_state(self) -> dict[str, int]:
            return {"a": 1}

    with pytest.raises(AsrError, match="'_extra_state' of the state is not a tensor"):
        save(Extra(), tmp_path / "a.asr")
    assert not list(tmp_path.iterdir())
