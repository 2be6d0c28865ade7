"""Group lasso: penalty and gradients against autograd and plain sums; its effect on blocks."""

import pytest
import torch
from torch import nn

from asr.errors import AsrError
from asr.pruning import GroupLasso


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.Linear(7, 9), nn.Linear(4, 4))


def by_hand(weight: torch.Tensor, rows: int, columns: int) -> float:
    matrix = weight.detach().flatten(1)
    return sum(
        float(matrix[i : i + rows, j : j + columns].square().sum().sqrt())
        for i in range(0, matrix.shape[0], rows)
        for j in range(0, matrix.shape[1], columns)
    )


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 4), (3, 1), (16, 1), (100, 100)])
def test_the_penalty_is_the_sum_of_block_norms_ragged_edges_included(
    rows: int, columns: int
) -> None:
    network = model()
    lasso = GroupLasso(network, 0.3, rows, columns)
    weights = [p for p in network.parameters() if p.dim() > 1]
    right = 0.3 * sum(by_hand(w, rows, columns) for w in weights)
    assert float(lasso.penalty().detach()) == pytest.approx(right, rel=1e-5)
    assert lasso.names == ["0.weight", "1.weight", "2.weight"]


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (16, 1)])
def test_added_gradients_are_those_of_the_penalty_in_the_loss(rows: int, columns: int) -> None:
    network = model()
    with torch.no_grad():
        network[1].weight[:4, :4] = 0.0  # a block of zeros must not give NaN
    lasso = GroupLasso(network, 0.3, rows, columns)
    lasso.penalty().backward()
    right = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    assert set(right) == set(lasso.names)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    lasso.add_gradients()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        expected = 1 + right[name] if name in right else torch.ones_like(parameter)
        torch.testing.assert_close(parameter.grad, expected)
    assert bool((network[1].weight.grad[:4, :4] == 1).all()) or rows != 4


def test_useless_blocks_shrink_and_the_useful_one_stays() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 8, bias=False)
    lasso = GroupLasso(layer, 0.02, 4, 4, ["weight"])
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    target = torch.zeros(8, 8)
    target[:4, :4] = torch.randn(4, 4)
    x = torch.randn(256, 8)
    for _ in range(400):
        optimiser.zero_grad()
        (layer(x) - x @ target.T).square().mean().backward()
        lasso.add_gradients()
        optimiser.step()
    norms = layer.weight.detach().view(2, 4, 2, 4).norm(dim=(1, 3)).flatten().tolist()
    assert norms[0] > 1
    assert max(norms[1:]) < 0.02


def test_parameters_without_gradient_are_not_changed() -> None:
    network = model()
    GroupLasso(network, 0.3, 4, 4).add_gradients()
    assert all(p.grad is None for p in network.parameters())


def test_a_replaced_parameter_is_found() -> None:
    network = model()
    lasso = GroupLasso(network, 1.0, 4, 4, ["1.weight"])
    network.load_state_dict({k: 2 * v for k, v in network.state_dict().items()}, assign=True)
    right = by_hand(network[1].weight, 4, 4)
    assert float(lasso.penalty().detach()) == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize(
    ("weight", "rows", "columns", "tensors", "fragment"),
    [
        (0.0, 4, 4, None, "weight=0.0 must be a number above 0"),
        (float("nan"), 4, 4, None, "weight=nan must be"),
        ("0.1", 4, 4, None, "weight='0.1' must be a number above 0"),
        (0.1, 0, 4, None, "blocks of 0 x 4"),
        (0.1, 4, 1.5, None, "blocks of 4 x 1.5: whole numbers"),
        (0.1, 4, 4, ["rnn*"], "no prunable weight matches 'rnn"),
    ],
)
def test_impossible_values_are_refused(
    weight: float, rows: int, columns: int, tensors: list[str] | None, fragment: str
) -> None:
    with pytest.raises(AsrError) as error:
        GroupLasso(model(), weight, rows, columns, tensors)
    assert fragment in str(error.value)
