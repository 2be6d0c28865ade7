"""The network: independent of the batch, equal to its equations, foldable, fast to train."""

import copy
import dataclasses
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pruned_networks import folded as folded_network
from pruned_networks import parameters_of
from torch import Tensor, nn

from asr.model import torch_recurrence as recurrence
from asr.model.dimensions import Model
from asr.model.shapes import count_parameters, parameter_shapes
from asr.model.torch_layers import MaskedBatchNorm
from asr.model.torch_network import DeepSpeech
from asr.pruning import find
from asr.sparse import torch_training

CELLS = ["gru", "lstm", "rnn_tanh", "rnn_relu"]
DIRECTIONS: list[dict[str, Any]] = [
    {},
    {"combine": "concat"},
    {"shared_input": True},
    {"shared_input": True, "combine": "concat"},
    {"bidirectional": False},
]
SMALL = Model(
    mels=20, outputs=7, conv_channels=[3, 4], conv_kernels=[[5, 3], [3, 5]], hidden=6, layers=2
)


def network(dimensions: Model, seed: int = 0) -> DeepSpeech:
    """A network in evaluation mode with batch norms that have statistics and unusual parameters."""
    torch.manual_seed(seed)
    model = DeepSpeech(dimensions)
    for module in model.modules():
        if isinstance(module, MaskedBatchNorm):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    for name, parameter in model.named_parameters():
        if ".bias_" in name or name.endswith("convolution.bias"):
            nn.init.uniform_(parameter, -0.5, 0.5)
    return model.eval()


def ragged(dimensions: Model, lengths: list[int], extra: int = 0) -> tuple[Tensor, Tensor]:
    """Features whose padding is NaN, and their lengths."""
    generator = torch.Generator().manual_seed(5)
    features = torch.full((len(lengths), max(lengths) + extra, dimensions.mels), torch.nan)
    for row, length in zip(features, lengths, strict=True):
        row[:length] = torch.randn(length, dimensions.mels, generator=generator)
    return features, torch.tensor(lengths)


def ctc(model: DeepSpeech, features: Tensor, lengths: Tensor) -> Tensor:
    log_probs, frames = model(features, lengths)
    targets = torch.tensor([[1, 2, 2, 3]]).expand(len(lengths), 4)
    size = torch.full((len(lengths),), 4)
    return F.ctc_loss(log_probs.transpose(0, 1), targets, frames, size, reduction="sum")


def gradients(model: DeepSpeech) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters()}
    assert all(grad is not None for grad in found.values())
    return {name: grad.clone() for name, grad in found.items() if grad is not None}


# The reference: one utterance at a time, one step after the other, nothing padded.


def reference_norm(norm: MaskedBatchNorm, x: Tensor) -> Tensor:
    standard = (x - norm.running_mean) / torch.sqrt(norm.running_var + 1e-5)
    return standard * norm.weight + norm.bias


def reference_step(kind: str, cell: nn.RNNBase, x: Tensor, h: Tensor, c: Tensor) -> Any:
    from_input = cell.weight_ih_l0 @ x + cell.bias_ih_l0
    from_state = cell.weight_hh_l0 @ h + cell.bias_hh_l0
    if kind == "gru":
        i_r, i_z, i_n = from_input.chunk(3)
        h_r, h_z, h_n = from_state.chunk(3)
        reset, update = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
        return (1 - update) * torch.tanh(i_n + reset * h_n) + update * h, c
    if kind == "lstm":
        i, f, g, o = (from_input + from_state).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    total = from_input + from_state
    return (torch.tanh(total) if kind == "rnn_tanh" else torch.relu(total)), c


def reference_cell(kind: str, cell: nn.RNNBase, frames: list[Tensor]) -> list[Tensor]:
    h, c, states = torch.zeros(cell.hidden_size), torch.zeros(cell.hidden_size), []
    for x in frames:
        h, c = reference_step(kind, cell, x, h, c)
        states.append(h)
    return states


