"""Networks on a stream: the state that goes from one piece to the next.

A convolution needs a few frames behind the one that it computes: that is the delay of a network.
So features are held until all outputs that need them are computed:

    features held         |......|ooooooooooo|......|       dots: what the kernels reach beside
                          ^ a multiple of the stride       ^ known so far

Behind the convolutions a network that runs forward only needs the states of its recurrent layers.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asr.features.settings import Frontend
from asr.features.stream import FeatureStream
from asr.model.dimensions import Model

Floats = NDArray[np.float32]


def why_not_exact(dimensions: Model, frontend: Frontend) -> str:
    """Why a stream of this network differs from the whole recording, in words; empty: it does not.

    >>> why_not_exact(Model(bidirectional=False), Frontend(normalise="running"))
    ''
    """
    if dimensions.bidirectional:
        return "the network is bidirectional: it needs what follows"
    if frontend.normalise not in ("running", "none"):
        return (
            f"features are normalised over what follows too (frontend.normalise="
            f"{frontend.normalise}; a network trained with running needs only the past)"
        )
    return ""


class StepwiseNetwork(Protocol):
    """A network that runs forward only, in two parts, of which the second carries a state."""

    def convolve(self, features: Floats, first: int, last: int) -> Floats:
        """Output frames `first` to `last` of the convolutions of `features (time, mels)`."""
        ...

    def recur(self, x: Floats, states: Any) -> tuple[Floats, Any]:
        """Log-probabilities of the next outputs of the convolutions; states before and after."""
        ...


class NetworkStream:
    """Log-probabilities of a waveform that comes in pieces: those of the whole waveform.

    A piece gives the frames that it completes. `look_ahead` says how far they are behind.
    """

    def __init__(
        self, network: StepwiseNetwork, dimensions: Model, features: FeatureStream
    ) -> None:
        assert not dimensions.bidirectional
        self._network, self._dimensions, self._features = network, dimensions, features
        self._held = np.zeros((0, dimensions.mels), np.float32)
        self._first = 0  # which output frame the first of the features held belongs to
        self._done = 0  # output frames computed
        self._states: Any = None

    def push(self, samples: Floats) -> Floats:
        """Log-probabilities `(frames, outputs)` that the next `(samples,)` complete."""
        stride, reach = self._dimensions.time_stride, look_ahead(self._dimensions)
        self._held = np.concatenate([self._held, self._features.push(samples)])
        known = self._first * stride + len(self._held)
        log_probs = self._advance(max(known - reach - 1, -1) // stride + 1)
        # What the next output frame reads, from a multiple of the stride on.
        first = max(min(self._done - -(-reach // stride), known // stride), self._first)
        self._held = self._held[(first - self._first) * stride :]
        self._first = first
        return log_probs

    def finish(self) -> Floats:
        """The remaining log-probabilities, now that the waveform has ended."""
        return self._advance(self._first + self._dimensions.output_length(len(self._held)))

    def _advance(self, count: int) -> Floats:
        """Compute the output frames before `count` that are not done yet."""
        if count <= self._done:
            return np.zeros((0, self._dimensions.outputs), np.float32)
        x = self._network.convolve(self._held, self._done - self._first, count - self._first)
        log_probs, self._states = self._network.recur(x, self._states)
        self._done = count
        return log_probs


def look_ahead(dimensions: Model) -> int:
    """Feature frames behind the frame of an output that its convolutions reach.

    >>> look_ahead(Model(conv_kernels=[[11, 5], [5, 5]], conv_strides=[[2, 2], [2, 2]]))
    6
    """
    reach, stride = 0, 1
    for kernel, step in zip(dimensions.conv_kernels, dimensions.conv_strides, strict=True):
        reach += (kernel[1] - 1) // 2 * stride
        stride *= step[1]
    return reach
