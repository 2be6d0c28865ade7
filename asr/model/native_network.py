"""The Deep Speech network on sparse kernels, without torch: `DeepSpeech` in evaluation mode."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.model.dimensions import Model
from asr.model.fold import fold_after, fold_before, norm_of
from asr.model.native_convolution import STRIP, Convolution, ConvolutionStack, Floats
from asr.model.shapes import check_shapes
from asr.sparse.csr import CsrMatrix, from_dense
from asr.sparse.kernels import Cell, Matrix, Recurrent, State, prepare, whole_passes
from asr.sparse.kernels import level as level_of

Tensors = Mapping[str, "CsrMatrix | NDArray[Any]"]


class Network:
    """A network laid out for this processor. Immutable, so that threads may share it.

    `tensors` are those of a model file by their names, matrices as `CsrMatrix` or dense; batch
    norms are folded into them. `exact` leaves out the kernels that round weights or activations,
    `level` forces an instruction set. `threads` is how many threads lay out the layers.

    Raises AsrError for tensors that do not fit the dimensions.
    """

    def __init__(
        self,
        tensors: Tensors,
        dimensions: Model,
        exact: bool = False,
        level: str | None = None,
        threads: int = 1,
    ) -> None:
        check_shapes(tensors, dimensions)
        self.dimensions = dimensions
        self.exact = exact
        self._level = level
        self._tensors = tensors
        strides = dimensions.conv_strides
        self.convolutions = ConvolutionStack([self._convolution(i) for i in range(len(strides))])
        layers = dict[int, Recurrent]()

        def lay_out(i: int) -> None:
            layers[i] = self._layer(i)

        _run_all(((i,) for i in range(dimensions.layers)), lay_out, threads)
        self.layers = [layers[i] for i in range(dimensions.layers)]
        norm = norm_of(tensors, "output", dimensions)
        rows = self._csr("output.linear.weight")
        rows, self._bias = fold_before(rows, self._array("output.linear.bias"), norm)
        # Always exact: this layer is small, and its rounding would go straight into the result.
        self.linear = prepare(rows, exact=True, level=level)
        del self._tensors

    def log_probs(
        self, features: Floats, lengths: NDArray[np.integer[Any]], threads: int = 1
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Log-probabilities of every output frame, as `DeepSpeech` gives them.

        `features (batch, time, mels)` float32 and `lengths (batch,)` in frames; values beyond a
        length are ignored. Returns `(batch, time', outputs)`, natural logarithms, exactly zero
        beyond a length, and `lengths' (batch,)`. The result of an utterance depends on no other.
        """
        d = self.dimensions
        longest = d.output_length(features.shape[1])
        counts = np.array([d.output_length(int(n)) for n in lengths], np.int64)
        if not longest:
            return np.zeros((len(features), 0, d.outputs), np.float32), counts
        x: Floats = np.zeros((len(features), longest, d.conv_features), np.float32)
        # Strips of all utterances are one queue, so that a long one keeps every thread busy.
        jobs = (
            (n, first, last)
            for n, length in enumerate(lengths)
            for first, last in self.convolutions.strips(int(length))
        )

        def convolve(n: int, first: int, last: int) -> None:
            inside = features[n, : int(lengths[n])]
            self.convolutions.strip(inside, first, last, x[n, first:last])

        _run_all(jobs, convolve, threads)
        for layer in self.layers:
            x, _ = layer(x, counts, threads=threads)
        result = self.outputs(x.reshape(-1, x.shape[2])).reshape(-1, longest, d.outputs)
        for row, count in zip(result, counts, strict=True):
            row[count:] = 0.0
        return result, counts

    def convolve(self, features: Floats, first: int, last: int) -> Floats:
        """Outputs `(last - first, conv_features)` of the convolutions of `features (time, mels)`.

        Output frames `first` to `last` of an utterance that is those features and nothing else.
        """
        x: Floats = np.empty((last - first, self.dimensions.conv_features), np.float32)
        for start in range(first, last, STRIP):
            stop = min(start + STRIP, last)
            self.convolutions.strip(features, start, stop, x[start - first : stop - first])
        return x

    def recur(self, x: Floats, states: list[State] | None) -> tuple[Floats, list[State]]:
        """Log-probabilities `(frames, outputs)` of the next frames of a stream, and states.

        `x (frames, conv_features)` are outputs of `convolve`, `states` those of each layer after
        the frames before; None at the beginning. The network must run forward only.
        """
        assert not self.dimensions.bidirectional
        after = list[State]()
        rows = x[None]
        for i, layer in enumerate(self.layers):
            rows, state = layer(rows, None, states[i] if states else None, threads=1)
            after.append(state)
        return self.outputs(rows[0]), after

    def outputs(self, x: Floats) -> Floats:
        """Log-probabilities `(frames, outputs)` of the last recurrent layer's outputs
        `(frames, hidden)`."""
        scores = self.linear(whole_passes(x), self._bias)[: len(x)]
        scores -= scores.max(axis=1, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return scores

    def describe(self) -> dict[str, str]:
        """The kernel that each weight tensor runs on, by the tensor's name."""
        found = {
            f"conv.{i}.convolution.weight": layer.kernel
            for i, layer in enumerate(self.convolutions.layers)
        }
        for i, layer in enumerate(self.layers):
            for prefix, cell in zip(self.dimensions.cells(i), layer.cells, strict=True):
                found[self.dimensions.input_matrix(prefix)] = cell.weight_ih.kernel
                found[f"{prefix}.weight_hh_l0"] = cell.weight_hh.kernel
        return found | {"output.linear.weight": self.linear.kernel}

    def _convolution(self, i: int) -> Convolution:
        d, name = self.dimensions, f"conv.{i}.convolution"
        weight = self._array(f"{name}.weight")
        bias = np.zeros(len(weight), np.float32) if d.batch_norm else self._array(f"{name}.bias")
        weight, bias = fold_after(weight, bias, norm_of(self._tensors, f"conv.{i}", d))
        bands, frames = d.conv_strides[i]
        level = level_of(self._level)
        return Convolution(weight, bias, (bands, frames), level, self.exact, first=i == 0)

    def _layer(self, i: int) -> Recurrent:
        d, cells = self.dimensions, list[Cell]()
        norm = norm_of(self._tensors, f"rnn.{i}", d)
        inputs: Matrix | None = None
        for cell in d.cells(i):
            rows = self._csr(d.input_matrix(cell))
            rows, bias = fold_before(rows, self._array(f"{cell}.bias_ih_l0"), norm)
            if inputs is None or not d.shared_input:  # a tied matrix is laid out once
                inputs = self._prepare(rows)
            recurrent = self._prepare(self._csr(f"{cell}.weight_hh_l0"))
            bias_hh = self._array(f"{cell}.bias_hh_l0")
            backward = cell.endswith("backward_cell")
            cells.append(Cell(d.cell, inputs, recurrent, bias, bias_hh, backward))
        return Recurrent(cells, d.combine)

    def _csr(self, name: str) -> CsrMatrix:
        tensor = self._tensors[name]
        return tensor if isinstance(tensor, CsrMatrix) else from_dense(tensor)

    def _array(self, name: str) -> NDArray[Any]:
        tensor = self._tensors[name]
        return tensor.to_dense() if isinstance(tensor, CsrMatrix) else tensor

    def _prepare(self, rows: CsrMatrix) -> Matrix:
        return prepare(rows, exact=self.exact, level=self._level)


def _run_all(jobs: Iterator[tuple[int, ...]], run: Callable[..., None], threads: int) -> None:
    """Run all jobs on this thread and `threads - 1` more; raises what a job raised."""
    taking = threading.Lock()
    failed: list[BaseException] = []

    def work() -> None:
        while not failed:
            with taking:
                job = next(jobs, None)
            if job is None:
                return
            try:
                run(*job)
            except BaseException as error:
                failed.append(error)

    helpers = [threading.Thread(target=work, daemon=True) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if failed:
        raise failed[0]