def reference(model: DeepSpeech, features: Tensor) -> Tensor:
    """Log-probabilities `(time', outputs)` of `features (time, mels)`."""
    d = model.dimensions
    x = features.T[None, None]
    for layer, kernel, stride in zip(model.conv, d.conv_kernels, d.conv_strides, strict=True):
        padding = [k // 2 for k in kernel]
        weight, bias = layer.convolution.weight, layer.convolution.bias
        x = F.conv2d(x, weight, bias, stride=stride, padding=padding)
        if d.batch_norm:
            x = reference_norm(layer.norm, x.movedim(1, -1)).movedim(-1, 1)
        x = x.clamp(0, 20)
    frames = list(x[0].flatten(0, 1).T)
    for layer in model.rnn:
        if d.batch_norm:
            frames = [reference_norm(layer.norm, frame) for frame in frames]
        ahead = reference_cell(d.cell, layer.forward_cell, frames)
        if d.bidirectional:
            back = reference_cell(d.cell, layer.backward_cell, frames[::-1])[::-1]
            pairs = zip(ahead, back, strict=True)
            concat = d.combine == "concat"
            frames = [torch.cat([a, b]) if concat else a + b for a, b in pairs]
        else:
            frames = ahead
    x = torch.stack(frames)
    if d.batch_norm:
        x = reference_norm(model.output.norm, x)
    return torch.log_softmax(x @ model.output.linear.weight.T + model.output.linear.bias, -1)


@pytest.mark.parametrize("directions", DIRECTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_a_ragged_batch_equals_the_slow_reference_of_each_utterance(cell, directions):
    dimensions = dataclasses.replace(SMALL, cell=cell, **directions)
    model = network(dimensions)
    features, lengths = ragged(dimensions, [23, 40, 1, 16], extra=5)
    with torch.no_grad():
        log_probs, frames = model(features, lengths)
        assert frames.tolist() == [6, 10, 1, 4]
        for i, n in enumerate(frames):
            expected = reference(model, features[i, : lengths[i]])
            torch.testing.assert_close(log_probs[i, :n], expected, atol=1e-5, rtol=0)
            assert not log_probs[i, n:].any()


def test_the_reference_holds_without_batch_norm_and_with_one_or_three_convolutions():
    shapes: list[dict[str, Any]] = [
        {"conv_channels": [3], "conv_kernels": [[7, 3]], "conv_strides": [[2, 3]]},
        {
            "conv_channels": [2, 3, 2],
            "conv_kernels": [[5, 3], [1, 1], [3, 3]],
            "conv_strides": [[2, 2], [1, 1], [3, 1]],
        },
    ]
    for shape in shapes:
        dimensions = dataclasses.replace(SMALL, batch_norm=False, **shape)
        model = network(dimensions)
        features, lengths = ragged(dimensions, [31, 12])
        with torch.no_grad():
            log_probs, frames = model(features, lengths)
            assert log_probs.shape == (2, dimensions.output_length(31), 7)
            for i, n in enumerate(frames):
                assert n == dimensions.output_length(int(lengths[i]))
                expected = reference(model, features[i, : lengths[i]])
                torch.testing.assert_close(log_probs[i, :n], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_batch_of_one_equals_batch_of_sixteen_at_the_default_shape(cell):
    dimensions = Model(cell=cell, hidden=24, layers=2)
    model = network(dimensions)
    features, lengths = ragged(dimensions, [90 - 5 * i for i in range(16)], extra=11)
    with torch.no_grad():
        together, frames = model(features, lengths)
        for i, n in enumerate(frames):
            alone, _ = model(features[i : i + 1, : lengths[i]], lengths[i : i + 1])
            torch.testing.assert_close(together[i, :n], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_padding_changes_no_gradient_and_no_statistic_in_training(cell):
    dimensions = dataclasses.replace(SMALL, cell=cell)
    found = []
    for extra in (0, 17):
        model = network(dimensions).train()
        ctc(model, *ragged(dimensions, [40, 25, 33], extra)).backward()
        found.append(gradients(model) | dict(model.named_buffers()))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("directions", DIRECTIONS, ids=str)
@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "rnn_relu"])
def test_training_path_has_the_outputs_and_gradients_of_torch_cells(monkeypatch, cell, directions):
    dimensions = dataclasses.replace(SMALL, cell=cell, **directions)
    batch, found = ragged(dimensions, [40, 25, 33], extra=4), []
    for ours in (True, False):
        if not ours:
            monkeypatch.setattr(recurrence, "supports", lambda cells, x: False)
        model = network(dimensions).train().double()
        assert recurrence.supports([model.rnn[0].forward_cell], torch.zeros(1)) == ours
        loss = ctc(model, batch[0].double(), batch[1])
        loss.backward()
        found.append(gradients(model) | {"loss": loss.detach()})
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-5)  # log-probs are float32


@pytest.mark.parametrize("directions", DIRECTIONS, ids=str)
@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "lstm"])
def test_zeros_that_stay_are_left_out_of_the_training(monkeypatch, cell, directions):
    dimensions = replace(SMALL, cell=cell, hidden=24, **directions)
    calls, real = [], torch_training.run
    monkeypatch.setattr(torch_training, "run", lambda *a: calls.append(1) or real(*a))
    model = network(dimensions).train()
    masks = {n: torch.rand_like(p) < 0.15 for n, p in find(model, ["rnn*"]).items()}
    with torch.no_grad():
        for name, keep in masks.items():
            model.get_parameter(name).mul_(keep)
    batch, found = ragged(dimensions, [40, 25, 33], extra=4), []
    for given in (masks, None):
        model.keep_zeros(given)
        model.zero_grad()
        loss = ctc(model, *batch)
        loss.backward()
        kept = {n: g * masks.get(n, torch.tensor(1)) for n, g in gradients(model).items()}
        found.append(kept | {"loss": loss.detach()})
    layers = 0 if cell == "lstm" else 2
    assert len(calls) == layers
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)
    model.keep_zeros(masks)
    with torch.no_grad():
        model(*batch)
    assert len(calls) == layers, "evaluation is not what it is for"
    model.keep_zeros({n: keep.to("meta") for n, keep in masks.items()})
    ctc(model, *batch)
    assert len(calls) == layers, "the kernels run on a CPU"
    model.keep_zeros({n: keep for n, keep in masks.items() if "rnn.1." not in n})
    ctc(model, *batch)
    assert len(calls) == layers + layers // 2, "a dense layer stays dense"


