"""Sparse layers of torch equal the dense ones, within the precision of their kernel."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from pruned_modules import KINDS, pruned, states
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from asr.errors import AsrError
from asr.sparse import SparseConv1d, SparseConv2d, SparseGRU, SparseLinear, SparseLSTM, SparseRNN
from asr.sparse.kernels import LEVELS, choose, level, library
from asr.sparse.weight import Options

# With AVX2 the fastest kernel rounds to 8 bits.
AUTO = 0.02 if library() and choose("element", 0.9, LEVELS[level()]) == "perm8" else 3e-3
EXACT = Options(exact=True)
PATTERNS = ["element", "bank", "block"]
SPARSE: dict[type[nn.Module], Any] = {nn.GRU: SparseGRU, nn.LSTM: SparseLSTM, nn.RNN: SparseRNN}


@pytest.fixture(autouse=True)
def inference():
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        yield


def assert_near(found: Any, expected: Any, tolerance: float = 2e-6) -> None:
    if isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other, tolerance)
        return
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.is_contiguous()
    assert torch.allclose(found, expected, rtol=1e-5, atol=tolerance)


# --- linear ---


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", [(7,), (1, 70), (3, 5, 70), (0, 70)])
def test_linear_equals_the_dense_layer(pattern, shape):
    dense = pruned(nn.Linear(70, 48), 0.9, pattern)
    x = torch.randn(*shape[:-1], 70)
    assert_near(SparseLinear.from_dense(dense, EXACT)(x), dense(x))


@pytest.mark.parametrize(("values", "tolerance"), [("auto", AUTO), ("fp16", 3e-3), ("int8", 0.02)])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_smaller_values_change_outputs_by_little(values, tolerance, pattern):
    dense = pruned(nn.Linear(96, 64), 0.9, pattern)
    x = torch.randn(9, 96)
    assert_near(SparseLinear.from_dense(dense, Options(values))(x), dense(x), tolerance)


def test_an_empty_and_a_full_matrix_are_matrices_too():
    for sparsity in (0.0, 1.0):
        dense = nn.Linear(33, 17)
        dense.weight.mul_(float(sparsity == 0))
        x = torch.randn(4, 33)
        assert_near(SparseLinear.from_dense(dense, EXACT)(x), dense(x))


# --- convolutions ---


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 5},
        {"kernel_size": 1},
        {"kernel_size": 4, "stride": 3, "padding": 2, "dilation": 2},
        {"kernel_size": 3, "padding": "same", "dilation": 3},
        {"kernel_size": 4, "padding": "same"},
        {"kernel_size": 3, "padding": "valid", "bias": False},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    ],
    ids=str,
)
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_convolutions_equal_the_dense_layers(arguments, two):
    dense = pruned((nn.Conv2d if two else nn.Conv1d)(6, 16, **arguments))
    sparse = (SparseConv2d if two else SparseConv1d).from_dense(dense, EXACT)
    x = torch.randn(2, 6, 11, 17) if two else torch.randn(2, 6, 31)
    assert_near(sparse(x), dense(x))
    assert_near(sparse(x[1]), dense(x[1]))
    assert_near(sparse(x.flip(-1).transpose(0, 1)[:, :1].transpose(0, 1)), dense(x.flip(-1)[:1]))


def test_a_convolution_of_two_dimensions_takes_different_numbers_for_each():
    dense = pruned(nn.Conv2d(3, 32, (11, 5), stride=(3, 2), padding=(5, 2), dilation=(1, 2)))
    x = torch.randn(2, 3, 40, 51)
    assert_near(SparseConv2d.from_dense(dense, EXACT)(x), dense(x))


def test_a_convolution_in_many_parts_is_the_same(monkeypatch):
    dense = pruned(nn.Conv2d(2, 16, 3))
    sparse, x = SparseConv2d.from_dense(dense, EXACT), torch.randn(3, 2, 9, 10)
    whole = sparse(x)
    two_rows = 4 * 8 * 18 * 2
    monkeypatch.setattr("asr.sparse.torch_convolution.CHUNK_BYTES", two_rows)
    assert_near(sparse(x), whole)


def test_convolutions_refuse_what_they_cannot_do():
    with pytest.raises(AsrError, match="one group, not 2"):
        SparseConv1d(4, 4, 3, groups=2)
    with pytest.raises(AsrError, match="stride 1 only"):
        SparseConv1d(4, 4, 3, stride=2, padding="same")
    with pytest.raises(AsrError, match="padding 'full'"):
        SparseConv1d(4, 4, 3, padding="full")
    with pytest.raises(AsrError, match=r"takes 4 channels and 1 more dimensions"):
        SparseConv1d(4, 4, 3)(torch.zeros(2, 5, 9))
    with pytest.raises(AsrError, match="smaller than the kernel"):
        SparseConv1d(4, 4, 3)(torch.zeros(2, 4, 2))


# --- recurrent layers ---


def pair(kind: Any, options: Options = EXACT, pattern: str = "element", **arguments: Any) -> Any:
    sizes = {"input_size": 23, "hidden_size": 16} | arguments
    dense = pruned(kind(**sizes), 0.8, pattern)
    return dense, SPARSE[kind].from_dense(dense, options)


@pytest.mark.parametrize(("kind", "extra"), KINDS, ids=str)
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_layers_equal_dense_ones(kind, extra, num_layers, bidirectional, batch_first):
    dense, sparse = pair(
        kind,
        num_layers=num_layers,
        bidirectional=bidirectional,
        batch_first=batch_first,
        **extra,
    )
    x = torch.randn(3, 9, 23)
    batch = 3 if batch_first else 9
    assert_near(sparse(x), dense(x))
    hx = states(dense, batch)
    assert_near(sparse(x, hx), dense(x, hx))
    assert_near(sparse(x[0]), dense(x[0]))
    hx = states(dense, None)
    assert_near(sparse(x[0], hx), dense(x[0], hx))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("hidden", [48, 80])
def test_every_pattern_of_zeros_gives_the_same(kind, pattern, hidden):
    sizes = {"input_size": 70, "hidden_size": hidden, "bidirectional": True, "bias": False}
    dense, sparse = pair(kind, pattern=pattern, **sizes)
    x = torch.randn(12, 9, 70)
    assert_near(sparse(x), dense(x), 5e-6)
    assert {weight.rows.pattern for _, weight in sparse.weights()} == {pattern}


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences_and_lengths_are_those_of_torch(kind, bidirectional):
    dense, sparse = pair(kind, num_layers=2, bidirectional=bidirectional, batch_first=True)
    x, lengths = torch.randn(5, 9, 23), torch.tensor([4, 9, 1, 9, 6])
    hx = states(dense, 5)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, end = dense(packed, hx)
    found, found_end = sparse(packed, hx)
    assert_near(found.data, expected.data)
    assert_near(found_end, end)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(found, name), getattr(expected, name))

    padded, padded_end = sparse(x, hx, lengths)
    assert_near(padded_end, end)
    again = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    assert_near(again.data, expected.data)
    for i, length in enumerate(lengths):
        assert not padded[i, length:].any()

    order = lengths.sort(descending=True).indices
    packed = pack_padded_sequence(x[order], lengths[order], batch_first=True)
    expected, end = dense(packed)
    found, found_end = sparse(packed)
    assert found.sorted_indices is None
    assert_near(found.data, expected.data)
    assert_near(found_end, end)


@pytest.mark.parametrize(("kind", "extra"), KINDS, ids=str)
def test_a_model_that_reads_attributes_of_its_recurrent_layer_goes_on_to_run(kind, extra):
    dense, sparse = pair(kind, num_layers=2, **extra)
    sparse.flatten_parameters()
    for name in (*nn.RNNBase.__constants__, *extra):
        assert getattr(sparse, name) == getattr(dense, name), name


def test_recurrent_layers_refuse_what_they_cannot_do():
    with pytest.raises(AsrError, match="proj_size must be 0"):
        SparseLSTM(4, 8, proj_size=2)
    with pytest.raises(AsrError, match="nonlinearity 'gelu'"):
        SparseRNN(4, 8, nonlinearity="gelu")
    layer = SparseGRU(4, 8, 2, dropout=0.5)
    with pytest.raises(AsrError, match="dropout is for training"):
        layer(torch.zeros(3, 2, 4))
    layer.eval()
    with pytest.raises(AsrError, match=r"is 1 of \[2, 2, 8\], not \[\[1, 2, 8\]\]"):
        layer(torch.zeros(3, 2, 4), torch.zeros(1, 2, 8))
    with pytest.raises(AsrError, match="2 or 3 dimensions, not 1"):
        layer(torch.zeros(4))
    with pytest.raises(AsrError, match="a length is outside"):
        layer(torch.zeros(3, 2, 4), lengths=torch.tensor([4, 1]))
    packed = pack_padded_sequence(torch.zeros(3, 2, 4), torch.tensor([3, 1]))
    with pytest.raises(AsrError, match="has its own lengths"):
        layer(packed, lengths=torch.tensor([3, 1]))


# --- common to all ---


def layers() -> list[tuple[nn.Module, nn.Module, torch.Tensor]]:
    return [
        (pruned(nn.Linear(20, 48)), SparseLinear(20, 48), torch.randn(3, 20)),
        (pruned(nn.Conv1d(4, 16, 5)), SparseConv1d(4, 16, 5), torch.randn(2, 4, 20)),
        (pruned(nn.Conv2d(2, 16, 3, bias=False)), SparseConv2d(2, 16, 3, bias=False),
         torch.randn(2, 2, 7, 9)),
        (pruned(nn.GRU(20, 16, 2, bidirectional=True)), SparseGRU(20, 16, 2, bidirectional=True),
         torch.randn(6, 2, 20)),
        (pruned(nn.LSTM(20, 16, bias=False)), SparseLSTM(20, 16, bias=False),
         torch.randn(6, 2, 20)),
        (pruned(nn.RNN(20, 16)), SparseRNN(20, 16), torch.randn(6, 2, 20)),
    ]  # fmt: skip


def output(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    y = layer(x)
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("index", range(6))
def test_state_goes_from_the_dense_layer_and_back(index):
    dense, sparse, x = layers()[index]
    assert not any(tensor.any() for tensor in sparse.state_dict().values())
    sparse.load_state_dict(dense.state_dict())
    assert_near(output(sparse, x), output(dense, x), AUTO)
    state = sparse.state_dict()
    assert list(state) == list(dense.state_dict())
    for name, tensor in dense.state_dict().items():
        assert torch.equal(state[name], tensor)
        assert torch.equal(getattr(sparse, name), tensor)
    again = type(dense)(*_sizes(dense)).eval()
    again.load_state_dict(state)
    assert torch.equal(output(again, x), output(dense, x))


def _sizes(dense: Any) -> tuple[Any, ...]:
    if isinstance(dense, nn.Linear):
        return 20, 48
    if isinstance(dense, nn.Conv1d):
        return 4, 16, 5
    if isinstance(dense, nn.Conv2d):
        return 2, 16, 3, 1, 0, 1, 1, False
    if isinstance(dense, nn.GRU):
        return 20, 16, 2, True, False, 0.0, True
    return (20, 16, 1, False) if isinstance(dense, nn.LSTM) else (20, 16)


@pytest.mark.parametrize("index", range(6))
def test_copies_pickles_and_threads_give_the_same(index):
    dense, sparse, x = layers()[index]
    sparse.load_state_dict(dense.state_dict())
    expected = output(sparse, x)
    assert torch.equal(output(copy.deepcopy(sparse), x), expected)
    assert torch.equal(output(pickle.loads(pickle.dumps(sparse)), x), expected)
    xs = [torch.randn_like(x) for _ in range(8)]
    alone = [output(sparse, x) for x in xs]

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return output(sparse, x)

    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(run, xs), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("index", [0, 1, 3])  # linear, convolution, recurrent
def test_torch_compile_calls_the_layers_as_they_are(index):
    dense, sparse, x = layers()[index]
    model = nn.Sequential(sparse.load(dense))
    compiled = torch.compile(model, backend="eager")
    for given in (x, 2 * x, torch.cat([x, x])):
        assert torch.equal(output(compiled, given), output(model, given))


def test_a_copy_uses_the_weights_of_the_layer_until_it_loads_others():
    layer = SparseLinear.from_dense(pruned(nn.Linear(40, 32)))
    other = copy.deepcopy(layer)
    assert dict(other.weights())["weight"] is dict(layer.weights())["weight"]
    before = layer.weight
    other.load_state_dict(nn.Linear(40, 32).state_dict())
    assert torch.equal(layer.weight, before)


EDITS = {
    "add": lambda weight: weight.add_(1),
    "index": lambda weight: weight.__setitem__(0, 1),
    "view": lambda weight: weight[0].zero_(),
    "transposed": lambda weight: weight.T.mul_(2),
    "parts": lambda weight: weight.chunk(2)[0].fill_(1),
    "data": lambda weight: weight.data.mul_(2),
    "new data": lambda weight: setattr(weight, "data", torch.ones(32, 40)),
    "detached": lambda weight: weight.detach().zero_(),
    "out": lambda weight: torch.mul(weight, 2, out=weight),
    "init": nn.init.zeros_,
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_a_weight_that_is_changed_in_place_is_refused(edit, mode):
    with torch.inference_mode(False), mode():
        layer = SparseLinear.from_dense(pruned(nn.Linear(40, 32)))
        with pytest.raises(AsrError, match=r"in place.*layer\.weight = "):
            EDITS[edit](layer.weight)
        with pytest.raises(ValueError, match="read-only"):
            layer.weight.numpy()[0] = 1


def test_what_is_computed_from_a_weight_is_an_ordinary_tensor():
    layer = SparseLinear.from_dense(pruned(nn.Linear(40, 32)))
    before = layer.weight.clone()
    state = layer.state_dict()["weight"]
    copies = (layer.weight * 2, before, state, copy.deepcopy(layer.weight))
    for tensor in (*copies, pickle.loads(pickle.dumps(layer.weight))):
        assert type(tensor) is torch.Tensor
        tensor.zero_()
    assert layer.weight.any()
    assert torch.equal(layer.weight.to_sparse().to_dense(), layer.weight)
    assert not torch.equal(layer.weight, before)


def test_a_weight_that_is_assigned_replaces_the_old_one_and_biases_are_changed_in_place():
    layer = SparseLinear.from_dense(pruned(nn.Linear(40, 32)), EXACT)
    dense, x = pruned(nn.Linear(40, 32)), torch.randn(3, 40)
    layer.weight = dense.weight
    layer.bias.copy_(dense.bias)
    assert_near(layer(x), dense(x))
    with pytest.raises(AsrError, match=r"weight is \[40, 32\], this layer needs \[32, 40\]"):
        layer.weight = dense.weight.T
    with pytest.raises(AsrError, match="weight is NoneType"):
        layer.weight = None


def test_a_state_that_does_not_fit_is_refused():
    layer = SparseLinear(20, 48)
    with pytest.raises(RuntimeError, match=r"size mismatch for weight: it is \[48, 21\]"):
        layer.load_state_dict(nn.Linear(21, 48).state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*weight"):
        layer.load_state_dict({"bias": torch.zeros(48)})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*more"):
        layer.load_state_dict(nn.Linear(20, 48).state_dict() | {"more": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"weight: .*not finite"):
        layer.load_state_dict({"weight": torch.full((48, 20), torch.nan), "bias": torch.zeros(48)})


@pytest.mark.parametrize("index", range(6))
def test_gradients_other_types_and_devices_are_refused(index):
    _, sparse, x = layers()[index]
    with torch.inference_mode(False), torch.enable_grad():
        ours = x.clone().requires_grad_()
        with pytest.raises(AsrError, match=r"has no gradients: call the model under"):
            sparse(ours)
        with torch.no_grad():
            sparse(ours)
    for wrong in (x.double(), x.bfloat16(), x.to("meta")):
        with pytest.raises(AsrError, match="runs on the CPU in float32"):
            sparse(wrong)


def test_the_repr_of_a_layer_describes_it():
    text = repr(SparseLinear.from_dense(pruned(nn.Linear(40, 32)), Options(kernel="numpy")))
    assert text == "SparseLinear(weight 32x40, 90.0% zeros, numpy)"
    assert np.isclose(dict(SparseLinear(4, 4).weights())["weight"].rows.sparsity, 1)
