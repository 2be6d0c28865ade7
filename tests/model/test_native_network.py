"""The network without torch equals `DeepSpeech` in evaluation mode, for every cell and variant."""

from typing import Any

import numpy as np
import pytest
import torch
from pruned_networks import folded as folded_network

from asr.errors import AsrError
from asr.model.dimensions import Model
from asr.model.native_network import Network
from asr.model.torch_network import DeepSpeech
from asr.sparse.csr import from_dense
from asr.sparse.kernels import LEVELS, levels

SMALL: dict[str, Any] = {"conv_channels": [4, 6], "hidden": 48, "layers": 2, "outputs": 11}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"cell": "lstm", "combine": "concat"},
    {"cell": "rnn_relu", "shared_input": True},
    {"cell": "rnn_tanh", "bidirectional": False, "batch_norm": False},
    {"cell": "gru", "shared_input": True, "combine": "concat", "layers": 1},
    {"cell": "lstm", "bidirectional": False, "hidden": 33},
    {"cell": "gru", "hidden": 7, "mels": 23, "batch_norm": False},
    {"cell": "rnn_relu", "conv_channels": [3], "conv_kernels": [[3, 3]], "conv_strides": [[2, 3]]},
]
LENGTHS = [81, 1, 300, 33, 0, 299, 128, 2, 257]
Tensors = dict[str, np.ndarray]


