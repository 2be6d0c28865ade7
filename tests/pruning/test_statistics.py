"""Three figures with three names, and the sparsity of each gate."""

import pytest
import torch
from torch import nn

from asr.errors import AsrError
from asr.pruning.statistics import statistics


@pytest.fixture
def model():
    """A GRU of 4 units whose update gate is zero and reset gate half zero, and a Linear."""
    net = nn.ModuleDict({"rnn": nn.GRU(2, 4), "norm": nn.LayerNorm(4), "output": nn.Linear(4, 3)})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
        net["rnn"].weight_hh_l0[4:8] = 0.0
        net["rnn"].weight_hh_l0[:4, :2] = -0.0
    return net


def test_three_figures_count_tensor_prunable_and_model(model):
    stats = statistics(model, ["rnn*"])
    by_name = {t.name: t for t in stats.tensors}
    hidden = by_name["rnn.weight_hh_l0"]
    assert (hidden.shape, hidden.elements, hidden.nonzeros) == ((12, 4), 48, 24)
    assert hidden.sparsity == 0.5
    assert (stats.prunable_parameters, stats.prunable_nonzeros) == (72, 48)
    assert stats.prunable_sparsity == pytest.approx(24 / 72)
    total = 72 + 24 + 8 + 12 + 3
    assert (stats.parameters, stats.nonzeros) == (total, total - 24)
    assert stats.model_sparsity == pytest.approx(24 / total)


def test_gates_are_counted_apart(model):
    gates = {t.name: t.gates for t in statistics(model).tensors}
    assert gates["rnn.weight_hh_l0"] == {"reset": 0.5, "update": 1.0, "new": 0.0}
    assert gates["rnn.weight_ih_l0"] == {"reset": 0.0, "update": 0.0, "new": 0.0}
    assert gates["output.weight"] == {}


@pytest.mark.parametrize(
    ("module", "gates"),
    [
        (nn.LSTM(5, 4, bidirectional=True), ["input", "forget", "cell", "output"]),
        (nn.LSTM(5, 4, proj_size=2), ["input", "forget", "cell", "output"]),
        (nn.LSTMCell(5, 4), ["input", "forget", "cell", "output"]),
        (nn.GRUCell(5, 4), ["reset", "update", "new"]),
        (nn.RNN(5, 4), []),
    ],
)
def test_gates_are_those_of_the_cell(module, gates):
    for tensor in statistics(module).tensors:
        assert list(tensor.gates) == ([] if "_hr_" in tensor.name else gates)


def test_patterns_choose_what_counts_as_prunable(model):
    stats = statistics(model, ["output*"])
    assert [t.name for t in stats.tensors] == ["output.weight"]
    assert stats.prunable_sparsity == 0.0
    assert stats.model_sparsity > 0.0


def test_state_dict_counts_as_its_model(model):
    state = dict(model.state_dict())
    assert statistics(state, ["rnn*"]) == statistics(model, ["rnn*"])


@pytest.mark.parametrize("sizes", [{}, {"kdim": 6, "vdim": 4}])
def test_weights_of_attention_count_by_name_too(sizes):
    attention = nn.MultiheadAttention(8, 2, **sizes)
    names = [t.name for t in statistics(attention).tensors]
    assert len(names) == (4 if sizes else 2)
    assert [t.name for t in statistics(attention.state_dict()).tensors] == names


def test_a_state_whose_weights_are_all_computed_is_refused_in_plain_words():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    with pytest.raises(AsrError, match=r"no prunable weight among .*remove_parametrizations"):
        statistics(layer.state_dict())


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_elements_is_left_out():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 0))
    for given in (model, model.state_dict()):
        found = statistics(given)
        assert [t.name for t in found.tensors] == ["0.weight"]
        assert "0.00%" in found.table()


def test_tied_parameter_counts_once():
    net = nn.ModuleDict({"f": nn.GRU(2, 3, bias=False), "b": nn.GRU(2, 3, bias=False)})
    net["b"].weight_ih_l0 = net["f"].weight_ih_l0
    stats = statistics(net)
    assert stats.parameters == stats.prunable_parameters == 18 + 27 + 27


def test_table_shows_each_tensor_and_both_totals(model):
    lines = statistics(model, ["rnn*"]).table().splitlines()
    assert lines[2].split()[:5] == ["rnn.weight_hh_l0", "recurrent", "48", "24", "50.00%"]
    assert lines[2].endswith("(reset 50.0%, update 100.0%, new 0.0%; 4 empty rows)")
    assert [line.split()[:4] for line in lines[3:5]] == [
        ["all", "input", "24", "24"],
        ["all", "recurrent", "48", "24"],
    ]
    assert lines[-2].split() == ["prunable", "tensors", "72", "48", "33.33%"]
    assert lines[-1].split() == ["whole", "model", "119", "95", "20.17%"]


def test_empty_rows_and_columns_are_counted(model):
    with torch.no_grad():
        model["rnn"].weight_ih_l0[:, 1] = 0.0
        model["output"].weight[2] = 0.0
    empty = {t.name: (t.empty_rows, t.empty_columns) for t in statistics(model).tensors}
    assert empty == {
        "rnn.weight_ih_l0": (0, 1),
        "rnn.weight_hh_l0": (4, 0),
        "output.weight": (1, 0),
    }


def test_layers_and_groups_add_up_their_tensors():
    net = nn.ModuleDict({"rnn": nn.LSTM(2, 4, 2, bidirectional=True), "out": nn.Linear(8, 3)})
    with torch.no_grad():
        net["rnn"].weight_hh_l1_reverse.zero_()
    stats = statistics(net)
    layers = stats.by_layer()
    assert list(layers) == ["rnn.l0", "rnn.l0_reverse", "rnn.l1", "rnn.l1_reverse", "out"]
    assert (layers["rnn.l1_reverse"].elements, layers["rnn.l1_reverse"].nonzeros) == (192, 128)
    assert layers["rnn.l1_reverse"].sparsity == pytest.approx(64 / 192)
    groups = stats.by_group()
    assert set(groups) == {"input", "recurrent", "linear"}
    assert sum(total.elements for total in groups.values()) == stats.prunable_parameters
    assert groups["recurrent"].sparsity == 0.25
    assert "layer rnn.l1_reverse" in stats.table()


def test_a_name_pattern_without_a_match_lists_the_names(model):
    for given in (model, model.state_dict()):
        with pytest.raises(AsrError, match=r"matches 'lstm\*'; there are:\n  rnn\.weight_ih_l0"):
            statistics(given, ["lstm*"])
