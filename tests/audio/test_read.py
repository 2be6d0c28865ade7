"""Recordings become mono float32; missing, damaged and other files are refused by name."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio import AUDIO_SUFFIXES, find, header_seconds, load, open_recording, stream
from asr.errors import AsrError


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def noise(samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = 16000, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


def cut_in_half(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_16_bit_samples_come_back_exactly_and_without_notes(tmp_path, suffix):
    samples = np.arange(-1000, 1000, dtype=np.int16)
    recording = load(write(tmp_path / f"a.{suffix}", samples))
    assert recording.samples.dtype == np.float32
    assert np.array_equal(recording.samples * 32768, samples)
    assert recording.notes == ()
    assert recording.seconds == 0.125


def test_channels_are_mixed_and_other_rates_resampled_and_both_are_noted(tmp_path):
    left, right = tone(1.0, 44100), tone(1.0, 44100, 880.0)
    recording = load(write(tmp_path / "a.wav", np.stack([left, right], 1), 44100, subtype="FLOAT"))
    assert recording.notes == ("2 channels mixed", "44100 Hz resampled to 16000 Hz")
    assert recording.sample_rate == 16000
    assert recording.samples.shape == (16000,)
    expected = (tone(1.0, 16000) + tone(1.0, 16000, 880.0)) / 2
    assert np.abs(recording.samples - expected)[100:-100].max() < 1e-3


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("mp3", {}), ("ogg", {}), ("opus", {"format": "OGG", "subtype": "OPUS"})],
)
def test_lossy_formats_are_decoded(tmp_path, suffix, options):
    recording = load(write(tmp_path / f"a.{suffix}", tone(1.0, 16000), **options))
    middle = slice(4000, 12000)
    spectrum = np.abs(np.fft.rfft(recording.samples[middle]))
    assert spectrum.argmax() == 220  # 440 Hz in half a second
    assert recording.seconds == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_blocks_together_are_what_load_gives_for_any_length(tmp_path, rate):
    samples = np.stack([noise(rate * 40), tone(40.0, rate)], 1)
    path = write(tmp_path / "a.flac", samples, rate)
    with open_recording(path) as recording:
        blocks = list(stream(recording))
        assert recording.notes(16000) == load(path).notes
    assert len(blocks) > 1
    joined, whole = np.concatenate(blocks), load(path).samples
    assert np.array_equal(joined, whole)


def test_blocks_of_a_truncated_file_come_before_the_error(tmp_path):
    path = cut_in_half(write(tmp_path / "a.wav", noise(16000 * 80)))
    with open_recording(path) as recording:
        blocks = stream(recording)
        assert len(next(blocks)) > 16000
        with pytest.raises(AsrError, match="truncated"):
            list(blocks)


def test_the_length_is_read_from_the_header_if_there_is_one(tmp_path):
    assert header_seconds(write(tmp_path / "a.flac", noise(24000))) == 1.5
    (tmp_path / "b.wav").write_text("no audio")
    assert header_seconds(tmp_path / "b.wav") == 0.0
    assert header_seconds(tmp_path / "none.wav") == 0.0


@pytest.mark.parametrize("suffix", ["flac", "wav", "mp3"])
def test_half_a_recording_is_refused(tmp_path, suffix, capfd):
    path = cut_in_half(write(tmp_path / f"a.{suffix}", noise(32000)))
    with pytest.raises(AsrError, match=rf"a\.{suffix}: .*truncated"):
        load(path)
    capfd.readouterr()  # libmpg123 prints warnings on standard error


def test_a_flac_truncated_at_every_tenth_of_its_length_is_refused(tmp_path):
    path = write(tmp_path / "a.flac", noise(32000))
    content = path.read_bytes()
    for tenths in range(1, 10):
        path.write_bytes(content[: len(content) * tenths // 10])
        with pytest.raises(AsrError, match=r"a\.flac: "):
            load(path)


def test_a_wav_from_a_pipe_with_an_open_length_is_read(tmp_path):
    path = write(tmp_path / "a.wav", noise(1600))
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(load(path).samples) == 1600


@pytest.mark.parametrize(
    ("content", "fragment"),
    [(b"", "the file is empty"), (b"these are words, no audio" * 20, "not audio")],
)
def test_a_file_that_is_not_audio_is_refused(tmp_path, content, fragment):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AsrError, match=rf"a\.wav: .*{fragment}"):
        load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(AsrError, match=r"none\.wav: no such file"):
        load(tmp_path / "none.wav")
    with pytest.raises(AsrError, match="is a folder"):
        load(tmp_path)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_zero_samples_are_refused(tmp_path, suffix):
    with pytest.raises(AsrError, match=rf"a\.{suffix}: "):
        load(write(tmp_path / f"a.{suffix}", noise(0)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_samples_that_are_nan_are_refused(tmp_path, value):
    samples = noise(1000)
    samples[500] = value
    with pytest.raises(AsrError, match=r"a\.wav: .*infinite or not a number"):
        load(write(tmp_path / "a.wav", samples, subtype="FLOAT"))


def test_find_walks_folders_sorted_and_mirrors_from_what_was_given(tmp_path):
    for name in ("b/2.FLAC", "b/1.wav", "a.ogg", "b/note.txt", "b/._1.wav", ".hidden/3.wav"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find([tmp_path / "in", tmp_path / "in/b/1.wav"])
    assert [str(item.relative) for item in found] == ["a.ogg", "b/1.wav", "b/2.FLAC"]
    assert [(root, path) for root, path in find([tmp_path / "in/b/1.wav"])] == [
        (tmp_path / "in/b", tmp_path / "in/b/1.wav")
    ]


def test_find_refuses_a_folder_without_recordings(tmp_path):
    (tmp_path / "note.txt").touch()
    with pytest.raises(AsrError, match=r"folder without audio; looked for .*flac .*wav"):
        find([tmp_path])
    (tmp_path / "note.txt").write_text("words, not sound")
    [given] = find([tmp_path / "note.txt"])
    with pytest.raises(AsrError, match=r"note\.txt: not audio that can be read"):
        load(given.path)
    with pytest.raises(AsrError, match="no such file or folder"):
        find([tmp_path / "elsewhere"])


def test_find_refuses_a_folder_that_it_cannot_list(tmp_path, monkeypatch):
    write(tmp_path / "in" / "a.wav", noise(100))
    (tmp_path / "in" / "locked").mkdir()
    scandir = os.scandir

    def locked(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(AsrError, match="locked: the folder cannot be listed: Permission denied"):
        find([tmp_path / "in"])


def test_every_suffix_is_lower_case_and_known_to_libsndfile_or_one_of_its_names():
    names = {f".{name.lower()}" for name in soundfile.available_formats()}
    also = {".aif", ".aifc", ".mp1", ".mp2", ".mpga", ".wave", ".oga", ".opus", ".snd", ".sph"}
    assert set(AUDIO_SUFFIXES) <= names | also
