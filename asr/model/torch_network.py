"""Deep Speech 2 with CTC outputs, rebuilt from one dataclass of dimensions.

Convolutions over the spectrogram, recurrent layers, a linear layer to symbols: the network that
Narang et al. 2017 prune (arXiv 1704.05119), in widths that train on a laptop.
"""

import dataclasses
import math

import torch
from torch import Tensor, nn

from asr.model import torch_sparse as sparse_recurrent  # noqa: F401  # makes its layer known to `sparsify`
from asr.model.dimensions import Model
from asr.model.shapes import parameter_shapes
from asr.model.torch_layers import (
    ConvolutionLayer,
    MaskedBatchNorm,
    OutputLayer,
    RecurrentLayer,
    valid_frames,
)
from asr.model.torch_recurrence import FrameOrder

__all__ = ["DeepSpeech", "count_parameters", "fold_batch_norm", "parameter_shapes"]


class DeepSpeech(nn.Module):
    """Features to log-probabilities of symbols; the names begin with `conv.`, `rnn.`, `output.`.

    The result for an utterance does not depend on the others in its batch or on its padding (in
    training only through the batch norms' statistics, which ignore padding too).
    """

    def __init__(self, dimensions: Model) -> None:
        super().__init__()
        self.dimensions = dimensions
        channels = [1, *dimensions.conv_channels]
        self.conv = nn.ModuleList(
            ConvolutionLayer(channels[i], dimensions, i) for i in range(len(channels) - 1)
        )
        inputs = [dimensions.conv_features] + [dimensions.layer_outputs] * (dimensions.layers - 1)
        self.rnn = nn.ModuleList(
            RecurrentLayer(n, dimensions, dimensions.dropout if i else 0.0)
            for i, n in enumerate(inputs)
        )
        self.output = OutputLayer(dimensions)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of every output frame.

        `features (batch, time, mels)` float32 and `lengths (batch,)` in frames; anything may
        stand beyond a length. Returns `log_probs (batch, time', outputs)` float32, natural
        logarithms, exactly zero beyond a length, and `lengths' (batch,)`, both by
        `dimensions.output_length`. The blank is index 0.
        """
        mask = valid_frames(lengths, features.shape[1])
        x = features.masked_fill(~mask[:, :, None], 0.0).transpose(1, 2).contiguous()[..., None]
        for layer, (_, stride) in zip(self.conv, self.dimensions.conv_strides, strict=True):
            lengths = (lengths + stride - 1) // stride
            mask = valid_frames(lengths, -(-x.shape[2] // stride))
            x = layer(x, mask)
        x = x.permute(0, 2, 3, 1).flatten(2)  # channel by channel, its bands side by side
        order = FrameOrder(lengths, x.shape[1])
        for layer in self.rnn:
            x = layer(x, mask, order)
        return self.output(x, mask), lengths


def count_parameters(model: nn.Module | Model) -> int:
    """Trainable parameters of a network or of dimensions alone; a tied matrix counts once."""
    if isinstance(model, Model):
        return sum(math.prod(shape) for shape in parameter_shapes(model).values())
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@torch.no_grad()
def fold_batch_norm(model: DeepSpeech) -> DeepSpeech:
    """An equal network in evaluation mode with the batch norms multiplied into the weights.

    Its dimensions have `batch_norm=False`. Weights that are zero stay zero, so a pruned network
    keeps its non-zeros. The given network is left as it is.
    """
    dimensions = dataclasses.replace(model.dimensions, batch_norm=False)
    state = {k: v.clone() for k, v in model.state_dict().items() if ".norm." not in k}
    for prefix, norm in model.named_modules():
        if not isinstance(norm, MaskedBatchNorm):
            continue
        layer = prefix.removesuffix(".norm")
        scale, shift = (t.double() for t in norm.affine())
        if layer.startswith("conv."):  # the norm comes after the convolution
            weight = state[f"{layer}.convolution.weight"]
            state[f"{layer}.convolution.bias"] = shift.to(weight.dtype)
            weight.copy_(weight * scale[:, None, None, None])
            continue
        for name in [name for name in state if name.startswith(f"{layer}.")]:
            if name.endswith((".weight_ih_l0", ".linear.weight")):
                weight, bias = state[name], state[name.replace("weight", "bias")]
                bias.add_((weight.double() @ shift).to(bias.dtype))
                weight.copy_(weight * scale)
    with torch.device("meta"):
        folded = DeepSpeech(dimensions)
    folded.load_state_dict(state, assign=True)
    return folded.eval()
