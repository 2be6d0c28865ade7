"""Recordings to text: `load(model).transcribe(recordings)`, the one path that all doors use.

Recordings are read in windows of a few batches, sorted by length within a window, and come out in
the order given. Their texts do not depend on each other.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from asr import audio
from asr.decode.greedy import decode
from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.text import Units
from asr.writers import Writer, find_writer

if TYPE_CHECKING:
    from torch import Tensor

    from asr.checkpoint import Loaded
    from asr.model import DeepSpeech

Source = str | Path | np.ndarray
"""A file, or a mono waveform `(samples,)` of floats, about +-1, at the model's sample rate."""

_WINDOW_BATCHES = 8
_WINDOW_SOURCES = 256


@dataclass(frozen=True)
class TranscribeOptions:
    """How recordings are transcribed; used by the Python interface and the command alike."""

    batch_seconds: float = 120.0
    """A batch holds at most this much audio, padding included; a longer recording goes alone."""
    on_error: Literal["raise", "report"] = "raise"
    """A recording that cannot be read: raise AsrError, or set `error` and go on."""

    def __post_init__(self) -> None:
        if not self.batch_seconds > 0:
            raise AsrError(f"batch_seconds={self.batch_seconds}: above 0")
        if self.on_error not in ("raise", "report"):
            raise AsrError(f"on_error={self.on_error!r}: raise or report")


@dataclass(frozen=True)
class Transcript:
    """What was heard in one recording."""

    path: str
    """As given; empty for a waveform."""
    text: str
    seconds: float
    """Duration of the recording."""
    model: str
    """File name of the model."""
    notes: tuple[str, ...] = ()
    """What was changed while reading: resampled, channels mixed."""
    error: str | None = None
    """Why there is no text, with `on_error="report"`."""


@dataclass
class _Item:
    """A recording on its way: read, then heard."""

    path: str
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    features: "Tensor | None" = None
    error: AsrError | None = None
    text: str = ""


class Recogniser:
    """A network with all that belongs to it, ready to hear; made by `load`."""

    def __init__(self, loaded: "Loaded", name: str) -> None:
        self.name = name
        self.units = loaded.units
        self.frontend = loaded.frontend
        self._model = loaded.model

    def transcribe(
        self, sources: Source | Iterable[Source], options: TranscribeOptions | None = None
    ) -> Iterator[Transcript]:
        """Yield the transcript of each file or waveform, in the order given.

        One source alone may be given without a list; an iterator is read as far as is needed.
        Raises AsrError at a recording that cannot be read, after all those before it were
        yielded, unless `options.on_error` is "report".
        """
        options = options or TranscribeOptions()
        if isinstance(sources, str | Path | np.ndarray):
            sources = [sources]
        window: list[_Item] = []
        for source in sources:
            window.append(self._read(source))
            seconds = sum(item.seconds for item in window)
            if (
                seconds >= _WINDOW_BATCHES * options.batch_seconds
                or len(window) == _WINDOW_SOURCES
                or (window[-1].error and options.on_error == "raise")
            ):
                yield from self._hear_all(window, options)
                window = []
        yield from self._hear_all(window, options)

    def _read(self, source: Source) -> _Item:
        from asr.frontend import features

        path = "" if isinstance(source, np.ndarray) else str(source)
        rate = self.frontend.sample_rate
        try:
            if isinstance(source, np.ndarray):
                sound = _waveform(source, rate)
            else:
                sound = audio.load(source, rate)
        except AsrError as error:
            return _Item(path, error=error)
        item = _Item(path, sound.seconds, sound.notes)
        if self.frontend.frames(len(sound.samples)):
            item.features = features(sound.samples, self.frontend)
        return item

    def _hear_all(self, window: list[_Item], options: TranscribeOptions) -> Iterator[Transcript]:
        from asr.corpus.batches import collate, sorted_batches

        audible = [item for item in window if item.features is not None]
        durations = np.array([item.seconds for item in audible])
        for indices in sorted_batches(durations, options.batch_seconds):
            items = [audible[i] for i in indices]
            batch = collate([(i.path, i.features, [], i.seconds) for i in items])  # type: ignore[misc]
            texts = hear(self._model, self.units, batch.features, batch.feature_lengths)
            for item, text in zip(items, texts, strict=True):
                item.text, item.features = text, None
        for item in window:
            if item.error and options.on_error == "raise":
                raise item.error
            error = str(item.error) if item.error else None
            yield Transcript(item.path, item.text, item.seconds, self.name, item.notes, error)


