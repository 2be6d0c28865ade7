"""Containers of phones and browsers: their audio is read, damaged files are refused."""

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio import AUDIO_SUFFIXES, find, header_seconds, load, open_recording, stream
from asr.audio import containers as media
from asr.errors import AsrError

KINDS = {"m4a": ("mp4", "aac"), "mp4": ("mp4", "aac"), "webm": ("webm", "libopus")}


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def encode(
    path: Path, samples: np.ndarray, rate: int = 48000, layout: str = "mono", film: bool = False
) -> Path:
    """Write samples `(channels, n)` as the suffix says, with some black frames if `film`."""
    container_format, codec = KINDS[path.suffix[1:]]
    with av.open(str(path), "w", format=container_format) as container:
        track = container.add_stream(codec, rate=rate, layout=layout)
        if film:
            pictures = container.add_stream("mpeg4", rate=10)
            pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
            for _ in range(5):
                black = np.zeros((32, 32, 3), np.uint8)
                picture = av.VideoFrame.from_ndarray(black, format="rgb24")
                container.mux(pictures.encode(picture))
            container.mux(pictures.encode())
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.atleast_2d(samples)), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        fifo = av.AudioFifo()
        fifo.write(frame)
        while part := fifo.read(960 if codec == "libopus" else 1024, partial=True):
            container.mux(track.encode(part))
        container.mux(track.encode())
    return path


@pytest.mark.parametrize("suffix", list(KINDS))
def test_the_audio_of_a_container_is_read(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"a.{suffix}", tone(2.0, 48000), film=suffix == "mp4")
    recording = load(path)
    assert recording.notes == ("48000 Hz resampled to 16000 Hz",)
    assert recording.seconds == pytest.approx(2.0, abs=0.1)
    assert header_seconds(path) == pytest.approx(2.0, abs=0.1)
    middle = recording.samples[8000:24000]
    amplitudes = np.abs(np.fft.rfft(middle)) * 2 / len(middle)
    assert amplitudes.argmax() == 440
    assert amplitudes.max() == pytest.approx(0.5, abs=0.02)


def test_mixing_channels_is_noted(tmp_path: Path) -> None:
    stereo = np.stack([tone(1.0, 48000), tone(1.0, 48000, 880.0)])
    recording = load(encode(tmp_path / "a.m4a", stereo, layout="stereo"))
    assert recording.notes[0] == "2 channels mixed"
    spectrum = np.abs(np.fft.rfft(recording.samples[4000:12000]))
    assert set(np.argsort(spectrum)[-2:]) == {220, 440}


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("a.mkv", "aac"), ("a.mkv", "flac"), ("a.mkv", "pcm_s16le")],
)
@pytest.mark.parametrize("layout", ["5.1", "7.1"])
def test_all_channels_of_surround_sound_are_read(
    tmp_path: Path, name: str, codec: str, layout: str
) -> None:
    count = sum(map(int, layout.split(".")))
    tones = np.stack([tone(1.0, 48000, 200.0 * (1 + i)) for i in range(count)], 1)
    with av.open(str(tmp_path / name), "w") as container:
        track = container.add_stream(codec, rate=48000, layout=layout)
        for first in range(0, len(tones), 1024):
            packed = np.round(tones[first : first + 1024] * 32767).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            frame.sample_rate, frame.pts = 48000, first
            container.mux(track.encode(frame))
        container.mux(track.encode())
    for channel in (1, count):
        recording = load(tmp_path / name, 48000, channel)
        assert recording.notes == (f"channel {channel} of {count} taken",)
        spectrum = np.abs(np.fft.rfft(recording.samples[:48000]))
        assert spectrum.argmax() == 200 * channel


