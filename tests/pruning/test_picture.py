"""The picture of a pruned model shows its figures and its pattern."""

import io

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import nn

from asr.errors import AsrError
from asr.pruning.picture import PANELS, density, draw


@pytest.fixture
def model():
    """A GRU of 64 units whose hidden weights are zero except the first row of each gate."""
    torch.manual_seed(0)
    net = nn.ModuleDict({"rnn": nn.GRU(6, 64), "output": nn.Linear(64, 3)})
    with torch.no_grad():
        for gate in net["rnn"].weight_hh_l0.chunk(3):
            gate[1:] = 0.0
    return net


def drawn(figure):
    """The figure as pixels of a PNG, (height, width, 4)."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=60)
    return matplotlib.image.imread(io.BytesIO(file.getvalue()))


def test_cells_hold_the_fraction_of_non_zero_weights():
    weight = torch.zeros(3, 5)
    weight[0, :2] = torch.tensor([0.5, -2.0])
    weight[2, 4] = 1.0
    assert density(weight, 1).tolist() == (weight != 0).float().tolist()
    assert density(weight, 2).tolist() == [[0.5, 0, 0], [0, 0, 1]]
    assert density(weight.view(3, 5, 1), 3) == pytest.approx(np.array([[2 / 9, 1 / 6]]))


def test_bars_show_every_tensor_with_its_fraction_and_panels_only_sparse_ones(model):
    figure = draw(model, title="network")
    bars, panel = figure.subfigs[0].axes[0], figure.subfigs[1].axes[0]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([0, 98.4375, 0])
    names = [label.get_text() for label in bars.get_yticklabels()]
    assert names == ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "output.weight"]
    assert bars.get_title("left").startswith("network: prunable tensors ")
    assert panel.get_title("left") == "rnn.weight_hh_l0  64x64  98.4%"
    assert [label.get_text() for label in panel.get_xticklabels()] == ["reset", "update", "new"]
    image = panel.images[0].get_array()
    assert image.shape == (64, 3 * 64 + 2)
    assert image[0].sum() == 3 * 64
    assert image[1:].sum() == 0
    assert drawn(figure).shape[1] == 660


def test_dark_is_where_weights_are(model):
    figure = draw(model)
    pixels = drawn(figure)[..., :3].mean(axis=2)
    box = figure.subfigs[1].axes[0].get_window_extent()
    scale = pixels.shape[0] / figure.bbox.height
    top, bottom = (round(pixels.shape[0] - y * scale) for y in (box.y1, box.y0))
    left, right = round(box.x0 * scale), round(box.x1 * scale)
    panel = pixels[top:bottom, left:right]
    middle = len(panel) // 2
    assert panel[:2, 5:50].min() < 0.5 < 0.9 < panel[middle:, 5:50].min()


def test_a_weight_that_is_tied_to_an_embedding_is_drawn():
    embedding, output = nn.Embedding(32, 16), nn.Linear(16, 32, bias=False)
    output.weight = embedding.weight
    with torch.no_grad():
        output.weight[:, 8:] = 0.0
    assert drawn(draw(nn.ModuleDict({"embedding": embedding, "output": output}))).size


def test_a_model_without_zeros_has_only_bars():
    figure = draw(nn.Linear(3, 4))
    assert figure.subfigs[1].axes == []
    assert figure.subfigs[1].get_suptitle() == "no tensor has a zero"


def test_of_many_tensors_the_first_are_drawn_with_a_note():
    weights = {f"{i}.weight": torch.eye(4) for i in range(PANELS + 3)}
    figure = draw(weights)
    assert len([axes for axes in figure.subfigs[1].axes if axes.get_visible()]) == PANELS
    assert f"{PANELS} of {PANELS + 3} tensors with zeros" in figure.subfigs[1].get_suptitle()


def test_patterns_choose_and_a_wrong_one_is_refused(model):
    figure = draw(model.state_dict(), ["output*"])
    assert len(figure.subfigs[0].axes[0].patches) == 1
    with pytest.raises(AsrError, match=r"matches 'lstm\*'; there are:"):
        draw(model, ["lstm*"])