@pytest.mark.parametrize("cell", ["gru", "rnn_tanh"])
def test_under_autocast_a_frozen_network_takes_the_fast_path_too(cell, monkeypatch):
    dimensions = replace(SMALL, cell=cell)
    model, batch, found = network(dimensions), ragged(dimensions, [40, 25, 33], extra=4), []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not recurrence.supports([model.rnn[0].forward_cell], torch.zeros(1))
        model.requires_grad_(False)
        assert recurrence.supports([model.rnn[0].forward_cell], torch.zeros(1))
        found.append(model(*batch[:2])[0])
        monkeypatch.setattr(recurrence, "supports", lambda cells, x: False)
        found.append(model(*batch[:2])[0])
    torch.testing.assert_close(found[0], found[1], atol=0.05, rtol=0.02)  # bfloat16
    assert not torch.equal(found[0], found[1]), "both used the same path"


@pytest.mark.parametrize("directions", DIRECTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_folding_the_norms_changes_no_outputs_and_no_zeros(cell, directions):
    dimensions = dataclasses.replace(SMALL, cell=cell, **directions)
    model = network(dimensions)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".weight_" in name:
                parameter[torch.rand_like(parameter) < 0.8] = 0.0
    batch = ragged(dimensions, [40, 25, 33])
    before = copy.deepcopy(model.state_dict())
    folded = folded_network(model)
    assert folded.dimensions == dataclasses.replace(dimensions, batch_norm=False)
    assert not any(isinstance(module, MaskedBatchNorm) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(*batch)[0], model(*batch)[0], atol=1e-5, rtol=0)
    weights = dict(model.named_parameters())
    for name, parameter in folded.named_parameters():
        if ".weight_" in name:
            assert torch.equal(parameter == 0, weights[name] == 0)
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)
    assert parameters_of(folded) == count_parameters(folded.dimensions)