def test_a_frame_that_cannot_be_converted_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, frames = encode(tmp_path / "a.m4a", tone(2.0, 48000)), av.AudioResampler, []

    class Failing:
        def __init__(self, **options: object) -> None:
            self.real = real(**options)

        def resample(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
            frames.append(frame)
            if len(frames) == 10:
                raise av.error.ArgumentError(22, "Invalid argument")
            return self.real.resample(frame)

    monkeypatch.setattr(av, "AudioResampler", Failing)
    with open_recording(path) as recording:
        samples = np.concatenate(list(stream(recording, 16000, partial=True)))
        assert recording.damage == "damaged, 1 of its packets cannot be decoded"
    assert len(samples) / 16000 == pytest.approx(2.0, abs=0.1)


def test_tracks_that_a_stream_names_too_late_are_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = encode(tmp_path / "a.m4a", tone(2.0, 48000)), av.open

    class Late:
        def __init__(self, *arguments: object, **options: object) -> None:
            self.container = real(*arguments, **options)

        def __getattr__(self, name: str) -> object:
            return getattr(self.container, name)

        def __enter__(self) -> None:
            self.container.__enter__()

        def __exit__(self, *error: object) -> None:
            self.container.__exit__(*error)

        def demux(self, stream: av.AudioStream) -> Iterator[av.Packet]:
            yield from self.container.demux(stream)
            raise IndexError("list index out of range")

    monkeypatch.setattr(av, "open", Late)
    assert load(path).seconds == pytest.approx(2.0, abs=0.1)


def test_blocks_of_a_container_are_what_load_gives(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.webm", tone(3.0, 48000))
    with open_recording(path) as recording:
        blocks = list(stream(recording, 16000))
    assert len(blocks) > 10
    whole = load(path).samples
    joined = np.concatenate(blocks)
    assert abs(len(joined) - len(whole)) <= 1
    count = min(len(joined), len(whole))
    assert np.abs(joined[:count] - whole[:count]).max() < 1e-3


@pytest.mark.parametrize("suffix", ["m4a", "webm"])
def test_half_a_container_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 4 * 48000).astype(np.float32)
    path = encode(tmp_path / f"a.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AsrError, match=rf"a\.{suffix}: "):
        load(path)


def test_a_container_without_audio_and_a_file_that_is_not_one_are_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
        black = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(pictures.encode(black))
        container.mux(pictures.encode())
    with pytest.raises(AsrError, match=r"film\.mp4: has no audio stream"):
        load(tmp_path / "film.mp4")
    (tmp_path / "words.mp4").write_text("no film at all" * 50)
    with pytest.raises(AsrError, match=r"words\.mp4: not audio that can be read"):
        load(tmp_path / "words.mp4")
    assert header_seconds(tmp_path / "words.mp4") == 0.0


def test_a_container_is_recognised_by_its_content_if_the_name_has_no_suffix(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", tone(1.0, 48000)).rename(tmp_path / "stdin")
    assert load(path).seconds == pytest.approx(1.0, abs=0.1)


def test_containers_are_found_in_folders(tmp_path: Path) -> None:
    for name in ("a.m4a", "b.WEBM", "c.wav", "d.jpg"):
        (tmp_path / name).touch()
    assert [item.path.name for item in find([tmp_path])] == ["a.m4a", "b.WEBM", "c.wav"]


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", tone(1.0, 48000))
    code = f"""import sys; sys.modules["av"] = None
from asr.audio import header_seconds, load
from asr.errors import AsrError
try: load({str(path)!r})
except AsrError as error: print(error)
print(header_seconds({str(path)!r}))"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == (
        f"{path}: .m4a needs the package av: pip install '.[media]' in the checkout of asr\n0.0\n"
    )


def test_suffixes_are_lower_case_and_not_those_of_the_base() -> None:
    assert all(suffix == suffix.lower() for suffix in media.MEDIA_SUFFIXES)
    assert not set(media.MEDIA_SUFFIXES) & set(AUDIO_SUFFIXES)


@pytest.mark.parametrize("length", [b"\xff" * 8, (2**62).to_bytes(8, "big")])
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_lengths_that_lead_beyond_the_file_are_damage(
    tmp_path: Path, kind: str, length: bytes
) -> None:
    heads = {
        "mp4": b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x01free" + length,
        "mkv": b"\x1a\x45\xdf\xa3\x01" + length[:7],
    }
    (tmp_path / f"a.{kind}").write_bytes(heads[kind])
    with pytest.raises(AsrError, match=f"a.{kind}"):
        load(tmp_path / f"a.{kind}", 16000)
