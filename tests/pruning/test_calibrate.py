"""q is an exact quantile of a dense network's absolute weights."""

import pytest
import torch
from torch import nn

from asr.errors import AsrError
from asr.pruning.calibrate import calibrate
from asr.pruning.prunable import find


def test_q_is_the_weight_with_exactly_the_fraction_below_it():
    weight = torch.tensor([-10.0, 1, 2, -3, 4, 5, 6, 7, 8, -9])
    assert calibrate({"w": weight}, ["w"], 0.90) == {"w": 10.0}
    assert calibrate({"w": weight}, ["w"], 0.50) == {"w": 6.0}
    assert calibrate({"w": weight}, ["w"], 0.05) == {"w": 1.0}


@pytest.mark.parametrize("percentile", [0.29, 0.8, 0.9, 0.95])
def test_pruning_the_dense_tensor_below_q_drops_exactly_the_fraction(percentile):
    torch.manual_seed(0)
    weight = torch.randn(100, 30)
    q = calibrate({"w": weight}, ["w"], percentile)["w"]
    pruned = weight.abs() < q
    assert int(pruned.sum()) == round(percentile * 3000)


def test_zeros_count():
    weight = torch.tensor([0.0, 0, 0, 0, 1, 2, 3, 4, 5, 6])
    assert calibrate({"w": weight}, ["w"], 0.5) == {"w": 2.0}


def test_more_weights_than_torch_quantile_takes():
    count = 2**24 + 10
    weight = torch.arange(count, dtype=torch.float64)
    q = calibrate({"w": weight.sub_(count / 2).mul_(1 / count)}, ["w"], 0.9)["w"]
    assert q == pytest.approx(0.45, abs=1e-5)


def test_a_model_and_its_state_give_the_same_q_for_each_of_its_tensors():
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 7))
    q = calibrate(dense, find(dense), 0.9)
    assert q == calibrate(dense.state_dict(), list(find(dense)), 0.9)
    assert q["0.weight"] == sorted(dense[0].weight.abs().flatten().tolist())[64]


def test_group_takes_the_tensors_of_one_kind_together():
    dense = {
        "a.weight_hh_l0": torch.arange(1.0, 11).view(2, 5),
        "b.weight_hh_l0": torch.arange(11.0, 21).view(2, 5),
        "a.weight_ih_l0": torch.arange(1.0, 11).view(2, 5),
    }
    q = calibrate(dense, list(dense), 0.9, by="group")
    assert q == {"a.weight_hh_l0": 19.0, "b.weight_hh_l0": 19.0, "a.weight_ih_l0": 10.0}


@pytest.mark.parametrize(
    ("dense", "fragment"),
    [
        ({"v": torch.ones(2, 2)}, r"no 'w'; it has:\n  v"),
        ({"w": torch.ones(2, 3)}, r"\[2, 2\] here but \[2, 3\] in the dense model"),
        ({"w": torch.tensor([[1.0, 0], [0, 0]])}, r"3 zeros in 4 weights: this is not a dense"),
        ({"w": torch.tensor([[1.0, 2], [float("nan"), 1]])}, r"NaN or infinite"),
    ],
)
def test_what_is_not_the_dense_model_is_refused(dense, fragment):
    with pytest.raises(AsrError, match=fragment):
        calibrate(dense, {"w": torch.zeros(2, 2)})


def test_q_of_zero_is_refused():
    with pytest.raises(AsrError, match=r"w: q is 0 at percentile=0\.3"):
        calibrate({"w": torch.tensor([0.0, 0, 1, 2])}, ["w"], 0.3)


@pytest.mark.parametrize("percentile", [0, 1, 90])
def test_percentile_is_a_fraction(percentile):
    with pytest.raises(AsrError, match="a fraction between 0 and 1"):
        calibrate({"w": torch.ones(3)}, ["w"], percentile)


def test_unknown_grouping_is_refused():
    with pytest.raises(AsrError, match='"tensor" or "group"'):
        calibrate({"w": torch.ones(3)}, ["w"], by="layer")