@pytest.mark.parametrize("directions", DIRECTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_parameters_are_counted_from_the_dimensions(cell, directions):
    for batch_norm in (True, False):
        dimensions = Model(cell=cell, hidden=7, layers=3, batch_norm=batch_norm, **directions)
        model = DeepSpeech(dimensions)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        assert parameter_shapes(dimensions) == shapes
        assert list(parameter_shapes(dimensions)) == list(shapes)
        assert count_parameters(dimensions) == parameters_of(model)


def test_recurrent_layers_have_the_size_of_the_papers():
    paper = Model(
        cell="rnn_relu", hidden=1760, layers=7, shared_input=True, conv_channels=[32, 82],
        conv_kernels=[[41, 11], [21, 11]], conv_strides=[[2, 2], [3, 1]], mels=96,
    )  # fmt: skip
    assert paper.conv_features == 1312
    shapes = parameter_shapes(paper)
    layers = [
        sum(
            torch.Size(shape).numel()
            for name, shape in shapes.items()
            if name.startswith(f"rnn.{i}.") and "norm" not in name and "bias" not in name
        )
        for i in range(7)
    ]
    assert layers == [1312 * 1760 + 2 * 1760**2] + [3 * 1760**2] * 6


def test_the_shared_input_matrix_is_one_parameter_through_copies_and_files():
    dimensions = dataclasses.replace(SMALL, shared_input=True)
    model = network(dimensions)
    state = {k: v for k, v in model.state_dict().items() if "backward_cell.weight_ih" not in k}
    loaded = DeepSpeech(dimensions)
    loaded.load_state_dict(state)
    with torch.device("meta"):
        assigned = DeepSpeech(dimensions)
    assigned.load_state_dict(model.state_dict(), assign=True)
    batch = ragged(dimensions, [20, 30])
    for other in (model, copy.deepcopy(model), loaded, assigned.eval(), folded_network(model)):
        for layer in other.rnn:
            assert layer.backward_cell.weight_ih_l0 is layer.forward_cell.weight_ih_l0
        other.train()
        optimiser = torch.optim.SGD(other.parameters(), lr=0.1)
        ctc(other, *batch).backward()
        optimiser.step()
        with torch.no_grad():
            log_probs, frames = other.eval()(*batch)
            expected = reference(other, batch[0][0, :20])
            torch.testing.assert_close(log_probs[0, : frames[0]], expected, atol=1e-4, rtol=0)


def test_a_network_is_rebuilt_from_its_dimensions_and_state():
    model = network(SMALL)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    rebuilt = DeepSpeech(SMALL)
    rebuilt.load_state_dict(torch.load(file, weights_only=True))
    batch = ragged(SMALL, [20, 30])
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(*batch)[0], model(*batch)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_autocast_is_close_and_gives_float32_log_probs(cell):
    dimensions = Model(cell=cell, hidden=32, layers=2)
    model = network(dimensions)
    features, lengths = ragged(dimensions, [60, 45])
    exact = ctc(model, features, lengths)
    exact.backward()
    expected = gradients(model)
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_probs, _ = model(features, lengths)
        loss = ctc(model, features, lengths)
    assert log_probs.dtype == torch.float32
    loss.backward()
    assert abs(loss - exact) < 0.03 * exact
    for name, grad in gradients(model).items():
        assert F.cosine_similarity(grad.flatten(), expected[name].flatten(), dim=0) > 0.95, name


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns_to_distinguish_tokens(cell):
    torch.manual_seed(0)
    model = DeepSpeech(dataclasses.replace(SMALL, cell=cell, hidden=16))
    features, lengths = ragged(SMALL, [40, 30, 36, 24])
    features[torch.arange(40) >= lengths[:, None]] = 0.0
    targets = torch.tensor([[1, 2, 3], [4, 5, 0], [3, 1, 6], [2, 0, 0]])
    sizes = torch.tensor([3, 2, 3, 1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(40):
        log_probs, frames = model(features, lengths)
        loss = F.ctc_loss(log_probs.transpose(0, 1), targets, frames, sizes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_dropout_acts_in_training_only():
    model = network(dataclasses.replace(SMALL, dropout=0.5))
    batch = ragged(SMALL, [40, 25])
    with torch.no_grad():
        assert torch.equal(model(*batch)[0], model(*batch)[0])
        model.train()
        assert not torch.equal(model(*batch)[0], model(*batch)[0])
