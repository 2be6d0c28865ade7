"""Recurrent, linear and convolution weights are found by module type; biases and norms never."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from asr.errors import AsrError
from asr.pruning.prunable import aliases, find, group_of


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv1d(4, 4, 3))
        self.rnn = nn.ModuleList(
            [nn.GRU(6, 5, 2, bidirectional=True), nn.LSTM(5, 4, proj_size=2), nn.RNN(2, 3)]
        )
        self.cell = nn.GRUCell(3, 4)
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm([4, 4])
        self.output = nn.Linear(4, 7)


def test_exactly_the_weights_of_known_modules_are_found_in_order():
    names = list(find(Net()))
    assert names == [
        "conv.0.weight",
        "conv.2.weight",
        *(
            f"rnn.0.weight_{kind}_l{layer}{way}"
            for layer in (0, 1)
            for way in ("", "_reverse")
            for kind in ("ih", "hh")
        ),
        "rnn.1.weight_ih_l0",
        "rnn.1.weight_hh_l0",
        "rnn.1.weight_hr_l0",
        "rnn.2.weight_ih_l0",
        "rnn.2.weight_hh_l0",
        "cell.weight_ih",
        "cell.weight_hh",
        "output.weight",
    ]


def test_found_parameters_are_those_of_the_model():
    net = Net()
    own = dict(net.named_parameters())
    assert all(own[name] is parameter for name, parameter in find(net).items())


@pytest.mark.parametrize(
    ("patterns", "count"),
    [(["rnn*"], 13), (["*.weight_hh_*"], 6), (["conv*", "output.weight"], 3), ("cell*", 2)],
)
def test_patterns_select_by_name(patterns, count):
    assert len(find(Net(), patterns)) == count


def test_a_name_pattern_without_a_match_lists_the_names():
    with pytest.raises(AsrError, match=r"matches 'rnns\*'; there are:\n  conv\.0\.weight\n"):
        find(Net(), ["rnn*", "rnns*"])
    with pytest.raises(AsrError, match=r"matches 'norm\.weight'"):
        find(Net(), ["norm.weight"])
    with pytest.raises(AsrError, match=r"matches '\*bias\*'"):
        find(Net(), ["*bias*"])
    with pytest.raises(AsrError, match="no pattern given"):
        find(Net(), [])


def test_model_without_prunable_weights_is_refused():
    with pytest.raises(AsrError, match="LayerNorm has no recurrent, linear or convolution weight"):
        find(nn.LayerNorm(4))


def test_tied_parameter_is_found_once_and_by_either_name():
    net = nn.ModuleDict({"forward_cell": nn.GRU(4, 3), "backward_cell": nn.GRU(4, 3)})
    net["backward_cell"].weight_ih_l0 = net["forward_cell"].weight_ih_l0
    first, alias = "forward_cell.weight_ih_l0", "backward_cell.weight_ih_l0"
    assert alias not in find(net)
    assert list(find(net, [alias])) == [first]
    assert aliases(net)[alias] == first
    assert aliases(net)[first] == first
    assert group_of(net, alias) == "input"


def test_a_module_that_is_used_twice_is_found_once():
    layer = nn.Linear(3, 3)
    assert list(find(nn.Sequential(layer, nn.ReLU(), layer))) == ["0.weight"]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("conv.0.weight", "convolution"),
        ("conv.2.weight", "convolution"),
        ("rnn.0.weight_ih_l1_reverse", "input"),
        ("rnn.0.weight_hh_l1_reverse", "recurrent"),
        ("rnn.1.weight_hr_l0", "recurrent"),
        ("cell.weight_ih", "input"),
        ("cell.weight_hh", "recurrent"),
        ("output.weight", "linear"),
    ],
)
def test_a_group_is_the_kind_of_weight(name, group):
    assert group_of(Net(), name) == group


def test_group_of_a_bias_is_refused():
    with pytest.raises(AsrError, match=r"'output\.bias' is not a prunable weight"):
        group_of(Net(), "output.bias")


def test_attention_projections_count_as_linear():
    attention = nn.MultiheadAttention(8, 2)
    assert list(find(attention)) == ["in_proj_weight", "out_proj.weight"]
    assert group_of(attention, "in_proj_weight") == "linear"


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize(
    "rewrite",
    [
        nn.utils.weight_norm,
        nn.utils.parametrizations.weight_norm,
        lambda module, name: prune.l1_unstructured(module, name, 0.5),
    ],
)
def test_tensors_from_which_a_weight_is_computed_are_not_prunable(rewrite):
    """Zeros in the lengths of weight normalisation would empty whole rows."""
    net = nn.ModuleDict({"rnn": nn.GRU(4, 3), "output": nn.Linear(3, 2)})
    rewrite(net["rnn"], "weight_hh_l0")
    rewrite(net["output"], "weight")
    assert list(find(net)) == ["rnn.weight_ih_l0"]


def test_lazy_weight_without_a_shape_is_refused():
    with pytest.raises(AsrError, match="weight has no shape yet"):
        find(nn.LazyLinear(3))


def test_a_single_layer_is_searched_too():
    assert list(find(nn.GRU(2, 3))) == ["weight_ih_l0", "weight_hh_l0"]
    assert find(nn.Linear(2, 3))["weight"].shape == torch.Size([3, 2])
