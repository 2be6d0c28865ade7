"""The dense alternatives to a sparse network: every runtime that is installed, at its best.

The fair opponent is not PyTorch in fp32 but whatever is fastest: PyTorch's dynamic int8 for a GRU,
ONNX Runtime's for an LSTM, OpenVINO in bf16 for several utterances at once.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asr.model.dimensions import Model
from asr.sparse.kernels import CellKind

TORCH = ("torch fp32", "torch bf16", "torch int8")
RUNTIMES = ("ONNX Runtime fp32", "ONNX Runtime int8", "OpenVINO bf16")
NAMES = (*TORCH, *RUNTIMES)
PACKAGES = ("onnx", "onnxruntime", "openvino")
"""What these come from beside torch, for records of versions."""
NO_INT8 = "ONNX Runtime quantises no GRU or RNN dynamically, LSTM only"


@dataclass(frozen=True)
class Computation:
    """One way to compute a layer or a network."""

    run: Callable[[], Any]
    """What is timed."""
    output: Callable[[], np.ndarray]
    """The same result as float32, in the layout that all ways share."""


@dataclass
class DenseAlternatives:
    """The ways that run here, and for every other one the reason why it does not."""

    found: dict[str, Computation] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def offer(self, name: str, make: Callable[[], Computation]) -> None:
        """Make one and run it once; whatever stops it becomes the reason for its absence.

        A runtime may refuse a precision only when it runs, so making it proves nothing.
        """
        try:
            made = make()
            made.run()
        except ModuleNotFoundError as error:
            self.absent[name] = f"package {error.name} is not installed"
        except NotImplementedError as error:
            self.absent[name] = str(error)
        except (TypeError, NameError, AssertionError):
            raise  # a mistake of ours, which must not make an opponent disappear
        except Exception as error:  # each runtime raises classes of its own
            message = (str(error).strip().splitlines() or [""])[0]
            self.absent[name] = f"it failed with {type(error).__name__}: {message}"
        else:
            self.found[name] = made


class DenseNetwork:
    """The dense alternatives of a network whose batch norms are folded."""

    def __init__(self, tensors: Mapping[str, np.ndarray], dimensions: Model, threads: int) -> None:
        self.tensors, self.dimensions, self.threads = tensors, dimensions, threads
        self._graph: Any = None

    def alternatives(self, features: np.ndarray, names: Sequence[str] = NAMES) -> DenseAlternatives:
        """For `features (N, T, mels)` of one length; outputs are `(N, T', outputs)`."""
        result = DenseAlternatives()
        for name in names:
            maker = self._torch if name in TORCH else self._runtime
            result.offer(name, lambda name=name, maker=maker: maker(name, features))  # type: ignore[misc]
        return result

    def _torch(self, name: str, features: np.ndarray) -> Computation:
        import torch

        from asr.model.torch_network import from_arrays

        torch.set_num_threads(self.threads)
        model: Any = from_arrays(self.tensors, self.dimensions)
        x = torch.from_numpy(features)
        if name == "torch int8":
            model = torch_int8(model, self.dimensions.cell)
        if name == "torch bf16":
            model, x = model.bfloat16(), x.bfloat16()
        lengths = torch.full((len(features),), features.shape[1])

        def run() -> Any:
            with torch.inference_mode():
                return model(x, lengths)[0]

        return Computation(run, lambda: run().float().numpy())

    def _runtime(self, name: str, features: np.ndarray) -> Computation:
        if name == "ONNX Runtime int8" and self.dimensions.cell != "lstm":
            raise NotImplementedError(NO_INT8)
        from asr.model.onnx import build_network

        if self._graph is None:
            self._graph = build_network(self.tensors, self.dimensions, padded=False)
        run = make_session(name, self._graph, self.threads)(np.ascontiguousarray(features))
        return Computation(run, lambda: np.array(run(), np.float32))


def torch_int8(module: Any, cell: CellKind) -> Any:
    """A module with its recurrent and linear layers quantised dynamically.

    Raises NotImplementedError with the reason where this version of torch cannot.
    """
    import torch
    from torch import nn

    if cell not in ("gru", "lstm"):
        raise NotImplementedError("torch's dynamic int8 has GRU and LSTM, no plain RNN")
    try:
        with warnings.catch_warnings():  # torch announces its removal
            warnings.simplefilter("ignore")
            quantised = torch.ao.quantization.quantize_dynamic(
                nn.ModuleList([module]), {nn.GRU, nn.LSTM, nn.Linear}, dtype=torch.qint8
            )[0]
    except (AttributeError, ImportError):
        raise NotImplementedError(f"torch {torch.__version__} has no dynamic int8") from None
    if not any("quant" in type(m).__module__ for m in quantised.modules()):
        raise NotImplementedError(f"torch {torch.__version__} quantised nothing")
    return quantised


def make_session(
    name: str, model: Any, threads: int
) -> Callable[[np.ndarray], Callable[[], np.ndarray]]:
    """A runtime's session of an ONNX model: called with an input, it returns what is timed."""
    if name == "OpenVINO bf16":
        return _openvino(model, threads)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    content = _quantised(model) if name == "ONNX Runtime int8" else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (x,) = session.get_inputs()
    return lambda rows: lambda: session.run(None, {x.name: rows})[0]


def _quantised(model: Any) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = Path(folder) / "int8.onnx"
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it logs advice for other networks
        try:
            quantize_dynamic(model, out, weight_type=QuantType.QInt8)
        finally:
            logging.disable(disabled)
        return out.read_bytes()


def _openvino(model: Any, threads: int) -> Callable[[np.ndarray], Callable[[], np.ndarray]]:
    import openvino

    core = openvino.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotImplementedError("OpenVINO has no bf16 on this processor")
    options = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)

    def bind(rows: np.ndarray) -> Callable[[], np.ndarray]:
        request = compiled.create_infer_request()
        tensor = openvino.Tensor(rows, shared_memory=True)

        def run() -> np.ndarray:
            request.infer([tensor], share_inputs=True, share_outputs=True)
            return np.asarray(request.get_output_tensor(0).data)

        return run

    return bind
