"""Recordings that would stop a training in its middle are found before it starts."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from asr.corpus import check
from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.errors import AsrError
from asr.settings.data import AugmentSettings
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train.folder import resume_point
from asr.train.prepare import prepare


def with_samples(*values: float) -> Callable[[Path], None]:
    """Writes a second of noise as floats, these values in its middle."""

    def write(path: Path) -> None:
        samples = np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.1
        samples[8000 : 8000 + len(values)] = values
        soundfile.write(path, samples, 16000, subtype="FLOAT")

    return write


def damaged_flac(path: Path) -> None:
    samples = np.random.default_rng(0).normal(size=48000) * 0.1
    soundfile.write(path, samples, 16000, format="FLAC")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
    path.write_bytes(content)


BAD = {
    "a NaN": with_samples(np.nan),
    "infinite": with_samples(np.inf, -np.inf),
    "beyond all size": with_samples(1e30),
    "all NaN": with_samples(*[np.nan] * 8000),
    "damaged inside": damaged_flac,
}


@pytest.fixture
def data(corpus: Path, tmp_path: Path) -> Callable[..., Run]:
    """Settings of a training that has a bad recording in a part."""

    def settings(write: Callable[[Path], None] | None, part: str, unusable: str) -> Run:
        if write:
            write(tmp_path / "bad.wav")
        for name in ("train", "dev"):
            utterances = read_manifest(corpus / f"{name}.jsonl")
            if write and name == part:
                seconds = soundfile.info(str(tmp_path / "bad.wav")).duration
                bad = Utterance("bad", str(tmp_path / "bad.wav"), seconds, "ONE", "")
                utterances = [*utterances, bad]
            write_manifest(tmp_path / f"{name}.jsonl", utterances)
        return load(Run, None, [
            f"data.train=[{tmp_path}/train.jsonl]", f"data.dev=[{tmp_path}/dev.jsonl]",
            f"data.unusable={unusable}",
        ])  # fmt: skip

    return settings


@pytest.mark.parametrize("part", ["train", "dev"])
@pytest.mark.parametrize("write", BAD.values(), ids=BAD)
def test_a_recording_that_cannot_be_decoded_is_left_out_at_every_start(write, part, data, tmp_path):
    settings = data(write, part, "exclude")
    for _ in range(2):
        prepared = prepare(settings, tmp_path / "run", Console(quiet=True))
        assert prepared.excluded == 1
        assert "bad" not in {u.id for u in [*prepared.train, *prepared.dev]}
        assert "bad.wav" in (tmp_path / "run" / "unusable.txt").read_text()


@pytest.mark.parametrize("write", BAD.values(), ids=BAD)
def test_it_is_refused_before_the_training_otherwise(write, data, tmp_path):
    with pytest.raises(AsrError, match=r"(?s)unreadable.*bad\.wav.*unusable=exclude"):
        prepare(data(write, "train", "refuse"), tmp_path / "run", Console(quiet=True))


def test_recordings_that_are_converted_are_counted_at_the_first_start(data, tmp_path):
    def narrow_stereo(path: Path) -> None:
        soundfile.write(path, np.random.default_rng(0).normal(size=(8000, 2)) * 0.1, 8000)

    settings, printed = data(narrow_stereo, "train", "refuse"), []
    for _ in range(2):
        console = Console(file=io.StringIO(), width=200)
        prepare(settings, tmp_path / "run", console)
        printed.append(console.file.getvalue())
    assert "1 recordings resampled from 8000 to 16000 Hz" in printed[0]
    assert "1 recordings of 2 channels mixed to one" in printed[0]
    assert "recordings" not in printed[1]


@pytest.mark.parametrize(
    ("key", "write", "fragment"),
    [
        ("noise", damaged_flac, r"x\.wav"),
        ("noise", None, "no such file or folder"),
        ("response", damaged_flac, r"x\.wav"),
        ("response", with_samples(*[np.nan] * 8000), r"x\.wav"),
        ("response", lambda path: soundfile.write(path, np.zeros(800), 16000), "of silence"),
    ],
)
def test_noise_and_responses_are_read_before_the_first_step(key, write, fragment, data, tmp_path):
    folder = tmp_path / key
    if write:
        folder.mkdir()
        write(folder / "x.wav")
    given = {"noise_folder": str(folder), "noise_probability": 0.01}
    if key == "response":
        given = {"response_folder": str(folder), "reverberation_probability": 0.01}
    settings = replace(data(None, "train", "refuse"), augment=AugmentSettings(**given))
    with pytest.raises(AsrError, match=rf"^augment\.{key}_folder: .*{fragment}"):
        prepare(settings, tmp_path / "run", Console(quiet=True))
    resume_point(tmp_path / "run").parent.mkdir(parents=True)
    resume_point(tmp_path / "run").touch()
    prepare(settings, tmp_path / "run", Console(quiet=True))  # it goes on as it was begun


def test_recordings_are_decoded_again_only_if_they_have_changed(data, tmp_path, monkeypatch):
    decoded: list[str] = []
    load_audio = check.audio.load

    def counting(path: str, rate: int) -> object:
        decoded.append(path)
        return load_audio(path, rate)

    monkeypatch.setattr(check.audio, "load", counting)
    settings = data(None, "train", "refuse")
    folder = tmp_path / "run"
    prepared = prepare(settings, folder, Console(quiet=True))
    count = len(decoded)
    assert count == len(prepared.train) + len(prepared.dev)
    prepare(settings, folder, Console(quiet=True))
    assert len(decoded) == count
    for damage in (b"", b"{", b"null"):
        (folder / "data_checked.json").write_bytes(damage)
        prepare(settings, folder, Console(quiet=True))
        assert len(decoded) == 2 * count
        decoded = decoded[:count]
