"""The dimensions of the network: a model file rebuilds its network from these alone; no torch."""

import math
from dataclasses import dataclass, field
from typing import Literal

from asr.errors import problems

CellKind = Literal["gru", "lstm", "rnn_tanh", "rnn_relu"]

GATES: dict[CellKind, tuple[str, ...]] = {
    "gru": ("reset", "update", "new"),
    "lstm": ("input", "forget", "cell", "output"),
    "rnn_tanh": ("state",),
    "rnn_relu": ("state",),
}
"""Gates of each cell, `hidden` rows each, in the order in which torch stacks them in a weight."""

CLIP = 20.0
"""Upper bound of the clipped ReLU after a convolution (Deep Speech 2)."""

NORM_EPSILON = 1e-5
"""Added to the variance of a batch norm."""


@dataclass(frozen=True)
class Model:
    """Dimensions of the Deep Speech 2 network; section `model` of the settings.

    Raises AsrError, with all that is wrong at once, for values out of range.
    """

    mels: int = 80
    """Input features a frame; the same as `frontend.mels`."""
    outputs: int = 29
    """Tokens with the CTC blank (index 0); set from the tokenizer when training."""
    conv_channels: list[int] = field(default_factory=lambda: [32, 32])
    """Channels of the 1 to 3 convolutions."""
    conv_kernels: list[list[int]] = field(default_factory=lambda: [[11, 5], [5, 5]])
    """[bands, frames] of each kernel, odd numbers; the paper's are [41, 11] and [21, 11]."""
    conv_strides: list[list[int]] = field(default_factory=lambda: [[2, 2], [2, 2]])
    """[bands, frames] of each stride."""
    cell: CellKind = "gru"
    """Recurrent cell."""
    hidden: int = 256
    """State size of a recurrent layer in one direction."""
    layers: int = 3
    """Recurrent layers."""
    bidirectional: bool = True
    """Both directions of time, or forward only."""
    combine: Literal["sum", "concat"] = "sum"
    """How two directions are joined; the paper sums."""
    shared_input: bool = False
    """One input matrix for both directions, as in the paper; one tied parameter."""
    batch_norm: bool = True
    """Sequence-wise batch normalisation before each recurrent layer and after convolutions."""
    dropout: float = 0.0
    """Dropout before each recurrent layer but the first and before the output, training only."""

    def __post_init__(self) -> None:
        with problems() as check:
            n = len(self.conv_channels)
            check(
                1 <= n <= 3 and len(self.conv_kernels) == n and len(self.conv_strides) == n,
                f"model: conv_channels ({n}), conv_kernels ({len(self.conv_kernels)}) and "
                f"conv_strides ({len(self.conv_strides)}) must have the same length, 1 to 3",
            )
            for kernel in self.conv_kernels:
                check(
                    len(kernel) == 2 and all(k >= 1 and k % 2 == 1 for k in kernel),
                    f"model.conv_kernels: {list(kernel)} must be two odd numbers, [bands, frames]",
                )
            for stride in self.conv_strides:
                check(
                    len(stride) == 2 and all(s >= 1 for s in stride),
                    f"model.conv_strides: {list(stride)} must be two positive numbers",
                )
            for name in ("mels", "hidden", "layers"):
                check(getattr(self, name) >= 1, f"model.{name}={getattr(self, name)}: at least 1")
            check(all(c >= 1 for c in self.conv_channels), "model.conv_channels: at least 1 each")
            check(self.outputs >= 2, f"model.outputs={self.outputs}: at least a blank and a token")
            check(0 <= self.dropout < 1, f"model.dropout={self.dropout}: from 0 to below 1")
            check(
                self.bidirectional or not self.shared_input,
                "model.shared_input=true needs model.bidirectional=true: it has one direction only",
            )

    @property
    def time_stride(self) -> int:
        """Input frames an output frame advances by."""
        return math.prod(s[1] for s in self.conv_strides)

    def output_length(self, frames: int) -> int:
        """Output frames of `frames` input frames: the one place that knows the stride."""
        for _, stride in self.conv_strides:
            frames = -(-frames // stride)
        return frames

    @property
    def conv_features(self) -> int:
        """Features that the first recurrent layer gets from the last convolution."""
        bands = self.mels
        for stride, _ in self.conv_strides:
            bands = -(-bands // stride)
        return bands * self.conv_channels[-1]

    @property
    def layer_outputs(self) -> int:
        """Features that a recurrent layer gives to the next."""
        return self.hidden * (2 if self.bidirectional and self.combine == "concat" else 1)

    def cells(self, layer: int) -> list[str]:
        """Prefixes of the tensors of a recurrent layer's cells, forward first."""
        directions = ("forward", "backward") if self.bidirectional else ("forward",)
        return [f"rnn.{layer}.{direction}_cell" for direction in directions]

    def input_matrix(self, cell: str) -> str:
        """Name of a cell's input matrix; of a tied one its first name, which is always there."""
        owner = cell.replace("backward", "forward") if self.shared_input else cell
        return f"{owner}.weight_ih_l0"
