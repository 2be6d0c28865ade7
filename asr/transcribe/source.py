"""What may be transcribed: names of files, files that are open, their bytes, and waveforms.

Waveforms come as the libraries around give them: arrays and torch's tensors of floats or integers,
with a sample rate beside them (`soundfile.read`, `torchaudio.load`, gradio) or in a dictionary
(`datasets`).
"""

import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from asr import audio
from asr.audio import mix
from asr.errors import AsrError

Floats = npt.NDArray[np.float32]
Source = Any
"""One of these: the name of a file; a part of a file, as `asr.audio.Clip`; a file that is open for
reading bytes, `io.BytesIO` too; the bytes of a file; a recording of `audio.open_file`; a mono
waveform `(samples,)` at the model's sample rate, an array or a tensor of floats about +-1 or of
integers of 8 to 32 bits; a waveform with its sample rate, which may have channels; a dictionary
with `array` and `sampling_rate`."""

_GIVE = (
    "give the name of a file, an open file, its bytes, a waveform, (waveform, sample rate), or "
    "several of these in a list"
)
_MOST_CHANNELS = 32


def listed(sources: Source | Iterable[Source]) -> Iterable[Source]:
    """The sources, also if there is one alone. Raises AsrError for what is neither."""
    if _is_one(sources):
        return [sources]
    if isinstance(sources, Iterable) and not isinstance(sources, Mapping):
        return sources
    raise AsrError(f"{_kind(sources)} cannot be transcribed: {_GIVE}")


def name_of(source: Source) -> str:
    """The name of a file; empty for what has none."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, audio.OpenRecording):
        return str(source.path)
    if isinstance(source, audio.Clip):
        return source.path
    name = getattr(source, "name", "") if hasattr(source, "read") else ""
    return name if isinstance(name, str) else ""


def read_waveform(
    source: Source, rate: int, channel: int | None = None
) -> tuple[Floats, tuple[str, ...]] | None:
    """The waveform of a source at `rate` and what was changed, in words; None for a file.

    `channel` (from 1) takes one channel instead of mixing them.
    Raises AsrError for one that is not sound, and for a channel that it does not have.
    """
    if isinstance(source, Mapping):
        source = (source["array"], source["sampling_rate"])
    if _is_rated(source):
        samples, given = source if _is_number(source[1]) else reversed(source)
        return _resampled(samples, given, rate, channel)
    if isinstance(source, np.ndarray) or _is_tensor(source):
        samples = _floats(source)
        if samples is None or samples.ndim != 1:
            shape, kind = getattr(source, "shape", ()), getattr(source, "dtype", "")
            raise AsrError(
                f"a waveform must be one row of floats about +-1 at {rate} Hz; this one has "
                f"shape {tuple(shape)} and type {kind}; with its sample rate, as (samples, rate), "
                "it is resampled and its channels are mixed"
            )
        return _mixed(samples[:, None], channel)
    return None


@contextmanager
def opened(source: Source, channel: int | None = None) -> Iterator[audio.OpenRecording]:
    """The recording of a source that is not a waveform; `channel` is that of `open_recording`.

    Raises AsrError for what is not a recording.
    """
    if isinstance(source, audio.OpenRecording):
        yield source
        return
    with as_file(source) as path, audio.open_recording(path, channel) as recording:
        yield recording


@contextmanager
def as_file(source: Source) -> Iterator[Path | audio.Clip]:
    """The path of a file, or a part of it; of an open file, or of bytes, a copy while in use.

    Raises AsrError for what is not a file.
    """
    if isinstance(source, str | os.PathLike | audio.Clip):
        yield source if isinstance(source, audio.Clip) else Path(source)
        return
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    if not hasattr(source, "read"):
        raise AsrError(f"{_kind(source)} cannot be transcribed: {_GIVE}")
    name = name_of(source) or "open file"
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        copy = Path(folder) / "recording"
        with copy.open("wb") as file:
            try:
                shutil.copyfileobj(source, file)
            except TypeError:
                raise AsrError(f"{name}: is open as text; open it with mode 'rb'") from None
        try:
            yield copy
        except AsrError as error:
            raise AsrError(str(error).replace(str(copy), name)) from None


def _is_one(source: Any) -> bool:
    if isinstance(source, Mapping):
        return {"array", "sampling_rate"} <= set(source)
    files = str | os.PathLike | bytes | bytearray | memoryview | audio.Clip
    known = isinstance(source, files | np.ndarray | audio.OpenRecording) or hasattr(source, "read")
    return known or _is_tensor(source) or _is_rated(source)


def _is_tensor(source: Any) -> bool:
    """Whether it is a tensor of torch, which need not be installed."""
    return hasattr(source, "detach") and hasattr(source, "cpu")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) and not isinstance(value, bool)


def _is_rated(source: Any) -> bool:
    """Whether it is a waveform and its sample rate, in either order."""
    if not isinstance(source, tuple) or len(source) != 2:
        return False
    numbers = [_is_number(value) for value in source]
    other = source[0] if numbers == [False, True] else source[1]
    waveform = isinstance(other, np.ndarray | list) or _is_tensor(other)
    return sum(numbers) == 1 and waveform


def _resampled(
    samples: Any, given: Any, rate: int, channel: int | None
) -> tuple[Floats, tuple[str, ...]]:
    """A waveform of any rate and of several channels, as `rate` and one row."""
    if not 1 <= given <= 10_000_000 or given != int(given):
        raise AsrError(f"a waveform has the sample rate {given}: a whole number of Hz is needed")
    rows = _floats(samples)
    if rows is None or rows.ndim not in (1, 2) or (rows.ndim == 2 and not rows.size):
        raise AsrError(
            "a waveform must be (samples,), (samples, channels) or (channels, samples), of floats "
            f"about +-1 or integers of 8 to 32 bits; this one has shape {np.shape(samples)} and "
            f"type {getattr(samples, 'dtype', type(samples).__name__)}"
        )
    if rows.ndim == 1:
        rows = rows[:, None]
    elif rows.shape[0] <= rows.shape[1]:
        rows = rows.T  # nobody has more channels than samples
    if rows.shape[1] > _MOST_CHANNELS:
        shape = np.shape(samples)
        raise AsrError(f"a waveform of shape {shape}: {rows.shape[1]} channels are too many")
    mixed, notes = _mixed(rows, channel)
    if given != rate:
        mixed = soxr.resample(mixed, int(given), rate)
        notes = (*notes, f"{int(given)} Hz resampled to {rate} Hz")
    return mixed, notes


def _mixed(block: Floats, channel: int | None) -> tuple[Floats, tuple[str, ...]]:
    """One row of `(samples, channels)`, as of a file, and what became of the channels."""
    mixer = mix.Mixer("a waveform", channel)
    samples = np.ascontiguousarray(mixer.mix(block))
    return samples, tuple(mix.notes(block.shape[1], channel, mixer.cancelled))


def _floats(samples: Any) -> Floats | None:
    """Floats about +-1; None for what is not numbers of sound."""
    if _is_tensor(samples):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.dtype.is_floating_point else samples).numpy()
    try:
        samples = np.asarray(samples)
    except ValueError:  # rows of several lengths
        return None
    if np.issubdtype(samples.dtype, np.floating):
        with np.errstate(over="ignore"):  # to infinity, which is refused later
            return samples.astype(np.float32)
    if samples.dtype == np.uint8:
        return ((samples.astype(np.float32) - 128) / 128).astype(np.float32)
    if samples.dtype in (np.int8, np.int16, np.int32):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    return None


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
