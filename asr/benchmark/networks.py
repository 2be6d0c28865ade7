"""Whole networks, features to log-probabilities: dense alternatives and our own engine."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.benchmark.dense import (
    NAMES,
    NO_INT8,
    TORCH,
    Alternatives,
    Contestant,
    make_session,
    torch_int8,
)
from asr.settings import Model

if TYPE_CHECKING:
    from asr.model import DeepSpeech


class DenseNetwork:
    """The dense alternatives of a network whose batch norms are folded.

    `make` builds the torch network; it is called only where torch is installed.
    """

    def __init__(
        self,
        tensors: Mapping[str, np.ndarray],
        dimensions: Model,
        make: Callable[[], "DeepSpeech"],
        threads: int,
    ) -> None:
        self.tensors, self.dimensions, self.threads = tensors, dimensions, threads
        self._make = make
        self._graph: Any = None

    def alternatives(self, features: np.ndarray, names: Sequence[str] = NAMES) -> Alternatives:
        """For `features (N, T, mels)` of one length; outputs are `(N, T', outputs)`."""
        result = Alternatives()
        for name in names:
            maker = self._torch if name in TORCH else self._runtime
            result.offer(name, lambda name=name, maker=maker: maker(name, features))  # type: ignore[misc]
        return result

    def _torch(self, name: str, features: np.ndarray) -> Contestant:
        import torch

        torch.set_num_threads(self.threads)
        model: Any = self._make()
        x = torch.from_numpy(features)
        if name == "torch int8":
            model = torch_int8(model, self.dimensions.cell)
        if name == "torch bf16":
            model, x = model.bfloat16(), x.bfloat16()
        lengths = torch.full((len(features),), features.shape[1])

        def run() -> Any:
            with torch.inference_mode():
                return model(x, lengths)[0]

        return Contestant(run, lambda: run().float().numpy())

    def _runtime(self, name: str, features: np.ndarray) -> Contestant:
        if name == "ONNX Runtime int8" and self.dimensions.cell != "lstm":
            raise NotImplementedError(NO_INT8)
        from asr.benchmark.onnx_graphs import network_model

        if self._graph is None:
            self._graph = network_model(self.tensors, self.dimensions)
        run = make_session(name, self._graph, self.threads)(np.ascontiguousarray(features))
        return Contestant(run, lambda: np.array(run(), np.float32))
