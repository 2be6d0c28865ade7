"""The convolutions of Deep Speech without torch: dense in C, pruned ones as sparse products.

An utterance is computed in strips of some output frames, all layers of a strip one after the
other, so that what lies between the layers stays in the cache and memory does not grow with the
recording. Strips are independent: each reads the few frames beside it that its kernels reach.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from asr.sparse.kernels import prepare
from asr.sparse.kernels.library import LEVELS, library
from asr.sparse.rows import from_dense

CLIP = 20.0
"""Upper bound of the clipped ReLU, as in `asr.layers`."""
STRIP = 64
"""Output frames of a strip: two layers of 32 channels then fit the second-level cache."""
SPARSE_FROM = 0.8
"""Share of zeros from which copying out the patches for a sparse product pays."""
SPARSE_TAPS = 256
"""Weights of an output channel from which it may pay at all."""
_PADDED = 16  # channels that asr/native/sparse/convolution.c fills up to

Floats = NDArray[np.float32]


def sparse_pays(zeros: float, taps: int) -> bool:
    """Whether a convolution runs as a sparse product: by its share of zeros and its size.

    `taps` are the weights of an output channel.
    """
    return library() is not None and zeros >= SPARSE_FROM and taps >= SPARSE_TAPS


def dense_name(level: int) -> str:
    """What a convolution that runs densely is called in descriptions."""
    return f"dense, {LEVELS[level] if library() else 'numpy'}"


@dataclass
class Convolution:
    """One convolution with bias and clipped ReLU, prepared for this processor; thread-safe.

    `weight (channels, inputs, bands, frames)`, `bias (channels,)`, `stride` in bands and frames.
    """

    weight: Floats = field(repr=False)
    bias: Floats = field(repr=False)
    stride: tuple[int, int]
    level: int
    """Instruction set, an index of `LEVELS`."""
    exact: bool = False
    """Only kernels that compute in fp32."""
    sparse: bool | None = None
    """As a sparse product; None: where that pays."""
    kernel: str = field(init=False)
    """What computes it: the name of a sparse kernel, or `dense` with its instruction set."""

    def __post_init__(self) -> None:
        channels, inputs, _, frames = self.weight.shape
        self.bias = np.ascontiguousarray(self.bias, np.float32)
        self._taps = frames * inputs
        # In the order in which the taps lie in memory: (channels, bands, frames x inputs).
        rows = self.weight.transpose(0, 2, 3, 1).reshape(channels, -1)
        rows = np.ascontiguousarray(rows, np.float32)
        if self.sparse is None:
            zeros = 1.0 - np.count_nonzero(rows) / rows.size
            self.sparse = sparse_pays(float(zeros), rows.shape[1])
        self._product: Callable[[Floats], Floats] | None = None
        if self.sparse:
            matrix = prepare(from_dense(rows), exact=self.exact, level=LEVELS[self.level])
            self._product = lambda patches: matrix(patches, self.bias)
            self.kernel = matrix.kernel
        elif library() is None:
            columns = np.ascontiguousarray(rows.T)
            self._product = lambda patches: patches @ columns + self.bias
            self.kernel = dense_name(self.level)
        else:
            missing = -channels % _PADDED
            self._packed = np.ascontiguousarray(np.pad(rows.T, ((0, 0), (0, missing))))
            self._packed_bias = np.pad(self.bias, (0, missing))
            self.kernel = dense_name(self.level)

    @property
    def reach(self) -> tuple[int, int]:
        """Bands and frames that a kernel sees before the place of its output."""
        return (self.weight.shape[2] - 1) // 2, (self.weight.shape[3] - 1) // 2

    def __call__(self, x: Floats, y: Floats) -> None:
        """Fill `y (bands', frames, channels)`, of any strides, from `x (bands, frames, inputs)`.

        Frame t of `y` reads the frames of `x` from `t * stride` on; what is beyond an edge of the
        bands counts as zero. A band of `x` lies in one piece.
        """
        if self._product is None:
            self._dense(x, y)
            return
        bands, frames = y.shape[:2]
        patches = np.empty((frames, self.weight.shape[2], self._taps), np.float32)
        step, inputs = self.stride[1], x.shape[2]
        windows = as_strided(
            x, (len(x), frames, self._taps), (x.strides[0], step * inputs * 4, 4), writeable=False
        )
        for band in range(bands):
            top = band * self.stride[0] - self.reach[0]
            for i in range(self.weight.shape[2]):
                inside = 0 <= top + i < len(x)
                patches[:, i] = windows[top + i] if inside else 0.0
            np.clip(self._product(patches.reshape(frames, -1)), 0.0, CLIP, out=y[band])

    def _dense(self, x: Floats, y: Floats) -> None:
        found = library()
        assert found is not None
        found.asr_convolution(
            ctypes.c_int32(self.level),
            ctypes.c_void_p(x.ctypes.data),
            *map(ctypes.c_int64, (len(x), x.strides[0] // 4, self.stride[1] * x.shape[2])),
            ctypes.c_void_p(self._packed.ctypes.data),
            ctypes.c_void_p(self._packed_bias.ctypes.data),
            *map(ctypes.c_int64, (self.weight.shape[2], self._taps, len(self.bias))),
            *map(ctypes.c_int64, (self.stride[0], self.reach[0])),
            ctypes.c_void_p(y.ctypes.data),
            *map(ctypes.c_int64, (*y.shape[:2], *(stride // 4 for stride in y.strides))),
            ctypes.c_float(0.0),
            ctypes.c_float(CLIP),
        )


class ConvolutionStack:
    """All convolutions of a network, one utterance at a time."""

    def __init__(self, layers: Sequence[Convolution]) -> None:
        self.layers = list(layers)

    def lengths(self, frames: int) -> list[int]:
        """Frames of an utterance before each layer and behind the last one."""
        found = [frames]
        for layer in self.layers:
            found.append(-(-found[-1] // layer.stride[1]))
        return found

    def strip(self, features: Floats, first: int, last: int, out: Floats) -> None:
        """Fill `out (last - first, channels x bands)`: output frames `first` to `last`.

        `features (frames, mels)` are those of the whole utterance.
        """
        lengths = self.lengths(len(features))
        ranges = [(first, last)]
        for layer in reversed(self.layers):
            start, stop = ranges[0]
            step, reach = layer.stride[1], layer.reach[1]
            stop = (stop - 1) * step - reach + layer.weight.shape[3]
            ranges.insert(0, (start * step - reach, stop))

        (start, stop), bands = ranges[0], features.shape[1]
        x = np.zeros((bands, stop - start, 1), np.float32)
        inside = slice(max(start, 0), min(stop, lengths[0]))
        x[:, inside.start - start : inside.stop - start, 0] = features[inside].T
        for i, layer in enumerate(self.layers, 1):
            channels, bands = len(layer.bias), -(-bands // layer.stride[0])
            start, stop = ranges[i]
            if i == len(self.layers):  # channel by channel, its bands side by side
                y = out.reshape(stop - start, channels, bands).transpose(2, 0, 1)
            else:
                y = np.zeros((bands, stop - start, channels), np.float32)
            # Frames beyond the utterance are the zeros that the next kernel expects there.
            low, high = max(start, 0), min(stop, lengths[i])
            skipped = (low - start) * layer.stride[1]
            layer(x[:, skipped:], y[:, low - start : high - start])
            x = y

    def strips(self, frames: int) -> list[tuple[int, int]]:
        """First and last output frames of the strips of an utterance of `frames` frames."""
        count = self.lengths(frames)[-1]
        return [(first, min(first + STRIP, count)) for first in range(0, count, STRIP)]
