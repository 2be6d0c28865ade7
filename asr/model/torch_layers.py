"""The layers of Deep Speech 2: convolution, recurrence, batch norm that ignores padding.

Every layer takes a mask of the valid frames. What lies beyond an utterance's length reaches no
valid frame, neither its own nor another utterance's.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.model import torch_ranks
from asr.model import torch_recurrence as recurrence
from asr.model.dimensions import CLIP, GATES, NORM_EPSILON, Model
from asr.model.torch_recurrence import FrameOrder, reverse, sum_directions
from asr.sparse import torch_training
from asr.sparse.kernels import CellKind
from asr.sparse.torch_training import Keeps


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """Which frames lie inside their utterance: `(batch, frames)` bool."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class _Pick(torch.autograd.Function):
    """Some rows of a matrix, each at most once.

    So the gradient is a copy into zeros. That of `index_select` adds row by row instead, which is
    slow on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(x)
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        zeros = grad.new_zeros(ctx.rows, grad.shape[1])
        return zeros.index_copy_(0, ctx.saved_tensors[0], grad), None


class MaskedBatchNorm(nn.Module):
    """Batch norm whose statistics are those of the valid frames alone ("sequence-wise").

    Same parameters, buffers and arithmetic as `nn.BatchNorm1d` over the concatenated valid frames:
    the biased variance normalises, the unbiased one goes into the running average. A batch with
    fewer than two valid frames leaves the running statistics alone. With `over_ranks` a training
    takes the statistics of the batches of all its processes (torch.distributed) together.

    Batch normalisation over all time steps of a minibatch, as in Deep Speech 2, section 3.2.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    over_ranks = False

    def __init__(self, features: int, eps: float = NORM_EPSILON, momentum: float = 0.1) -> None:
        super().__init__()
        self.features, self.eps, self.momentum = features, eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def extra_repr(self) -> str:
        return f"{self.features}, eps={self.eps}, momentum={self.momentum}"

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x (..., features)`; `mask` is a bool that broadcasts to the dimensions before these.

        In training the result is zero outside the mask, in evaluation it is finite there.
        """
        rows = x.reshape(-1, self.features)
        if not self.training:
            return self._normalise(rows, False).view(x.shape)
        index = mask.expand(x.shape[:-1]).flatten().nonzero()[:, 0]
        if len(index) == len(rows):
            return self._normalise(rows, True).view(x.shape)
        picked = self._normalise(cast(Tensor, _Pick.apply(rows, index)), True)
        return picked.new_zeros(rows.shape).index_copy_(0, index, picked).view(x.shape)

    def _normalise(self, rows: Tensor, training: bool) -> Tensor:
        if training and self.over_ranks:
            self.num_batches_tracked.add_(1)
            statistics = (self.running_mean, self.running_var)
            scale = (self.weight, self.bias)
            return torch_ranks.batch_norm(rows, *scale, *statistics, self.momentum, self.eps)
        averages = not training or len(rows) >= 2  # one frame has no unbiased variance
        if training and averages:
            self.num_batches_tracked.add_(1)
        return torch.batch_norm(
            rows,
            self.weight,
            self.bias,
            self.running_mean if averages else None,
            self.running_var if averages else None,
            training,
            self.momentum,
            self.eps,
            torch.backends.cudnn.enabled,
        )


class ConvolutionLayer(nn.Module):
    """Convolution over bands and frames, batch norm, ReLU clipped at 20; padding written as zero.

    Takes and returns `(batch, bands, frames, channels)`, the order in which convolutions are
    fastest. `frames` become `ceil(frames / stride)` for each utterance by itself, so that zeros
    beyond its length are the same as the edge of the tensor.
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
        self.norm = MaskedBatchNorm(channels) if dimensions.batch_norm else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`mask (batch, frames)` is that of the output."""
        x = self.convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if self.norm is not None:
            x = self.norm(x, mask[:, None, :])
        x = F.hardtanh(x, 0.0, CLIP)
        if self.norm is not None and self.training:
            return x
        return x.masked_fill(~mask[:, None, :, None], 0.0)


class RecurrentLayer(nn.Module):
    """Batch norm, then one recurrent cell for each direction, summed or side by side.

    The directions are two plain unidirectional torch layers, `forward_cell` and `backward_cell`.
    The latter gets each utterance reversed within its own length, so that padding always comes
    last and no packed sequences are needed. With `shared_input` both have the same `weight_ih_l0`,
    one parameter, as in the network that Narang et al. prune (section 2.1 there).

    That paper clips its ReLU at 20, which `nn.RNN` cannot. So `rnn_relu` is the plain ReLU, and its
    recurrent matrix is initialised to shrink the state.
    """

    def __init__(self, inputs: int, dimensions: Model, dropout: float) -> None:
        super().__init__()
        self.norm = MaskedBatchNorm(inputs) if dimensions.batch_norm else None
        self.dropout = nn.Dropout(dropout)
        self.concat = dimensions.combine == "concat"
        self.forward_cell = make_cell(inputs, dimensions)
        self.backward_cell = make_cell(inputs, dimensions) if dimensions.bidirectional else None
        self.shared_input = dimensions.shared_input
        self.kind: str = dimensions.cell
        self._keeps: list[Keeps] | None = None
        self._tie()
        self.register_load_state_dict_pre_hook(self._complete)
        self.register_load_state_dict_post_hook(self._completed)

    def _tie(self) -> None:
        if self.shared_input and self.backward_cell is not None:
            self.backward_cell.weight_ih_l0 = self.forward_cell.weight_ih_l0

    @staticmethod
    def _complete(layer: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """Before loading: a file may hold the tied matrix once, under its first name."""
        if layer.shared_input and f"{prefix}forward_cell.weight_ih_l0" in state:
            first = state[f"{prefix}forward_cell.weight_ih_l0"]
            state.setdefault(f"{prefix}backward_cell.weight_ih_l0", first)

    @staticmethod
    def _completed(layer: Any, _: Any) -> None:
        """After loading: tie again what `assign=True` replaced. A method, as pickle needs."""
        layer._tie()

    @property
    def cells(self) -> list[nn.RNNBase]:
        """The forward cell, and the backward one if there is one."""
        return [self.forward_cell, *([self.backward_cell] if self.backward_cell else [])]

    def keep_zeros(self, masks: Sequence[tuple[Tensor, Tensor]] | None) -> None:
        """Train on the sparse kernels from now on, where that is faster; None: not any more.

        masks: of the input and of the recurrent matrix of each cell, bool, True for a weight that
        stays. The others must be zero; they get no gradients.
        """
        self._keeps = None
        on_cpu = masks is not None and all(m.device.type == "cpu" for each in masks for m in each)
        if masks is not None and on_cpu and torch_training.supports(self.kind):
            kind = cast(CellKind, self.kind)
            keeps = [torch_training.Keeps(kind, *each) for each in masks]
            if all(each.density <= torch_training.DENSEST for each in keeps):
                self._keeps = keeps

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The next frames `x (frames, inputs)` of a stream, forward only, in evaluation mode.

        `state` is that of the cell after the frames before; None: these are the first.
        """
        assert self.backward_cell is None
        if self.norm is not None:
            x = self.norm(x, torch.ones(len(x), dtype=torch.bool, device=x.device))
        outputs, after = self.forward_cell(x, state)
        return outputs, after

    def forward(self, x: Tensor, mask: Tensor, order: FrameOrder) -> Tensor:
        """`x (batch, frames, inputs)`, `mask (batch, frames)`."""
        if self.norm is not None:
            x = self.norm(x, mask)
        x = self.dropout(x)
        cells = self.cells
        if recurrence.supports(cells, x):
            sparse = (
                torch.is_grad_enabled()
                and order.batch <= torch_training.WIDEST
                and x.dtype != torch.float64
            )
            states = recurrence.run(cells, x, order, self._keeps if sparse else None)
            return states.flatten(2) if self.concat else sum_directions(states)
        forward: Tensor = self.forward_cell(x)[0]
        if self.backward_cell is None:
            return forward
        backward = reverse(self.backward_cell(reverse(x, order))[0], order)
        return torch.cat([forward, backward], dim=-1) if self.concat else forward + backward


def make_cell(inputs: int, dimensions: Model) -> nn.RNNBase:
    """One direction of a recurrent layer, initialised.

    Gate by gate, input matrices are Glorot uniform and recurrent ones orthogonal, scaled by 0.9
    for `rnn_relu`. Biases are zero, but one for the forget gate of an LSTM.
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
            tensors["bias_ih_l0"].view(-1, hidden)[GATES["lstm"].index("forget")] = 1.0
    return cell


class OutputLayer(nn.Module):
    """Batch norm and linear layer to the log-probabilities of the tokens, always float32."""

    def __init__(self, dimensions: Model) -> None:
        super().__init__()
        inputs = dimensions.layer_outputs
        self.norm = MaskedBatchNorm(inputs) if dimensions.batch_norm else None
        self.dropout = nn.Dropout(dimensions.dropout)
        self.linear = nn.Linear(inputs, dimensions.outputs)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x (batch, frames, inputs)`, `mask (batch, frames)`; zeros outside the mask."""
        if self.norm is not None:
            x = self.norm(x, mask)
        scores = self.linear(self.dropout(x))
        return F.log_softmax(scores.float(), dim=-1).masked_fill(~mask[:, :, None], 0.0)
