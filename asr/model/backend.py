"""What hears: one small interface, and the two engines behind it, torch and our own kernels.

`open_backend` chooses. A packed file runs on the kernels of `asr.sparse` and imports no torch, a
dense one on torch where that is installed.
"""

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.metadata import Metadata
from asr.pretrained import registry as models

if TYPE_CHECKING:
    from torch import Tensor

    from asr.model.file import Loaded
    from asr.model.torch_network import DeepSpeech
    from asr.text.tokenizer import Tokenizer

BackendName = Literal["auto", "torch", "native"]
Floats = NDArray[np.float32]


class Backend(Protocol):
    """A network with its frontend and units. Threads may share one."""

    tokenizer: "Tokenizer"
    metadata: Metadata

    @property
    def dimensions(self) -> Model: ...

    @property
    def frontend(self) -> Frontend: ...

    def features(self, samples: Floats) -> Floats:
        """Features `(frames, mels)` of a waveform at `frontend.sample_rate`."""
        ...

    def log_probs(self, rows: Sequence[Floats]) -> list[Floats]:
        """Log-probabilities `(frames', outputs)` of the features of each utterance."""
        ...

    def describe(self) -> str:
        """In a few words, for records: name, instruction set, kernels."""
        ...


class _Described:
    """What both engines know of a model file."""

    metadata: Metadata

    @property
    def dimensions(self) -> Model:
        return self.metadata.model

    @property
    def frontend(self) -> Frontend:
        return self.metadata.frontend


class TorchBackend(_Described):
    """torch on a CPU, in fp32."""

    def __init__(self, loaded: "Loaded") -> None:
        self.tokenizer, self.metadata = loaded.tokenizer, loaded.metadata
        self._model = loaded.model

    def features(self, samples: Floats) -> Floats:
        """As in `Backend`."""
        from asr.features.logmel_torch import features

        return features(samples, self.frontend).numpy()

    def log_probs(self, rows: Sequence[Floats]) -> list[Floats]:
        """As in `Backend`."""
        import torch

        features, lengths = _padded(rows)
        return hear(self._model, torch.from_numpy(features), torch.from_numpy(lengths))

    def describe(self) -> str:
        """As in `Backend`."""
        import torch

        return f"torch {torch.__version__}, fp32"


class NativeBackend(_Described):
    """The kernels of `asr.sparse`, in C where they are compiled, else in numpy; no torch."""

    def __init__(self, path: str | Path, threads: int | None = None, exact: bool = False) -> None:
        from asr.model.native_network import Network
        from asr.sparse import read_csr
        from asr.text.tokenizer import Tokenizer

        tensors, plain = read_csr(path)
        try:
            self.metadata = Metadata.from_plain(plain)
            self.tokenizer = Tokenizer.from_plain(self.metadata.tokenizer)
            check_tokenizer(self.tokenizer, self.metadata.model)
            self.threads = threads or _cores()
            self.network = Network(tensors, self.metadata.model, exact, threads=self.threads)
        except AsrError as error:
            raise AsrError(f"{path}: {error}") from None
        self.exact = exact

    def features(self, samples: Floats) -> Floats:
        """As in `Backend`."""
        from asr.features.logmel import features

        return features(samples, self.frontend)

    def log_probs(self, rows: Sequence[Floats]) -> list[Floats]:
        """As in `Backend`."""
        log_probs, counts = self.network.log_probs(*_padded(rows), threads=self.threads)
        return [row[:count] for row, count in zip(log_probs, counts, strict=True)]

    def describe(self) -> str:
        """As in `Backend`."""
        from asr.model.native_kernels import native_library

        recurrent = {k for name, k in self.network.describe().items() if name.startswith("rnn")}
        exact = ", exact" if self.exact else ""
        used = " and ".join(sorted(recurrent))
        return f"native ({native_library()}), recurrent weights {used}{exact}"


