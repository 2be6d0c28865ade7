"""The dense alternatives to a sparse recurrent layer: every one that is installed, at its best.

The honest opponent is not PyTorch in fp32 but whatever is quickest: PyTorch's dynamic int8 for a
GRU, ONNX Runtime's for an LSTM, OpenVINO in bf16 for several utterances at once.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asr.benchmark.weights import LayerWeights
from asr.sparse.kernels import CellKind

TORCH = ("torch fp32", "torch bf16", "torch int8")
RUNTIMES = ("ONNX Runtime fp32", "ONNX Runtime int8", "OpenVINO bf16")
NAMES = (*TORCH, *RUNTIMES)


@dataclass(frozen=True)
class Contestant:
    """One way to compute a layer or a network."""

    run: Callable[[], Any]
    """What is timed."""
    output: Callable[[], np.ndarray]
    """The same result as float32, in the layout that all share."""


@dataclass
class Alternatives:
    """Those that can be run, and of each other one why not."""

    found: dict[str, Contestant] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def offer(self, name: str, make: Callable[[], Contestant]) -> None:
        """Make one; a missing package or operator is a reason not to, anything else an error.

        An opponent that fails for another reason must not be left out in silence.
        """
        try:
            self.found[name] = make()
        except ModuleNotFoundError as error:
            self.absent[name] = f"package {error.name} is not installed"
        except NotImplementedError as error:
            self.absent[name] = str(error)


class DenseLayer:
    """The dense alternatives of one layer at one number of threads; inputs are given later."""

    def __init__(self, layer: LayerWeights, threads: int) -> None:
        self.layer, self.threads = layer, threads
        self._made: dict[str, Any] = {}

    def alternatives(self, x: np.ndarray, names: Sequence[str] = NAMES) -> Alternatives:
        """For `x (N, T, inputs)`; outputs are `(N, T, directions * hidden)`."""
        result = Alternatives()
        for name in names:
            maker = self._torch if name in TORCH else self._runtime
            result.offer(name, lambda name=name, maker=maker: maker(name, x))  # type: ignore[misc]
        return result

    def _torch(self, name: str, x: np.ndarray) -> Contestant:
        import torch

        torch.set_num_threads(self.threads)
        if name not in self._made:
            self._made[name] = _torch_layer(self.layer, name)
        module = self._made[name]
        kind = torch.bfloat16 if name == "torch bf16" else torch.float32
        rows = torch.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1))).to(kind)

        def run() -> Any:
            with torch.inference_mode():
                return module(rows)[0]

        return Contestant(run, lambda: run().float().transpose(0, 1).numpy())

    def _runtime(self, name: str, x: np.ndarray) -> Contestant:
        rows = np.ascontiguousarray(x.swapaxes(0, 1))
        if name not in self._made:
            if name == "ONNX Runtime int8" and self.layer.cell != "lstm":
                raise NotImplementedError(NO_INT8)
            from asr.model.onnx import build_layer

            if "graph" not in self._made:
                self._made["graph"] = build_layer(self.layer.cell, self.layer.tensors())
            graph = self._made["graph"]
            self._made[name] = make_session(name, graph, self.threads)
        run = self._made[name](rows)

        def output() -> np.ndarray:  # (T, directions, N, hidden)
            y = np.asarray(run(), np.float32).transpose(2, 0, 1, 3)
            return np.ascontiguousarray(y).reshape(*y.shape[:2], -1)

        return Contestant(run, output)


NO_INT8 = "ONNX Runtime quantises no GRU or RNN dynamically, LSTM only"


def make_session(
    name: str, model: Any, threads: int
) -> Callable[[np.ndarray], Callable[[], np.ndarray]]:
    """A runtime's session of an ONNX model: called with an input it gives what is timed."""
    if name == "OpenVINO bf16":
        return _openvino(model, threads)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    content = _quantised(model) if name == "ONNX Runtime int8" else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name_of_input = session.get_inputs()[0].name
    return lambda rows: lambda: session.run(None, {name_of_input: rows})[0]


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


def _torch_layer(layer: LayerWeights, name: str) -> Any:
    """An `nn` layer with these weights, `(T, N, inputs)` to `(T, N, directions * hidden)`."""
    import torch
    from torch import nn

    kinds: dict[CellKind, Any] = {"gru": nn.GRU, "lstm": nn.LSTM}
    extra = {} if layer.cell in kinds else {"nonlinearity": layer.cell.removeprefix("rnn_")}
    module = kinds.get(layer.cell, nn.RNN)(
        layer.inputs, layer.hidden, bidirectional=len(layer.cells) == 2, **extra
    )
    state = {}
    for cell, suffix in zip(layer.cells, ("", "_reverse"), strict=False):
        for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            state[f"{key}_l0{suffix}"] = torch.from_numpy(getattr(cell, key))
    module.load_state_dict(state)
    module.eval()
    if name == "torch bf16":
        return module.bfloat16()
    return torch_int8(module, layer.cell) if name == "torch int8" else module


def torch_int8(module: Any, cell: CellKind) -> Any:
    """A module with its recurrent and linear layers quantised dynamically.

    Raises NotImplementedError with the reason where this version of torch cannot.
    """
    import torch
    from torch import nn

    if cell not in ("gru", "lstm"):
        raise NotImplementedError("torch's dynamic int8 has GRU and LSTM, no plain RNN")
    try:
        with warnings.catch_warnings():  # it has been announced to go
            warnings.simplefilter("ignore")
            quantised = torch.ao.quantization.quantize_dynamic(
                nn.ModuleList([module]), {nn.GRU, nn.LSTM, nn.Linear}, dtype=torch.qint8
            )[0]
    except (AttributeError, ImportError):
        raise NotImplementedError(f"torch {torch.__version__} has no dynamic int8") from None
    if not any("quant" in type(m).__module__ for m in quantised.modules()):
        raise NotImplementedError(f"torch {torch.__version__} quantised nothing")
    return quantised


def versions() -> dict[str, str]:
    """Of the packages that run dense alternatives, where they are installed."""
    from importlib import metadata

    found = {}
    for name in ("torch", "onnx", "onnxruntime", "openvino"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
