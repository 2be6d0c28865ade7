"""`asr export`: a model file as ONNX, checked against ONNX Runtime before it is written."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import AsrError
from asr.files import atomic_path, check_writable
from asr.model.file import TorchModel, load_model

TOLERANCE = 1e-3
"""Largest difference of a log-probability that counts as rounding."""
LENGTHS = ([37], [80, 33, 57], [1, 5])
"""Frames of the utterances that the check runs, batch by batch."""

ABOUT_ZEROS = (
    "A runtime for dense networks multiplies zeros like any other number and stores them too: "
    "pruning makes this file neither smaller nor faster; what `asr pack` writes is both."
)


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how close it is to the network."""

    path: str
    bytes: int
    opset: int
    runtime: str
    error: float
    """Largest absolute difference of a log-probability, ONNX Runtime against the network."""

    def table(self) -> str:
        """The report for a terminal."""
        return (
            f"{self.path}: {self.bytes:,} bytes, ONNX opset {self.opset}; inputs features "
            "(batch, time, mels) and lengths (batch), outputs log_probs and output_lengths\n"
            f"largest error in ONNX Runtime {self.runtime}: {self.error:.1e} of a log-probability\n"
            f"{ABOUT_ZEROS}"
        )


def export(model_path: str | Path, out_path: str | Path) -> ExportReport:
    """Write the dense network of a model file, zeros and all, to `out_path` as ONNX.

    Tokenizer, frontend and dimensions are in the file's metadata as JSON. Needs torch, onnx and
    onnxruntime. Raises AsrError for what is not a model file. Raises it too, without writing
    anything, if ONNX Runtime computes other log-probabilities than torch.
    """
    import onnx
    import onnxruntime

    from asr.model.onnx import OPSET, build_network
    from asr.sparse.state_dict import to_arrays

    check_writable(out_path)
    loaded = load_model(model_path)
    plain = loaded.metadata.to_plain()
    metadata = {key: json.dumps(plain[key]) for key in ("model", "frontend", "tokenizer")}
    made = build_network(to_arrays(loaded.model), loaded.metadata.model, metadata)
    with atomic_path(out_path) as temporary:
        onnx.save(made, str(temporary))
        error = _largest_error(loaded, temporary)
        if not error <= TOLERANCE:
            raise AsrError(
                f"{out_path}: not written: ONNX Runtime {onnxruntime.__version__} differs by "
                f"{error:.3g} of a log-probability, more than {TOLERANCE:g}"
            )
        size = temporary.stat().st_size
    return ExportReport(str(out_path), size, OPSET, onnxruntime.__version__, error)


def _largest_error(loaded: TorchModel, path: Path) -> float:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    largest = 0.0
    for lengths in LENGTHS:
        shape = (len(lengths), max(lengths), loaded.metadata.model.mels)
        features = generator.normal(0, 1, shape).astype(np.float32)
        given = {"features": features, "lengths": np.array(lengths, np.int64)}
        found, found_lengths = session.run(["log_probs", "output_lengths"], given)
        with torch.inference_mode():
            expected, expected_lengths = loaded.model(
                torch.from_numpy(features), torch.from_numpy(given["lengths"])
            )
        if found.shape != tuple(expected.shape) or not np.array_equal(
            found_lengths, expected_lengths.numpy()
        ):
            return np.inf
        largest = max(largest, float(np.abs(found - expected.numpy()).max()))
    return largest