@torch.no_grad()
def network(dimensions: Model, sparsity: float = 0.9, seed: int = 0) -> DeepSpeech:
    """A network as after training: batch norms in use, recurrent weights pruned."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DeepSpeech(dimensions)
        for _ in range(3):
            model(torch.randn(4, 60, dimensions.mels), torch.tensor([60, 50, 40, 60]))
        for name, tensor in model.named_parameters():
            if name.startswith("rnn") and tensor.dim() == 2:
                small = tensor.abs() < tensor.abs().flatten().quantile(sparsity)
                tensor.masked_fill_(small, 0).mul_(1.0 if "relu" in dimensions.cell else 2.0)
            elif ".norm." in name or "bias" in name:
                tensor.add_(0.3 * torch.randn_like(tensor))
    return model.eval()


def arrays(model: DeepSpeech) -> Tensors:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def batch(dimensions: Model) -> tuple[np.ndarray, np.ndarray]:
    """Features with noise beyond the lengths too, which is ignored."""
    random = np.random.default_rng(1)
    shape = (len(LENGTHS), max(LENGTHS), dimensions.mels)
    return random.standard_normal(shape).astype(np.float32), np.array(LENGTHS)


def torch_log_probs(
    model: DeepSpeech, features: np.ndarray, lengths: np.ndarray
) -> tuple[Any, Any]:
    with torch.inference_mode():
        result, counts = model(torch.from_numpy(features), torch.from_numpy(lengths))
    assert result[0, 0].exp().max() < 0.95  # no token is certain
    return result.numpy(), counts.numpy()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_log_probabilities_are_torch_s(variant: dict[str, Any]) -> None:
    dimensions = Model(**SMALL | variant)
    model = network(dimensions)
    features, lengths = batch(dimensions)
    expected, counts = torch_log_probs(model, features, lengths)
    for tensors in (arrays(model), {k: rows(v) for k, v in arrays(model).items()}):
        exact = Network(tensors, dimensions, exact=True)
        for threads in (1, 3):
            found, found_counts = exact.log_probs(features, lengths, threads)
            np.testing.assert_array_equal(found_counts, counts)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
            for row, count in zip(found, counts, strict=True):
                assert (row[count:] == 0).all()
    rounded, _ = Network(arrays(model), dimensions).log_probs(features, lengths)
    np.testing.assert_allclose(rounded, expected, atol=0.1, rtol=0)


def rows(array: np.ndarray) -> Any:
    """As `read_csr` gives a tensor."""
    return from_dense(array) if array.ndim == 2 and (array == 0).mean() > 0.1 else array


@pytest.mark.parametrize("name", LEVELS)
def test_every_instruction_set_gives_the_same(name: str) -> None:
    if name not in levels():
        pytest.skip(f"this processor has no {name}")
    dimensions = Model(**SMALL)
    model = network(dimensions)
    features, lengths = batch(dimensions)
    expected, _ = torch_log_probs(model, features, lengths)
    for exact, atol in ((True, 1e-4), (False, 0.1)):
        found, _ = Network(arrays(model), dimensions, exact, name).log_probs(features, lengths)
        np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


def test_an_utterance_s_result_depends_on_no_other() -> None:
    dimensions = Model(**SMALL)
    native = Network(arrays(network(dimensions)), dimensions)
    features, lengths = batch(dimensions)
    together, counts = native.log_probs(features, lengths, 2)
    for n, length in enumerate(lengths):
        alone, count = native.log_probs(features[n : n + 1, :length], lengths[n : n + 1])
        assert count[0] == counts[n]
        np.testing.assert_allclose(alone[0], together[n, : count[0]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS[:3], ids=str)
def test_a_network_with_norms_folded_by_torch_gives_the_same(variant: dict[str, Any]) -> None:
    model = network(Model(**SMALL | variant))
    folded = folded_network(model)
    features, lengths = batch(model.dimensions)
    expected, _ = torch_log_probs(model, features, lengths)
    native = Network(arrays(folded), folded.dimensions, exact=True)
    np.testing.assert_allclose(native.log_probs(features, lengths)[0], expected, atol=1e-4, rtol=0)


def test_a_dense_network_runs_too() -> None:
    dimensions = Model(**SMALL)
    model = network(dimensions, sparsity=0.0)
    features, lengths = batch(dimensions)
    expected, _ = torch_log_probs(model, features, lengths)
    native = Network(arrays(model), dimensions, exact=True)
    np.testing.assert_allclose(native.log_probs(features, lengths)[0], expected, atol=1e-4, rtol=0)


def test_the_tied_matrix_may_be_given_once_or_twice_and_is_prepared_once() -> None:
    dimensions = Model(**SMALL, shared_input=True)
    tensors = arrays(network(dimensions))
    native = Network(tensors, dimensions)
    for layer in native.layers:
        assert layer.cells[0].weight_ih is layer.cells[1].weight_ih
    once = {k: v for k, v in tensors.items() if not k.endswith("backward_cell.weight_ih_l0")}
    assert len(once) == len(tensors) - dimensions.layers
    features, lengths = batch(dimensions)
    np.testing.assert_array_equal(
        Network(once, dimensions).log_probs(features, lengths)[0],
        native.log_probs(features, lengths)[0],
    )


def test_each_weight_has_a_kernel_with_a_name() -> None:
    model = network(Model(**SMALL))
    described = Network(arrays(model), model.dimensions, exact=True).describe()
    weights = {n for n, p in model.named_parameters() if p.dim() >= 2}
    assert set(described) == weights
    assert not any(k in ("perm16", "block16-fp16", "block16-int8") for k in described.values())


def test_no_frames_give_no_log_probabilities() -> None:
    dimensions = Model(**SMALL)
    native = Network(arrays(network(dimensions)), dimensions)
    found, counts = native.log_probs(np.zeros((2, 0, 80), np.float32), np.array([0, 0]))
    assert found.shape == (2, 0, 11)
    assert counts.tolist() == [0, 0]


def change(name: str, array: np.ndarray | None) -> Any:
    def apply(tensors: Tensors) -> None:
        del tensors[name]
        if array is not None:
            tensors[name] = array

    return apply


HH = "rnn.1.backward_cell.weight_hh_l0"


@pytest.mark.parametrize(
    ("damage", "fragment"),
    [
        (change(HH, None), f"'{HH}' is nothing, needed is float32 \\(144, 48\\)"),
        (change(HH, np.zeros((144, 49), np.float32)), "is float32 \\(144, 49\\), needed is"),
        (change(HH, np.zeros((144, 48), np.float64)), "is float64"),
        (change(HH, np.full((144, 48), np.nan, np.float32)), "not finite"),
        (change("output.norm.running_var", np.full(48, -1, np.float32)), "variance below zero"),
        (lambda tensors: tensors.update(more=np.zeros(3, np.float32)), "'more' is float32"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(damage: Any, fragment: str) -> None:
    dimensions = Model(**SMALL)
    tensors = arrays(network(dimensions))
    damage(tensors)
    with pytest.raises(AsrError, match=fragment):
        Network(tensors, dimensions)


def test_absurd_dimensions_are_refused_at_once() -> None:
    tensors = arrays(network(Model(**SMALL)))
    with pytest.raises(AsrError, match="claim 1000000000 layers"):
        Network(tensors, Model(**SMALL | {"layers": 10**9}))


def test_an_error_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    dimensions = Model(**SMALL)
    native = Network(arrays(network(dimensions)), dimensions)

    def fail(*_: object) -> None:
        raise MemoryError("no memory for a strip")

    monkeypatch.setattr(native.convolutions, "strip", fail)
    with pytest.raises(MemoryError, match="a strip"):
        native.log_probs(*batch(dimensions), threads=3)