def open_backend(
    path: str | Path,
    threads: int | None = None,
    backend: BackendName = "auto",
    exact: bool = False,
) -> Backend:
    """The engine for a model file, dense or packed, or for a name of a pretrained recogniser.

    `auto` is `native` for a packed file, and for any where torch is not installed. `exact` keeps
    the native engine to kernels that compute in fp32, as torch always does. `threads` None: as
    many as torch takes, or one for each core.

    Raises AsrError if the file is no model, and for `torch` where that is not installed.
    """
    if backend not in ("auto", "torch", "native"):
        raise AsrError(f"backend={backend!r}: auto, torch or native")
    if threads is not None and threads < 1:
        raise AsrError(f"threads={threads}: at least 1")
    path = models.resolve(path)
    if backend == "auto":
        backend = "native" if is_packed(path) or _missing() else "torch"
    if backend == "native":
        return NativeBackend(path, threads, exact)
    if missing := _missing():
        raise AsrError(
            f"backend=torch needs {missing}: pip install 'asr[train]', or use backend=native"
        )
    from asr.model.file import load_model

    set_threads(threads)
    return TorchBackend(load_model(path))


def as_backend(model: "Loaded | Backend", threads: int | None = None) -> Backend:
    """A network that is loaded in torch, with `threads` set as in `set_threads`, or an engine."""
    from asr.model.file import Loaded

    if not isinstance(model, Loaded):
        return model
    set_threads(threads)
    return TorchBackend(model)


def is_packed(path: str | Path) -> bool:
    """Whether a model file is packed. Raises AsrError if it is no model file."""
    from asr.sparse import read_header

    try:
        return Metadata.from_plain(read_header(path).metadata).packed is not None
    except AsrError as error:
        raise AsrError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def check_tokenizer(tokenizer: "Tokenizer", dimensions: Model) -> None:
    """Raise AsrError unless the network has an output for each unit."""
    if tokenizer.size != dimensions.outputs:
        raise AsrError(f"has {tokenizer.size} units for {dimensions.outputs} outputs")


def hear_files(
    backend: Backend, paths: Sequence[str], durations: Sequence[float], batch_seconds: float
) -> Iterator[tuple[int, Floats]]:
    """Index and log-probabilities of each recording, in batches by length, longest first.

    A recording without any sound has none, `(0, outputs)`, as in a transcription.
    """
    from asr import audio
    from asr.audio.batch import sorted_batches
    from asr.audio.chunk import is_silent

    for batch in sorted_batches(np.array(durations, np.float32), batch_seconds):
        rows: dict[int, Floats] = {}
        for i in batch:
            samples = audio.load(paths[i], backend.frontend.sample_rate).samples
            if not is_silent(samples):
                rows[i] = backend.features(samples)
        heard = backend.log_probs(list(rows.values())) if rows else []
        found = dict(zip(rows, heard, strict=True))
        nothing = np.zeros((0, backend.dimensions.outputs), np.float32)
        yield from ((i, found.get(i, nothing)) for i in batch)


def set_threads(threads: int | None) -> None:
    """Let torch use this many threads in this process; None leaves them."""
    import torch

    if threads is None:
        return
    if threads < 1:
        raise AsrError(f"threads={threads}: at least 1")
    torch.set_num_threads(threads)


def hear(model: "DeepSpeech", features: "Tensor", lengths: "Tensor") -> list[Floats]:
    """Log-probabilities `(frames, units)` by torch of each utterance of a padded batch."""
    import torch

    if not features.shape[1]:
        return [np.zeros((0, model.dimensions.outputs), np.float32)] * len(features)
    with torch.inference_mode():
        log_probs, output_lengths = model(features, lengths)
    rows = log_probs.float().cpu().numpy()
    return [row[: int(length)] for row, length in zip(rows, output_lengths, strict=True)]


def _padded(rows: Sequence[Floats]) -> tuple[Floats, NDArray[np.int64]]:
    """One array with zeros behind the shorter ones, and the lengths."""
    lengths = np.array([len(row) for row in rows], np.int64)
    if len(rows) == 1:
        return rows[0][None], lengths
    batch = np.zeros((len(rows), lengths.max(), rows[0].shape[1]), np.float32)
    for padded, row in zip(batch, rows, strict=True):
        padded[: len(row)] = row
    return batch, lengths


def _missing() -> str | None:
    """Which package the torch engine lacks."""
    return next((name for name in ("torch", "torchaudio") if find_spec(name) is None), None)


def _cores() -> int:
    able: Any = getattr(os, "sched_getaffinity", None)
    return len(able(0)) if able else os.cpu_count() or 1
