"""What runs a network: features in, log-probabilities out, by torch or by our own kernels.

`open_backend` chooses. A packed file runs on the kernels of `asr.sparse` and imports no torch; a
dense file runs on torch where that is installed.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, get_args

import numpy as np
from numpy.typing import NDArray

from asr import environment
from asr.errors import AsrError, install
from asr.features.settings import Frontend
from asr.features.stream import FeatureStream
from asr.model.dimensions import Model
from asr.model.file import ModelFile, TorchModel, build_torch, naming, read_model
from asr.model.metadata import Metadata
from asr.model.stream import NetworkStream

if TYPE_CHECKING:
    from asr.text.tokenizer import Tokenizer

BackendName = Literal["auto", "torch", "native"]
Device = Literal["cpu", "cuda", "auto"]
Floats = NDArray[np.float32]

_TORCH_THREADS = threading.Lock()
"""Held while a backend has changed torch's number of threads, which is one for the process."""


class Backend(Protocol):
    """A network with the frontend and the tokenizer it was trained with.

    Threads may share one, and an utterance's result does not depend on the others of its batch.
    """

    tokenizer: "Tokenizer"
    metadata: Metadata

    @property
    def dimensions(self) -> Model:
        """Of the network."""
        ...

    @property
    def frontend(self) -> Frontend:
        """How the features that the network takes are made."""
        ...

    @property
    def frame_seconds(self) -> float:
        """Seconds from one output frame to the next."""
        ...

    def features(self, samples: Floats) -> Floats:
        """Features `(frames, mels)` of a waveform `(samples,)` at `frontend.sample_rate`."""
        ...

    def log_probs(self, rows: Sequence[Floats]) -> list[Floats]:
        """Log-probabilities `(frames', outputs)` of each utterance's features `(frames, mels)`.

        Natural logarithms, one row per output frame; the blank is index 0.
        """
        ...

    def stream(self) -> NetworkStream:
        """Log-probabilities of a waveform that comes in pieces; see `model.stream`.

        The network must be one for which `stream.why_not_exact` is empty.
        """
        ...

    def describe(self) -> str:
        """In a few words, for records: name, precision or instruction set, kernels, device."""
        ...


@dataclass(frozen=True)
class Opening:
    """The arguments of `open_backend`, to open the same file again in another process."""

    path: str
    """Absolute."""
    digest: str
    """`ModelFile.digest` of what it held."""
    threads: int | None
    backend: BackendName
    exact: bool
    device: Device

    def open_again(self) -> Backend:
        """Open it once more. Raises AsrError if the file is gone, or holds something else now."""
        opened = open_backend(self.path, self.threads, self.backend, self.exact, self.device)
        if opened.opening != self:
            raise AsrError(
                f"{self.path}: is not the file that this recogniser was made from: it was written "
                "anew since; load it again"
            )
        return opened


