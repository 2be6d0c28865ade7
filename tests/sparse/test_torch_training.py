"""Recurrent layers that train on sparse kernels, against torch's own layers and their gradients."""

import pytest
import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.sparse import torch_training
from asr.sparse.kernels import CellKind, levels, library

pytestmark = pytest.mark.skipif(library() is None, reason="needs the C library")

KINDS: tuple[CellKind, ...] = ("gru", "rnn_relu", "rnn_tanh")
SHAPES = [  # hidden, inputs, batch, frames: columns of one to five vectors, and odd sizes
    (7, 5, 1, 3),
    (32, 20, 16, 9),
    (48, 33, 17, 20),
    (24, 40, 40, 11),
    (40, 24, 70, 6),
    (16, 9, 260, 4),
]


def make_cell(kind: CellKind, inputs: int, hidden: int) -> nn.RNNBase:
    """One direction with biases, nine of ten weights zero."""
    cell: nn.RNNBase
    if kind == "gru":
        cell = nn.GRU(inputs, hidden)
    else:
        cell = nn.RNN(inputs, hidden, nonlinearity=kind.removeprefix("rnn_"))
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0"):
            weight = getattr(cell, name)
            weight.mul_(2 * (torch.rand_like(weight) < 0.1))
    return cell


def kept(cell: nn.RNNBase) -> tuple[Tensor, Tensor]:
    return getattr(cell, "weight_ih_l0") != 0, getattr(cell, "weight_hh_l0") != 0  # noqa: B009


def results(output: Tensor, grad: Tensor, x: Tensor, cells: list[nn.RNNBase]) -> list[Tensor]:
    """The output and all gradients, those of zeros left out."""
    parameters = [p for cell in cells for p in cell.parameters()]
    gradients = torch.autograd.grad(output, [x, *parameters], grad)
    masked = [
        g * (p != 0) if p.ndim == 2 else g for g, p in zip(gradients[1:], parameters, strict=True)
    ]
    return [output.detach(), gradients[0], *masked]


def compare(kind: CellKind, shape: tuple[int, int, int, int], directions: int = 2) -> None:
    torch.manual_seed(1)
    hidden, inputs, batch, frames = shape
    cells = [make_cell(kind, inputs, hidden) for _ in range(directions)]
    keeps = [torch_training.Keeps(kind, *kept(cell)) for cell in cells]
    x = torch.randn(directions, frames, batch, inputs, requires_grad=True)
    grad = torch.randn(directions, frames, batch, hidden)
    ours = results(torch_training.run(x, keeps, cells), grad, x, cells)
    dense = torch.stack([cell(x[d])[0] for d, cell in enumerate(cells)])
    theirs = results(dense, grad, x, cells)
    for mine, wanted in zip(ours, theirs, strict=True):
        assert float((mine - wanted).abs().max()) < 1e-5 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_states_and_gradients_are_those_of_torch(
    kind: CellKind, shape: tuple[int, int, int, int]
) -> None:
    compare(kind, shape)


@pytest.mark.parametrize("level", [name for name in levels() if name in ("plain", "avx2", "neon")])
@pytest.mark.parametrize("kind", KINDS)
def test_every_instruction_set_computes_the_same(
    kind: CellKind, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_LEVEL", level)
    for shape in SHAPES[:4]:
        compare(kind, shape, directions=1)


def test_a_second_thread_changes_no_bit() -> None:
    torch.manual_seed(1)
    cells = [make_cell("gru", 20, 32) for _ in range(2)]
    keeps = [torch_training.Keeps("gru", *kept(cell)) for cell in cells]
    x = torch.randn(2, 9, 5, 20, requires_grad=True)
    grad = torch.randn(2, 9, 5, 32)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(results(torch_training.run(x, keeps, cells), grad, x, cells))
    torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_weights_that_are_gone_get_no_gradient_and_halves_stay_halves() -> None:
    cell = make_cell("gru", 20, 32)
    keep = torch_training.Keeps("gru", *kept(cell))
    x = torch.randn(1, 4, 3, 20, dtype=torch.bfloat16, requires_grad=True)
    output = torch_training.run(x, [keep], [cell])
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    for weight, mask in zip((cell.weight_ih_l0, cell.weight_hh_l0), kept(cell), strict=True):
        gradient = weight.grad
        assert isinstance(gradient, Tensor)
        assert gradient.dtype == torch.float32
        assert not gradient[~mask].any()
        assert gradient[mask].any()


def test_what_cannot_be_done_is_refused() -> None:
    cell = make_cell("gru", 20, 32)
    keep = torch_training.Keeps("gru", *kept(cell))
    output = torch_training.run(torch.randn(1, 4, 3, 20, requires_grad=True), [keep], [cell])
    output.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="no second backward pass"):
        output.sum().backward()
    for x in (torch.randn(1, 4, 3, 21), torch.randn(2, 4, 3, 20)):
        with pytest.raises(AsrError, match=r"21 inputs|2 directions"):
            torch_training.run(x, [keep], [cell])
    for other in (make_cell("gru", 21, 32), make_cell("rnn_relu", 20, 32)):
        with pytest.raises(AsrError, match="must be the same"):
            torch_training.run(torch.randn(1, 4, 3, 20), [keep], [other])
    with pytest.raises(AsrError, match="at most 1024"):
        torch_training.run(torch.randn(1, 1, torch_training.WIDEST + 1, 20), [keep], [cell])
    with pytest.raises(AsrError, match="an LSTM cannot"):
        torch_training.Keeps("lstm", torch.ones(128, 20) > 0, torch.ones(128, 32) > 0)
    with pytest.raises(AsrError, match="three rows for each unit"):
        torch_training.Keeps("gru", torch.ones(64, 20) > 0, torch.ones(96, 32) > 0)
    assert not torch_training.supports("lstm")


def test_a_second_backward_is_refused_where_no_input_weight_is_left() -> None:
    cell = make_cell("gru", 20, 32)
    none, recurrent = torch.zeros(96, 20, dtype=torch.bool), kept(cell)[1]
    keep = torch_training.Keeps("gru", none, recurrent)
    output = torch_training.run(torch.randn(1, 4, 3, 20, requires_grad=True), [keep], [cell])
    output.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="no second backward pass"):
        output.sum().backward()


def test_columns_of_no_utterance_that_grow_without_end_spoil_no_gradient() -> None:
    # They are driven by the biases alone, which an RNN with ReLU may raise to infinity.
    units, frames = 8, 900
    cell = make_cell("rnn_relu", 4, units)
    with torch.no_grad():
        cell.weight_hh_l0.copy_(1.2 * torch.eye(units))
        cell.weight_ih_l0.copy_(torch.eye(units)[:, :4] + torch.eye(units).roll(4, 0)[:, :4])
        cell.bias_ih_l0.fill_(0.1)
        cell.bias_hh_l0.zero_()
    keep = torch_training.Keeps("rnn_relu", *kept(cell))
    x = torch.full((1, frames, 1, 4), -1.0, requires_grad=True)  # holds the states at zero
    grad = torch.ones(1, frames, 1, units)
    ours = results(torch_training.run(x, [keep], [cell]), grad, x, [cell])
    theirs = results(cell(x[0])[0][None], grad, x, [cell])
    for mine, wanted in zip(ours, theirs, strict=True):
        assert torch.equal(mine, wanted)
