"""Single layers of the network: norms over the valid frames, cells, initialisation."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from asr.model.dimensions import Model
from asr.model.torch_layers import MaskedBatchNorm, RecurrentLayer
from asr.model.torch_network import DeepSpeech
from asr.model.torch_recurrence import FrameOrder

SMALL = Model(
    mels=20, outputs=7, conv_channels=[3, 4], conv_kernels=[[5, 3], [3, 5]], hidden=6, layers=2
)


def test_masked_norm_equals_batch_norm_of_the_concatenated_valid_frames():
    torch.manual_seed(0)
    for lengths in ([9, 9, 9], [9, 4, 1]):
        ours, theirs = MaskedBatchNorm(5), nn.BatchNorm1d(5)
        nn.init.uniform_(ours.weight)
        theirs.load_state_dict(ours.state_dict())
        mask = torch.arange(9) < torch.tensor(lengths)[:, None]
        for _ in range(2):
            x = (torch.randn(3, 9, 5) * 3 + 1).requires_grad_()
            y = ours(x, mask)
            (actual,) = torch.autograd.grad((y * y * y).sum(), x)
            packed = theirs(x[mask])
            (expected,) = torch.autograd.grad((packed * packed * packed).sum(), x)
            torch.testing.assert_close(y[mask], packed)
            assert not y[~mask].any()
            torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
        assert ours.num_batches_tracked == 2
        torch.testing.assert_close(ours.eval()(x, mask), theirs.eval()(x.mT).mT)


@pytest.mark.parametrize("valid", [0, 1])
def test_masked_norm_of_fewer_than_two_frames_is_finite_and_does_not_change_its_statistics(valid):
    norm = MaskedBatchNorm(3)
    nn.init.constant_(norm.bias, 0.25)
    before = copy.deepcopy(norm.state_dict())
    x = torch.randn(2, 4, 3, requires_grad=True)
    mask = torch.arange(8).view(2, 4) < valid
    y = norm(x, mask)
    y.sum().backward()
    torch.testing.assert_close(y[mask], torch.full((valid, 3), 0.25), atol=1e-3, rtol=0)
    assert x.grad is not None
    assert x.grad.isfinite().all()
    torch.testing.assert_close(norm.state_dict(), before)


def test_a_cell_with_hooks_is_called_itself():
    layer = RecurrentLayer(4, SMALL, dropout=0.0)
    seen: list[int] = []
    layer.forward_cell.register_forward_hook(lambda *_: seen.append(1))
    layer(
        torch.randn(1, 5, 4), torch.ones(1, 5, dtype=torch.bool), FrameOrder(torch.tensor([5]), 5)
    )
    assert seen == [1]


def test_a_new_lstm_remembers_and_a_new_relu_network_shrinks():
    lstm = DeepSpeech(dataclasses.replace(SMALL, cell="lstm")).rnn[0].forward_cell
    bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
    assert bias.tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12
    relu = DeepSpeech(dataclasses.replace(SMALL, cell="rnn_relu")).rnn[0].forward_cell
    torch.testing.assert_close(torch.linalg.svdvals(relu.weight_hh_l0), torch.full((6,), 0.9))
