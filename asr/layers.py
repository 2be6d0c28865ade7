"""The layers of Deep Speech 2: convolution, recurrence, batch norm that ignores padding.

Every layer takes a mask of the valid frames, and what lies beyond an utterance's length never
reaches its own or another utterance's valid frames.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr import recurrence
from asr.recurrence import FrameOrder, reverse
from asr.settings import Cell, Model

CLIP = 20.0
"""Upper bound of the clipped ReLU after a convolution (Deep Speech 2)."""

GATES: dict[Cell, int] = {"gru": 3, "lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}
"""Matrices of `hidden` rows that torch stacks in one weight of each cell."""


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """Which frames lie inside their utterance: `(batch, frames)` bool."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class MaskedBatchNorm(nn.Module):
    """Batch norm whose statistics are those of the valid frames alone ("sequence-wise").

    Same parameters, buffers and arithmetic as `nn.BatchNorm1d`: the biased variance normalises,
    the unbiased one goes into the running average. `dim` is the dimension of the features. A batch
    with one valid frame gives `bias` and leaves finite running statistics. What it writes outside
    the mask is finite and not zero.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, features: int, dim: int = -1, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__()
        self.features, self.dim, self.eps, self.momentum = features, dim, eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def extra_repr(self) -> str:
        return f"{self.features}, dim={self.dim}, eps={self.eps}, momentum={self.momentum}"

    def affine(self) -> tuple[Tensor, Tensor]:
        """The scale and shift that this norm is in evaluation: `(features,)` each."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`mask` is a bool that broadcasts to `x`, one element in the features' dimension."""
        shape = [1] * x.dim()
        shape[self.dim] = self.features
        if self.training:
            scale, shift = self._batch_affine(x, mask)
        else:
            scale, shift = self.affine()
        return torch.addcmul(shift.view(shape).to(x.dtype), x, scale.view(shape).to(x.dtype))

    def _batch_affine(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        dims = [d for d in range(x.dim()) if d != self.dim % x.dim()]
        x32 = x.float()
        per_frame = x.numel() // (self.features * mask.numel())
        count = (mask.sum() * per_frame).clamp(min=1)
        shape = [1] * x.dim()
        shape[self.dim] = self.features
        mean = torch.where(mask, x32, 0.0).sum(dims) / count
        var = torch.where(mask, x32 - mean.view(shape), 0.0).square().sum(dims) / count
        with torch.no_grad():
            unbiased = var * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(var + self.eps)
        return scale, self.bias - mean * scale


class ConvolutionLayer(nn.Module):
    """Convolution over bands and frames, batch norm, ReLU clipped at 20; padding written as zero.

    Takes and gives `(batch, channels, bands, frames)`. `frames` become `ceil(frames / stride)` for
    every utterance by itself, so a zero beyond its length is the same as the edge of the tensor.
    """

    def __init__(self, channels_in: int, dimensions: Model, index: int) -> None:
        super().__init__()
        kernel, stride = dimensions.conv_kernels[index], dimensions.conv_strides[index]
        channels = dimensions.conv_channels[index]
        self.convolution = nn.Conv2d(
            channels_in,
            channels,
            (kernel[0], kernel[1]),
            stride=(stride[0], stride[1]),
            padding=((kernel[0] - 1) // 2, (kernel[1] - 1) // 2),
            bias=not dimensions.batch_norm,
        )
        nn.init.kaiming_normal_(self.convolution.weight, nonlinearity="relu")
        if self.convolution.bias is not None:
            nn.init.zeros_(self.convolution.bias)
        self.norm = MaskedBatchNorm(channels, dim=1) if dimensions.batch_norm else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`mask (batch, 1, 1, frames)` is that of the output."""
        x = self.convolution(x)
        if self.norm is not None:
            x = self.norm(x, mask)
        return F.hardtanh(x, 0.0, CLIP).masked_fill(~mask, 0.0)


class RecurrentLayer(nn.Module):
    """Batch norm, then one recurrent cell for each direction, summed or side by side.

    The directions are two plain one-way torch layers, `forward_cell` and `backward_cell`. The
    latter gets each utterance turned round within its own length, so that padding always comes
    last and needs no packed sequences. With `shared_input` both have the same `weight_ih_l0`, one
    parameter, as in the paper's network (section 2.1 there).

    The paper clips its ReLU at 20; `nn.RNN` cannot, so `rnn_relu` is the plain ReLU and starts
    from a recurrent matrix that shrinks.
    """

    def __init__(self, inputs: int, dimensions: Model, dropout: float) -> None:
        super().__init__()
        self.norm = MaskedBatchNorm(inputs) if dimensions.batch_norm else None
        self.dropout = nn.Dropout(dropout)
        self.concat = dimensions.combine == "concat"
        self.forward_cell = make_cell(inputs, dimensions)
        self.backward_cell = make_cell(inputs, dimensions) if dimensions.bidirectional else None
        self.shared_input = dimensions.shared_input
        self._tie()
        self.register_load_state_dict_pre_hook(self._complete)
        self.register_load_state_dict_post_hook(lambda layer, _: layer._tie())

    def _tie(self) -> None:
        if self.shared_input and self.backward_cell is not None:
            self.backward_cell.weight_ih_l0 = self.forward_cell.weight_ih_l0

    @staticmethod
    def _complete(layer: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """A file may hold the tied matrix once, under its first name."""
        if layer.shared_input and f"{prefix}forward_cell.weight_ih_l0" in state:
            first = state[f"{prefix}forward_cell.weight_ih_l0"]
            state.setdefault(f"{prefix}backward_cell.weight_ih_l0", first)

    def forward(self, x: Tensor, mask: Tensor, order: FrameOrder) -> Tensor:
        """`x (batch, frames, inputs)`, `mask (batch, frames, 1)`."""
        if self.norm is not None:
            x = self.norm(x, mask)
        x = self.dropout(x)
        cells = [self.forward_cell]
        if self.backward_cell is not None:
            cells.append(self.backward_cell)
        if recurrence.supports(cells, x):
            states = recurrence.run(cells, x, order)
            return states.flatten(2) if self.concat else states.sum(2)
        ahead: Tensor = self.forward_cell(x)[0]
        if self.backward_cell is None:
            return ahead
        back = reverse(self.backward_cell(reverse(x, order))[0], order)
        return torch.cat([ahead, back], dim=-1) if self.concat else ahead + back


def make_cell(inputs: int, dimensions: Model) -> nn.RNNBase:
    """One direction of a recurrent layer, initialised.

    Glorot input and orthogonal recurrent matrices gate by gate, biases zero, forget gates of an
    LSTM one; the recurrent matrix of `rnn_relu` is scaled by 0.9.
    """
    hidden = dimensions.hidden
    cell: nn.RNNBase
    if dimensions.cell == "gru":
        cell = nn.GRU(inputs, hidden, batch_first=True)
    elif dimensions.cell == "lstm":
        cell = nn.LSTM(inputs, hidden, batch_first=True)
    else:
        nonlinearity = dimensions.cell.removeprefix("rnn_")
        cell = nn.RNN(inputs, hidden, nonlinearity=nonlinearity, batch_first=True)
    tensors = dict(cell.named_parameters())
    if tensors["weight_hh_l0"].is_meta:
        return cell
    with torch.no_grad():
        for gate in tensors["weight_ih_l0"].split(hidden):
            nn.init.xavier_uniform_(gate)
        for gate in tensors["weight_hh_l0"].split(hidden):
            nn.init.orthogonal_(gate, 0.9 if dimensions.cell == "rnn_relu" else 1.0)
        tensors["bias_ih_l0"].zero_()
        tensors["bias_hh_l0"].zero_()
        if dimensions.cell == "lstm":
            tensors["bias_ih_l0"][hidden : 2 * hidden] = 1.0
    return cell


class OutputLayer(nn.Module):
    """Batch norm and linear layer to the log-probabilities of the symbols, float32 always."""

    def __init__(self, dimensions: Model) -> None:
        super().__init__()
        inputs = dimensions.layer_outputs
        self.norm = MaskedBatchNorm(inputs) if dimensions.batch_norm else None
        self.dropout = nn.Dropout(dimensions.dropout)
        self.linear = nn.Linear(inputs, dimensions.outputs)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x (batch, frames, inputs)`, `mask (batch, frames, 1)`; zeros outside the mask."""
        if self.norm is not None:
            x = self.norm(x, mask)
        scores = self.linear(self.dropout(x))
        return F.log_softmax(scores.float(), dim=-1).masked_fill(~mask, 0.0)
