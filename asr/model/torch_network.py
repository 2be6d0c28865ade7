"""Deep Speech 2 with CTC outputs, rebuilt from one dataclass of dimensions.

Convolutions over the spectrogram, recurrent layers, a linear layer to the tokens: the network that
Narang et al. 2017 prune (arXiv 1704.05119), in widths that train on a laptop.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr.model import torch_sparse  # noqa: F401  # makes its layer known to `sparsify`
from asr.model.dimensions import Model
from asr.model.torch_layers import (
    ConvolutionLayer,
    OutputLayer,
    RecurrentLayer,
    valid_frames,
)
from asr.model.torch_recurrence import FrameOrder


class DeepSpeech(nn.Module):
    """Features to log-probabilities of tokens.

    Names of its tensors begin with `conv.`, `rnn.` or `output.`. The result for an utterance does
    not depend on its padding, nor on the others of its batch (in training it does, through the
    statistics of the batch norms; they ignore padding too).

    >>> import torch
    >>> from asr.model.dimensions import Model
    >>> network = DeepSpeech(Model(hidden=16, layers=1)).eval()
    >>> log_probs, lengths = network(torch.zeros(2, 100, 80), torch.tensor([100, 60]))
    >>> list(log_probs.shape), lengths.tolist()
    ([2, 25, 29], [25, 15])
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

        `features (batch, time, mels)` float32 and `lengths (batch,)` in frames; values beyond a
        length are ignored. Returns `log_probs (batch, time', outputs)` float32, natural
        logarithms, exactly zero beyond a length, and `lengths' (batch,)`, both by
        `dimensions.output_length`. The blank is index 0.
        """
        x, mask, lengths = self._convolve(features, lengths)
        order = FrameOrder(lengths, x.shape[1])
        for layer in self.rnn:
            x = layer(x, mask, order)
        return self.output(x, mask), lengths

    def keep_zeros(self, masks: Mapping[str, Tensor] | None) -> None:
        """Train recurrent layers on what is left of their weights from now on; None: on all.

        Where it is faster: on a CPU, for GRU and RNN layers with less than a fifth of their
        weights, in float32. masks: by the names of `named_parameters`, bool, True for a weight that
        stays; the others must be zero and stay so. Weights without a mask all stay. It changes no
        result but by rounding, and nothing in evaluation.
        """
        names = {id(weight): name for name, weight in self.named_parameters()}

        def mask(weight: Tensor) -> Tensor:
            found = (masks or {}).get(names[id(weight)])
            return torch.ones_like(weight, dtype=torch.bool) if found is None else found

        for layer in cast("list[RecurrentLayer]", list(self.rnn)):
            pairs = [
                (mask(cast(Tensor, cell.weight_ih_l0)), mask(cast(Tensor, cell.weight_hh_l0)))
                for cell in layer.cells
            ]
            layer.keep_zeros(None if masks is None else pairs)

    def _convolve(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs `(batch, time', conv_features)` of the convolutions, their mask and lengths."""
        mask = valid_frames(lengths, features.shape[1])
        x = features.masked_fill(~mask[:, :, None], 0.0).transpose(1, 2).contiguous()[..., None]
        for layer, (_, stride) in zip(self.conv, self.dimensions.conv_strides, strict=True):
            lengths = (lengths + stride - 1) // stride
            mask = valid_frames(lengths, -(-x.shape[2] // stride))
            x = layer(x, mask)
        # Channel by channel, its bands side by side.
        return x.permute(0, 2, 3, 1).flatten(2), mask, lengths

    def convolve(self, features: Tensor, first: int, last: int) -> Tensor:
        """Output frames `first` to `last` of the convolutions of one utterance's `(time, mels)`.

        For streams, in evaluation mode; returns `(last - first, conv_features)`.
        """
        length = torch.tensor([len(features)], device=features.device)
        return self._convolve(features[None], length)[0][0, first:last]

    def recur(self, x: Tensor, states: Any) -> tuple[Tensor, Any]:
        """Log-probabilities `(frames, outputs)` of the next frames of a stream, and states.

        `x (frames, conv_features)` come from `convolve`, `states` from the call before; None: these
        are the first. The network must run forward only and be in evaluation mode.
        """
        after = []
        for i, layer in enumerate(self.rnn):
            x, state = cast(RecurrentLayer, layer).step(x, states[i] if states else None)
            after.append(state)
        mask = torch.ones(1, len(x), dtype=torch.bool, device=x.device)
        return self.output(x[None], mask)[0], after


def from_arrays(arrays: Mapping[str, NDArray[Any]], dimensions: Model) -> DeepSpeech:
    """A network in evaluation mode with a copy of these tensors, named as in its `state_dict()`.

    Raises RuntimeError, as `load_state_dict` does, for tensors that do not fit the dimensions.
    """
    with torch.device("meta"):
        model = DeepSpeech(dimensions)
    state = {name: torch.tensor(array) for name, array in arrays.items()}
    model.load_state_dict(state, assign=True)
    return model.eval()
