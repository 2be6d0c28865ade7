"""The convolutions of Deep Speech without torch: dense in C, pruned ones as sparse products.

An utterance is computed in strips of `STRIP` output frames, all layers of a strip one after the
other. So what lies between the layers stays in the cache, and memory does not grow with the
recording. Strips are independent: each also reads the few frames beside it that its kernels reach,
and computes those of the layers in between again.

    output frames        |  strip 0  |  strip 1  |  strip 2  |
    frames of layer 1          |.....---------------.....|         for strip 1; dots: the reach
    input frames         |..........---------------------..........|
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from asr.model.dimensions import CLIP
from asr.sparse.csr import from_dense
from asr.sparse.kernels import LEVELS, Matrix, Values, library, prepare
from asr.sparse.kernels.layouts import pointer, scratch

STRIP = 64
"""Output frames of a strip: two layers of 32 channels then fit the second-level cache."""
SPARSE_FROM = 0.85
"""Fraction of zeros from which gathering the taps for a sparse product pays."""
SPARSE_TAPS = 256
"""Weights of an output channel from which it can pay at all."""
VALUES: Values = "fp16"
"""Lowest precision of a pruned convolution: what it rounds goes through all layers behind it."""
_PADDED = 16  # channels that asr/sparse/kernels/c/convolution.c fills up to
_PASS = 8  # frames that it multiplies at once

Floats = NDArray[np.float32]


def sparse_pays(zeros: float, taps: int) -> bool:
    """Whether a convolution runs as a sparse product: by its fraction of zeros and its size.

    `taps` are the weights of an output channel.
    """
    return library() is not None and zeros >= SPARSE_FROM and taps >= SPARSE_TAPS


def dense_name(level: int) -> str:
    """Name of a convolution that runs densely, for descriptions."""
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
    """Name of the sparse kernel that computes it, or `dense` with its instruction set."""

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
        self._matrix: Matrix | None = None
        if self.sparse or library() is None:
            kernel = None if self.sparse else "numpy"
            name = LEVELS[self.level]
            self._matrix = prepare(from_dense(rows), VALUES, self.exact, name, kernel)
        else:
            missing = -channels % _PADDED
            self._packed = np.ascontiguousarray(np.pad(rows.T, ((0, 0), (0, missing))))
            self._packed_bias = np.pad(self.bias, (0, missing))
        self.kernel = (
            self._matrix.kernel if self.sparse and self._matrix else dense_name(self.level)
        )

    @property
    def reach(self) -> tuple[int, int]:
        """Bands and frames that a kernel reads before the position of its output."""
        return (self.weight.shape[2] - 1) // 2, (self.weight.shape[3] - 1) // 2

    def __call__(self, x: Floats, y: Floats) -> None:
        """Fill `y (bands', frames, channels)`, of any strides, from `x (bands, frames, inputs)`.

        Frame t of `y` reads the frames of `x` from `t * stride` on, so `x` must hold the padding
        in time; what is beyond an edge of the bands counts as zero. Each band of `x` must be
        contiguous: the taps of a kernel row are then one run of `frames * inputs` floats.
        """
        matrix = self._matrix
        if matrix is not None and matrix.struct is None:
            self._by_numpy(matrix, x, y)
            return
        found = library()
        assert found is not None
        bands, frames = self.weight.shape[2], y.shape[1]
        shape = _Shape(
            *(len(x), x.strides[0] // 4, self.stride[1] * x.shape[2]),
            *(bands, self._taps, len(self.bias), self.stride[0], self.reach[0]),
            *(len(y), frames, *(stride // 4 for stride in y.strides)),
            *(0.0, CLIP),
        )
        if matrix is None:
            arrays = (pointer(x), pointer(self._packed), pointer(self._packed_bias), pointer(y))
            found.asr_convolution(self.level, ctypes.byref(shape), *arrays)
            return
        assert matrix.struct is not None
        pruned = ctypes.byref(matrix.struct)
        patches = scratch(_PASS * (bands * self._taps + len(self.bias)) * 4)
        table = scratch(found.asr_scratch(pruned))
        arrays = (pointer(x), pointer(self.bias), pointer(y), pointer(patches))
        found.asr_sparse_convolution(pruned, ctypes.byref(shape), *arrays, pointer(table))

    def _by_numpy(self, matrix: Matrix, x: Floats, y: Floats) -> None:
        bands, frames = self.weight.shape[2], y.shape[1]
        patches = np.empty((frames, bands, self._taps), np.float32)
        step = self.stride[1] * x.shape[2] * 4
        windows = as_strided(
            x, (len(x), frames, self._taps), (x.strides[0], step, 4), writeable=False
        )
        for band, out in enumerate(y):
            top = band * self.stride[0] - self.reach[0]
            for i in range(bands):
                patches[:, i] = windows[top + i] if 0 <= top + i < len(x) else 0.0
            np.clip(matrix(patches.reshape(frames, -1), self.bias), 0.0, CLIP, out=out)


class _Shape(ctypes.Structure):
    """The struct `shape` of asr/sparse/kernels/c/convolution.c: keep the two alike."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("bands_in", "x_band", "x_frame")),
        *((name, ctypes.c_int64) for name in ("kernel_bands", "taps", "channels")),
        *((name, ctypes.c_int64) for name in ("band_stride", "pad", "bands", "frames")),
        *((name, ctypes.c_int64) for name in ("y_band", "y_frame", "y_channel")),
        *((name, ctypes.c_float) for name in ("low", "high")),
    )


class ConvolutionStack:
    """All convolutions of a network, one utterance at a time; threads may share it."""

    def __init__(self, layers: Sequence[Convolution]) -> None:
        self.layers = list(layers)

    def lengths(self, frames: int) -> list[int]:
        """Frames of an utterance before each layer and after the last one."""
        found = [frames]
        for layer in self.layers:
            found.append(-(-found[-1] // layer.stride[1]))
        return found

    def strip(self, features: Floats, first: int, last: int, out: Floats) -> None:
        """Fill `out (last - first, channels x bands)`: output frames `first` to `last`.

        `features (frames, mels)` are those of the whole utterance.
        """
        lengths = self.lengths(len(features))
        # From the output back to the input: the frames of each layer that the strip depends on.
        # They may begin below 0 or end beyond the utterance, where all layers see zeros.
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
            # Only frames inside the utterance are computed. Beyond it the next kernel expects
            # zeros, and not what this layer would make of its own padding.
            low, high = max(start, 0), min(stop, lengths[i])
            skipped = (low - start) * layer.stride[1]
            layer(x[:, skipped:], y[:, low - start : high - start])
            x = y

    def strips(self, frames: int) -> list[tuple[int, int]]:
        """First and last output frames of the strips of an utterance of `frames` frames."""
        count = self.lengths(frames)[-1]
        return [(first, min(first + STRIP, count)) for first in range(0, count, STRIP)]