class _FromFile:
    """What both backends take from the metadata of a model file.

    A pickle holds the file's name and no weights. Copies share the network, which nothing changes.
    """

    metadata: Metadata
    opening: Opening | None = None
    """How to open it again; None if it was not made by `open_backend`."""

    def __reduce__(self) -> tuple[Any, ...]:
        if self.opening is None:
            raise AsrError(
                f"this {type(self).__name__} was made of a network in memory and cannot be "
                "pickled: save the network to a file and use open_backend or asr.load"
            )
        return Opening.open_again, (self.opening,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def dimensions(self) -> Model:
        return self.metadata.model

    @property
    def frontend(self) -> Frontend:
        return self.metadata.frontend

    @property
    def frame_seconds(self) -> float:
        return self.dimensions.time_stride * self.frontend.step_seconds


class TorchBackend(_FromFile):
    """torch in fp32, on the CPU or on a CUDA device.

    With `sparse` its recurrent and linear layers are products of CSR matrices by `torch.sparse`, on
    a GPU cuSPARSE as in the paper, which skip the zeros; otherwise zeros are multiplied. `threads`
    are those of torch during a call; None leaves torch's own number.
    Raises AsrError for `device="cuda"` where torch has none.
    """

    def __init__(
        self,
        loaded: TorchModel,
        threads: int | None = None,
        device: Device = "cpu",
        sparse: bool = False,
    ) -> None:
        self.tokenizer, self.metadata = loaded.tokenizer, loaded.metadata
        self.threads = threads
        self.device = _torch_device(device)
        self.sparse = sparse
        self._model = loaded.model
        if sparse:
            from asr.sparse.convert import TORCH_SPARSE, sparsify

            sparsify(self._model, kernel=TORCH_SPARSE, device=self.device)
        else:
            self._model = self._model.to(self.device)

    def features(self, samples: Floats) -> Floats:
        """As in `Backend`, on the CPU."""
        return self._features(samples, self.frontend)

    def _features(self, samples: Floats, settings: Frontend) -> Floats:
        from asr.features.logmel_torch import features

        # Two threads where one was asked for wait for each other on a busy machine: beside a
        # training on the other of two cores the demo's dense network took eight times as long.
        with torch_threads(self.threads):
            return features(samples, settings).numpy()

    def log_probs(self, rows: Sequence[Floats]) -> list[Floats]:
        """As in `Backend`."""
        import torch

        features, lengths = _padded(rows)
        if not features.shape[1]:
            return [np.zeros((0, self.dimensions.outputs), np.float32)] * len(rows)
        with torch.inference_mode(), torch_threads(self.threads), _full_fp32(self.device):
            log_probs, output_lengths = self._model(
                torch.from_numpy(features).to(self.device),
                torch.from_numpy(lengths).to(self.device),
            )
            found = log_probs.float().cpu().numpy()
        return [row[:length] for row, length in zip(found, output_lengths.tolist(), strict=True)]

    def stream(self) -> NetworkStream:
        """As in `Backend`."""
        log_mel = FeatureStream(self.frontend, self._features)
        return NetworkStream(self, self.dimensions, log_mel)

    def convolve(self, features: Floats, first: int, last: int) -> Floats:
        """As in `StepwiseNetwork`."""
        import torch

        with torch.inference_mode(), torch_threads(self.threads), _full_fp32(self.device):
            rows = torch.from_numpy(features).to(self.device)
            return self._model.convolve(rows, first, last).cpu().numpy()

    def recur(self, x: Floats, states: Any) -> tuple[Floats, Any]:
        """As in `StepwiseNetwork`."""
        import torch

        with torch.inference_mode(), torch_threads(self.threads), _full_fp32(self.device):
            rows = torch.from_numpy(x).to(self.device)
            log_probs, after = self._model.recur(rows, states)
            return log_probs.cpu().numpy(), after

    def describe(self) -> str:
        """As in `Backend`."""
        import torch

        where = "" if self.device == "cpu" else f", {torch.cuda.get_device_name(self.device)}"
        return f"torch {torch.__version__}, fp32{', torch.sparse' if self.sparse else ''}{where}"


class NativeBackend(_FromFile):
    """The kernels of `asr.sparse`, in C where they are compiled, else in numpy; no torch.

    `threads` None: one for each core. `exact` keeps to kernels that compute in fp32.
    """

    def __init__(self, file: ModelFile, threads: int | None = None, exact: bool = False) -> None:
        from asr.model.native_network import Network

        self.metadata, self.tokenizer = file.metadata, file.tokenizer
        self.threads = threads or environment.cores()
        self.exact = exact
        with naming(file.path):
            self.network = Network(file.tensors, self.dimensions, exact, threads=self.threads)

    def features(self, samples: Floats) -> Floats:
        """As in `Backend`."""
        from asr.features.logmel import features

        return features(samples, self.frontend)

    def log_probs(self, rows: Sequence[Floats]) -> list[Floats]:
        """As in `Backend`."""
        log_probs, lengths = self.network.log_probs(*_padded(rows), threads=self.threads)
        return [row[:length] for row, length in zip(log_probs, lengths, strict=True)]

    def stream(self) -> NetworkStream:
        """As in `Backend`."""
        from asr.features.logmel import features

        return NetworkStream(self.network, self.dimensions, FeatureStream(self.frontend, features))

    def describe(self) -> str:
        """As in `Backend`."""
        from asr.model.native_kernels import native_library

        recurrent = {k for name, k in self.network.describe().items() if name.startswith("rnn")}
        exact = ", exact" if self.exact else ""
        used = " and ".join(sorted(recurrent))
        return f"native ({native_library()}), recurrent weights {used}{exact}"


MAX_THREADS = 1024
"""More than any machine has cores for; a process that asks for far more is ended by the system."""


def open_backend(
    path: str | Path,
    threads: int | None = None,
    backend: BackendName = "auto",
    exact: bool = False,
    device: Device = "cpu",
) -> "TorchBackend | NativeBackend":
    """The backend of a model file, dense or packed; the file is read once.

    `backend="auto"` is `native` for a packed file, and for any file where torch is not installed.
    `exact` keeps the native backend to kernels that compute in fp32, as torch always does.
    `threads` None: torch's own number, or one for each core. `device="auto"` is `cuda` where the
    backend is torch and finds a CUDA device. A packed file with `device="cuda"` runs on
    `torch.sparse` there, or with its zeros for `backend="torch"`.

    Raises AsrError if the file is not a model, for `torch` where that is not installed, and for
    `cuda` where there is none or the backend is native.

    >>> backend = open_backend("model.asr")
    >>> [log_probs] = backend.log_probs([backend.features(samples)])
    >>> log_probs.shape  # a second of audio, 25 frames of 29 tokens
    (25, 29)
    """
    if backend not in get_args(BackendName):
        raise AsrError(f"backend={backend!r}: auto, torch or native")
    if device not in get_args(Device):
        raise AsrError(f"device={device!r}: cpu, cuda or auto")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise AsrError(f"threads={threads}: at least 1, at most {MAX_THREADS}")
    missing = _missing()
    if backend == "torch" and missing:
        raise AsrError(f"backend=torch needs {missing}: {install('train')}, or use backend=native")
    file = read_model(path)
    opening = Opening(os.path.abspath(path), file.digest, threads, backend, exact, device)
    opened: TorchBackend | NativeBackend
    sparse = backend == "auto" and device == "cuda" and bool(file.metadata.packed) and not missing
    if backend == "auto":
        backend = "native" if (file.metadata.packed and not sparse) or missing else "torch"
    if backend == "torch":
        opened = TorchBackend(build_torch(file), threads, device, sparse)
        opened.opening = opening
        return opened
    if device == "cuda":
        why = f"without {missing}, it" if missing else "backend=native"
        raise AsrError(
            f"{path}: device=cuda: {why} runs on the CPU; leave device out, or use backend=auto "
            "where torch is installed"
        )
    opened = NativeBackend(file, threads, exact)
    opened.opening = opening
    return opened


def _padded(rows: Sequence[Floats]) -> tuple[Floats, NDArray[np.int64]]:
    """One array `(batch, longest, mels)`, zeros behind the shorter ones, and the lengths."""
    lengths = np.array([len(row) for row in rows], np.int64)
    if len(rows) == 1:
        return rows[0][None], lengths
    batch = np.zeros((len(rows), lengths.max(), rows[0].shape[1]), np.float32)
    for padded, row in zip(batch, rows, strict=True):
        padded[: len(row)] = row
    return batch, lengths


def _torch_device(device: Device) -> str:
    """`cpu` or `cuda`. Raises AsrError for `cuda` where torch has none."""
    import torch

    if device == "cpu":
        return device
    if torch.cuda.is_available():
        return "cuda"
    if device == "auto":
        return "cpu"
    raise AsrError(
        f"device=cuda: torch {torch.__version__} finds no CUDA device; use device=cpu, or install "
        "a torch that was built for CUDA"
    )


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Torch with this many threads; its own number is set again at the end. None: nothing is set.

    The number holds for the whole process. A backend that set it for good would change what every
    other one and a training beside it take, so it is set around each call, one call at a time.
    Does nothing where torch is not installed.
    """
    if threads is None or find_spec("torch") is None:
        yield
        return
    import torch

    with _TORCH_THREADS:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def _full_fp32(device: str) -> Iterator[None]:
    """No TF32 in cuDNN's convolutions and recurrent layers, which is their default on a GPU."""
    import torch

    with ExitStack() as stack:
        if device == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
        yield


def _missing() -> str | None:
    """Which package the torch backend lacks."""
    return next((name for name in ("torch", "torchaudio") if find_spec(name) is None), None)
