"""A clip is the part of a recording that it says, read without decoding what lies before it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from encoded import SOUNDFILE, encode, sound

from asr import audio
from asr.audio import Clip
from asr.errors import AsrError

PLACES = [(0.0, 1.5), (10.0, 2.0), (13.3337, 4.001), (18.5, 1.5), (0.4, 0.3), (19.0, None)]


def noise(path: Path, seconds: float, rate: int = 16000, **kind: str) -> Path:
    samples = np.random.default_rng(1).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, samples, rate, **kind)
    return path


@pytest.mark.parametrize("kind", [*SOUNDFILE, "m4a"])
def test_a_clip_has_the_samples_that_the_whole_recording_has_there(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(encode(kind, sound(20)))
    whole = audio.load(path).samples
    for offset, seconds in PLACES:
        end = None if seconds is None else round((offset + seconds) * 16000)
        expected = whole[round(offset * 16000) : end]
        clip = Clip(str(path), offset, seconds)
        np.testing.assert_allclose(audio.load(clip).samples, expected, atol=1e-6)
        assert audio.length(clip) == pytest.approx(len(expected) / 16000, abs=0.06)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus"])
def test_what_lies_before_a_clip_is_not_read(kind, tmp_path, monkeypatch):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(encode(kind, sound(20)))
    blocks: list[int] = []
    read = soundfile.SoundFile.read

    def counted(self, *words, **named):
        block = read(self, *words, **named)
        blocks.append(len(block) / self.samplerate)
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    monkeypatch.setattr(audio.read, "_BLOCK_SAMPLES", 8000)
    audio.load(Clip(str(path), 17.0, 1.0))
    assert sum(blocks) < 4


def test_a_clip_of_damaged_recording_is_whole_where_the_damage_is_elsewhere(tmp_path):
    path = noise(tmp_path / "a.flac", 60)
    whole = audio.load(path).samples
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AsrError, match="truncated"):
        audio.load(path)
    np.testing.assert_array_equal(
        audio.load(Clip(str(path), 5.0, 2.0)).samples, whole[80000:112000]
    )
    assert audio.length(Clip(str(path), 5.0, 2.0)) == 2.0
    for clip in (Clip(str(path), 28.0, 10.0), Clip(str(path), 5.0)):
        with pytest.raises(AsrError, match=r"a\.flac: .*truncated"):
            audio.load(clip)


def test_the_end_of_a_recording_within_or_before_a_clip_is_said(tmp_path):
    path = noise(tmp_path / "a.wav", 3)
    with pytest.raises(AsrError, match=r"ends within the clip from 2 s: 1\.00 s of 4 s"):
        audio.load(Clip(str(path), 2.0, 4.0))
    with pytest.raises(AsrError, match=r"offset of 7 s lies behind the end .* at 3\.00 s"):
        audio.load(Clip(str(path), 7.0, 1.0))
    assert audio.length(Clip(str(path), 2.0, 4.0)) == 1.0
    assert len(audio.load(Clip(str(path), 2.0, 1.01)).samples) == 16000  # manifests round
    for offset, seconds in ((-1, 1), (float("nan"), 1), (0, -1), (0, float("inf"))):
        with pytest.raises(AsrError, match="seconds, 0 or more"):
            Clip("a.wav", offset, seconds)


def test_clips_cross_files_that_were_joined_and_take_a_channel_and_a_rate(tmp_path):
    two = np.random.default_rng(2).normal(0, 0.1, (48000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "one.flac", two, 16000)
    joined = tmp_path / "joined.flac"
    joined.write_bytes((tmp_path / "one.flac").read_bytes() * 2)
    whole = audio.load(joined, channel=2).samples
    assert len(whole) == 96000
    for offset, seconds in ((2.0, 2.0), (4.5, 1.0), (0.5, 1.0)):
        got = audio.load(Clip(str(joined), offset, seconds, channel=2)).samples
        np.testing.assert_array_equal(got, whole[round(offset * 16000) :][: round(seconds * 16000)])
    assert len(audio.load(Clip(str(joined), 1.0, 1.0), 8000).samples) == 8000
    assert pickle.loads(pickle.dumps(Clip("a", 1.0))) == Clip("a", 1.0)
    assert str(Clip("a.wav", 1, 2)) == "a.wav (1 s to 3 s)"
