"""Recurrent, linear and convolution weights are found by module type; biases and norms never."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from asr.errors import AsrError
from asr.pruning.prunable import PassedOver, aliases, computed, find, group_of
from asr.pruning.pruner import Pruner
from asr.pruning.rule import Rule
from asr.pruning.schedule import FixedMask
from asr.pruning.sparsity_schedules import Cubic, OneShot


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


def spectral(module, name):
    nn.utils.parametrizations.spectral_norm(module, name)


def own_parametrisation(module, name):
    class Symmetric(nn.Module):
        def forward(self, x):
            return 0.5 * (x + x.flip(0))

    nn.utils.parametrize.register_parametrization(module, name, Symmetric())


COMPUTED = {
    "old weight norm": (nn.utils.weight_norm, "output.weight_g, output.weight_v"),
    "old spectral norm": (nn.utils.spectral_norm, "output.weight_orig, output.weight_u, "),
    "torch's own pruning": (
        lambda module, name: prune.l1_unstructured(module, name, 0.5),
        "output.weight_orig, output.weight_mask",
    ),
    "weight norm": (
        nn.utils.parametrizations.weight_norm,
        "output.parametrizations.weight.original0, output.parametrizations.weight.original1",
    ),
    "spectral norm": (spectral, "output.parametrizations.weight.original"),
    "one's own": (own_parametrisation, "output.parametrizations.weight.original"),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("kind", COMPUTED)
def test_a_computed_weight_is_left_out_by_name_or_refused_where_it_is_asked_for(kind):
    rewrite, parts = COMPUTED[kind]
    net = nn.ModuleDict({"rnn": nn.GRU(4, 3), "output": nn.Linear(3, 2)})
    rewrite(net["output"], "weight")
    found = computed(net)
    assert list(found) == ["output.weight"]
    assert found["output.weight"].startswith(parts)
    with pytest.warns(PassedOver, match=r"stay dense:\n  output\.weight: computed from output\."):
        pruner = Pruner(net, Rule(OneShot(1, 0.5)))
    assert pruner.names == ["rnn.weight_ih_l0", "rnn.weight_hh_l0"]
    for patterns in (["output*"], ["*"], ["rnn*", "output.weight"]):
        with pytest.raises(AsrError, match=r"output\.weight(:|,) computed from output\."):
            Pruner(net, Rule(OneShot(1, 0.5), patterns))
    Pruner(net, Rule(OneShot(1, 0.5), ["rnn*"]))
    with pytest.raises(AsrError, match=r"to prune; not parameters are:\n  weight, computed from"):
        Pruner(net["output"], Rule(OneShot(1, 0.5)))


def test_a_computed_weight_made_ordinary_again_is_found():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    nn.utils.parametrize.remove_parametrizations(layer, "weight")
    assert computed(layer) == {}
    assert list(find(layer)) == ["weight"]


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["rnn.weight_hh_l0"], ["rnn.weight_ih_l0", "output.weight"]),
        (["rnn.weight_ih_l0", "rnn.weight_hh_l0"], ["output.weight"]),
        (["output.weight"], ["rnn.weight_ih_l0", "rnn.weight_hh_l0"]),
    ],
)
def test_a_frozen_weight_is_left_out_by_name_or_refused_where_it_is_asked_for(names, left):
    net = nn.ModuleDict({"rnn": nn.GRU(4, 3), "output": nn.Linear(3, 2)})
    for name in names:
        net.get_parameter(name).requires_grad_(False)
    with pytest.warns(PassedOver, match=rf"{names[0]}: frozen .requires_grad is False."):
        pruner = Pruner(net, Rule(OneShot(1, 0.5)))
    assert pruner.names == left
    pruner.step()
    assert all(bool(net.get_parameter(name).all()) for name in names)
    with pytest.raises(AsrError, match=rf"{names[0]}: frozen"):
        Pruner(net, Rule(OneShot(1, 0.5), names))
    net.requires_grad_(False)
    with pytest.raises(AsrError, match="ModuleDict has no weight that can be pruned:\n  rnn"):
        Pruner(net, Rule(OneShot(1, 0.5)))


def test_a_weight_that_is_an_embedding_too_is_pruned_only_where_it_is_asked_for():
    net = nn.ModuleDict({"embed": nn.Embedding(7, 4), "rnn": nn.GRU(4, 4), "out": nn.Linear(4, 7)})
    net["out"].weight = net["embed"].weight
    with pytest.warns(PassedOver, match=r"stay dense:\n  out\.weight: also the embedding embed\.w"):
        pruner = Pruner(net, Rule(OneShot(1, 0.5)))
    assert pruner.names == ["rnn.weight_ih_l0", "rnn.weight_hh_l0"]
    pruner = Pruner(net, Rule(OneShot(1, 0.5), ["out*"]))
    pruner.step()
    assert Pruner(net, Rule(FixedMask())).sparsities()["out.weight"] == 0.5, "nothing new is lost"


@pytest.mark.parametrize("scope", ["tensor", "group", "global"])
def test_a_weight_frozen_amid_training_keeps_its_mask_and_the_others_are_pruned(scope):
    torch.manual_seed(0)
    net = nn.ModuleDict({"rnn": nn.GRU(8, 8), "output": nn.Linear(8, 8)})
    pruner = Pruner(net, Rule(Cubic(0, 60, 2, 0.5), scope=scope))
    for _ in range(10):
        pruner.step()
    before, dropped = pruner.masks(), pruner.sparsity()
    net["rnn"].weight_hh_l0.requires_grad_(False)
    pruner.step()  # no update
    with pytest.warns(PassedOver, match=r"rnn\.weight_hh_l0 was frozen after"):
        pruner.step()
    for _ in range(48):
        pruner.step()  # a second warning would be an error
    after = pruner.masks()
    changed = [name for name in after if not torch.equal(before[name], after[name])]
    assert changed == ["rnn.weight_ih_l0", "output.weight"]
    assert dropped < pruner.sparsity() < 0.5


def test_a_fixed_mask_keeps_the_zeros_of_frozen_weights_too():
    layer = nn.Linear(3, 2).requires_grad_(False)
    layer.weight[0, 1] = 0
    assert Pruner(layer, Rule(FixedMask())).sparsity() == pytest.approx(1 / 6)


def test_lazy_weight_without_a_shape_is_refused():
    with pytest.raises(AsrError, match="weight has no shape yet"):
        find(nn.LazyLinear(3))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_elements_is_not_pruned():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 0))
    assert Pruner(model, Rule(OneShot(1, 0.5))).names == ["0.weight"]


def test_a_single_layer_is_searched_too():
    assert list(find(nn.GRU(2, 3))) == ["weight_ih_l0", "weight_hh_l0"]
    assert find(nn.Linear(2, 3))["weight"].shape == torch.Size([3, 2])