def load(path: str | Path, threads: int | None = None) -> Recogniser:
    """The recogniser of a model file, dense or packed.

    `threads` sets torch's threads; None leaves them. Raises AsrError if the file is no model, or
    if torch is not installed.
    """
    try:
        import torch  # noqa: F401
        import torchaudio  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchaudio"):
            raise
        raise AsrError(f"running a model needs {error.name}: pip install 'asr[train]'") from None
    from asr.checkpoint import load_model

    set_threads(threads)
    return Recogniser(load_model(path), Path(path).name)


def set_threads(threads: int | None) -> None:
    """Let torch use this many threads in this process; None leaves them."""
    import torch

    if threads is None:
        return
    if threads < 1:
        raise AsrError(f"threads={threads}: at least 1")
    torch.set_num_threads(threads)


def hear(model: "DeepSpeech", units: Units, features: "Tensor", lengths: "Tensor") -> list[str]:
    """Texts of a padded batch of features by greedy decoding; no frames, no text."""
    import torch

    if not features.shape[1]:
        return [""] * len(features)
    with torch.inference_mode():
        log_probs, output_lengths = model(features, lengths)
    return decode(log_probs.float().cpu().numpy(), output_lengths.cpu().numpy(), units)


def _waveform(samples: np.ndarray, sample_rate: int) -> audio.Audio:
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise AsrError(
            f"a waveform must be one row of floats about +-1 at {sample_rate} Hz; this one has "
            f"shape {samples.shape} and type {samples.dtype}"
        )
    if not np.isfinite(samples).all():
        raise AsrError("a waveform holds samples that are infinite or not a number")
    return audio.Audio(samples.astype(np.float32), sample_rate)


def transcribe_to(
    recogniser: Recogniser,
    paths: Sequence[str | Path],
    output: Path | None = None,
    formats: Sequence[str] = ("txt",),
    options: TranscribeOptions | None = None,
) -> int:
    """Transcribe files and folders to standard output, or into the folder `output`.

    On standard output one recording is its text alone, several are `path<TAB>text` lines (JSON:
    one object a line). In `output` the input tree is mirrored, one file per recording and format.
    Recordings that cannot be read are reported on standard error, with the notes and a summary,
    and do not stop the rest. Returns how many failed. Raises AsrError before any work for
    unknown formats, folders without audio, and two recordings that would share an output file.
    """
    writers = [find_writer(name) for name in dict.fromkeys(formats)]
    if output is None and len(writers) > 1:
        raise AsrError("several formats need a folder to write to: give one with -o")
    found = audio.find(paths)
    places = _places(found, output, writers) if output is not None else []
    started, seconds, failed = time.perf_counter(), 0.0, 0
    notes: Counter[str] = Counter()
    options = replace(options or TranscribeOptions(), on_error="report")
    transcripts = recogniser.transcribe((recording.path for recording in found), options)
    for index, transcript in enumerate(transcripts):
        if transcript.error:
            failed += 1
            print(transcript.error, file=sys.stderr)
            continue
        seconds += transcript.seconds
        notes.update(transcript.notes)
        if output is None:
            text = writers[0].document(transcript)
            print(text.rstrip("\n") if len(found) == 1 else writers[0].line(transcript), flush=True)
            continue
        for writer, place in zip(writers, places[index], strict=True):
            atomic_write_text(place, writer.document(transcript))
    for note, count in notes.items():
        print(f"{_recordings(count)}: {note}", file=sys.stderr)
    if output is not None or len(found) > 1:
        elapsed = time.perf_counter() - started
        print(
            f"{_recordings(len(found) - failed)} transcribed, {seconds:.1f} s of audio in "
            f"{elapsed:.1f} s ({seconds / elapsed:.1f} x real time); {failed} failed",
            file=sys.stderr,
        )
    return failed


def _places(
    found: Sequence[audio.Found], output: Path, writers: Sequence[Writer]
) -> list[list[Path]]:
    """Output files of each recording, one per writer; refuses two recordings in one file."""
    if output.exists() and not output.is_dir():
        raise AsrError(f"{output}: is a file; the output must be a folder")
    places, taken = [], dict[Path, Path]()
    for recording in found:
        stem = output / recording.relative.with_suffix("")
        other = taken.setdefault(stem, recording.path)
        if other != recording.path:
            raise AsrError(
                f"{other} and {recording.path} would both be written to "
                f"{stem}{writers[0].suffix}; transcribe them apart"
            )
        places.append([stem.with_name(stem.name + writer.suffix) for writer in writers])
    return places


def _recordings(count: int) -> str:
    return f"{count} recording{'' if count == 1 else 's'}"
