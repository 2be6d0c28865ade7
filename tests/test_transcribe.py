"""Recordings to text, in order, whatever the batches; folders, formats, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
import torch
from tone_network import RATE, save_tone_model, speak

from asr import transcribe as module
from asr.checkpoint import pack
from asr.errors import AsrError
from asr.transcribe import Recogniser, TranscribeOptions, Transcript, load, transcribe_to

TEXTS = ["BAD CAFE", "A", "FEED A CAGED BEE", "", "DAD", "GABBED", "A BED", "EGG"]


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return load(save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr"))


def record(path: Path, text: str, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(speak(text, rate)[:, None], channels, axis=1), rate)
    return path


def texts(transcripts: Iterator[Transcript]) -> list[str]:
    return [transcript.text for transcript in transcripts]


def test_a_file_becomes_a_transcript(recogniser: Recogniser, tmp_path: Path) -> None:
    path = record(tmp_path / "cafe.flac", "BAD CAFE")
    [transcript] = recogniser.transcribe(path)
    assert transcript == Transcript(
        str(path), "BAD CAFE", len(speak("BAD CAFE")) / RATE, "tone.asr"
    )
    assert texts(recogniser.transcribe(str(path))) == ["BAD CAFE"]


@pytest.mark.parametrize("batch_seconds", [0.1, 2.0, 120.0])
def test_texts_come_in_order_whatever_the_batches(
    recogniser: Recogniser, batch_seconds: float
) -> None:
    options = TranscribeOptions(batch_seconds=batch_seconds)
    sources = [speak(text) for text in TEXTS]
    assert texts(recogniser.transcribe(sources, options)) == TEXTS
    assert texts(recogniser.transcribe(sources[::-1], options)) == TEXTS[::-1]


def test_batches_are_sorted_by_length_and_bounded(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    hear = module.hear

    def watching(model: object, units: object, features: object, lengths: object) -> list[str]:
        seen.append(tuple(features.shape[:2]))
        return hear(model, units, features, lengths)

    monkeypatch.setattr(module, "hear", watching)
    sources = [speak(text) for text in TEXTS]
    heard = texts(recogniser.transcribe(sources, TranscribeOptions(batch_seconds=3.0)))
    assert heard == TEXTS
    assert all(count * frames <= 300 for count, frames in seen)
    assert len(seen) < len(sources)
    assert [frames for _, frames in seen] == sorted((frames for _, frames in seen), reverse=True)


def test_reading_stays_within_a_window(recogniser: Recogniser) -> None:
    read = 0

    def sources() -> Iterator[np.ndarray]:
        nonlocal read
        for text in TEXTS * 20:
            read += 1
            yield speak(text)

    transcripts = recogniser.transcribe(sources(), TranscribeOptions(batch_seconds=1.0))
    assert next(transcripts).text == TEXTS[0]
    assert read <= 12, "8 batches of a second hold about eight of these"
    assert texts(transcripts) == (TEXTS * 20)[1:]


def test_other_rates_and_channels_are_heard_and_noted(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    path = record(tmp_path / "cafe.wav", "BAD CAFE", rate=44100, channels=2)
    [transcript] = recogniser.transcribe([path])
    assert transcript.text == "BAD CAFE"
    assert transcript.notes == ("2 channels mixed", "44100 Hz resampled to 16000 Hz")


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_audio_too_short_for_a_frame_is_no_text(recogniser: Recogniser, samples: int) -> None:
    sources = [speak("BAD"), np.zeros(samples, np.float32), speak("CAFE")]
    assert texts(recogniser.transcribe(sources)) == ["BAD", "", "CAFE"]
    assert texts(recogniser.transcribe(sources[1])) == [""]


@pytest.mark.parametrize(
    ("waveform", "fragment"),
    [
        (np.zeros((2, 8000), np.float32), r"shape \(2, 8000\)"),
        (np.zeros(8000, np.int16), "type int16"),
        (np.full(8000, np.nan, np.float32), "not a number"),
    ],
)
def test_waveforms_of_another_kind_are_refused(
    recogniser: Recogniser, waveform: np.ndarray, fragment: str
) -> None:
    with pytest.raises(AsrError, match=fragment):
        next(recogniser.transcribe(waveform))


def test_a_bad_file_raises_after_all_before_it(recogniser: Recogniser, tmp_path: Path) -> None:
    paths = [record(tmp_path / "a.wav", "BAD"), tmp_path / "none.wav", tmp_path / "a.wav"]
    transcripts = recogniser.transcribe(paths)
    assert next(transcripts).text == "BAD"
    with pytest.raises(AsrError, match=r"none\.wav"):
        next(transcripts)


def test_a_bad_file_is_reported_on_request_and_the_rest_goes_on(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    paths = [record(tmp_path / "a.wav", "BAD"), tmp_path / "none.wav", tmp_path / "a.wav"]
    got = list(recogniser.transcribe(paths, TranscribeOptions(on_error="report")))
    assert [t.text for t in got] == ["BAD", "", "BAD"]
    assert [t.error is None for t in got] == [True, False, True]
    assert "none.wav" in str(got[1].error)


@pytest.mark.parametrize(
    ("values", "fragment"),
    [({"batch_seconds": 0.0}, "batch_seconds=0.0: above 0"), ({"on_error": "skip"}, "on_error=")],
)
def test_impossible_options_are_refused(values: dict, fragment: str) -> None:
    with pytest.raises(AsrError, match=fragment):
        TranscribeOptions(**values)


def test_one_recording_prints_its_text_and_nothing_else(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record(tmp_path / "cafe.wav", "BAD CAFE")
    assert transcribe_to(recogniser, [path]) == 0
    assert capsys.readouterr() == ("BAD CAFE\n", "")
    assert transcribe_to(recogniser, [path], formats=["json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "BAD CAFE"


def test_several_recordings_print_a_line_each_with_their_paths(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = record(tmp_path / "in" / "one.wav", "BAD", rate=8000)
    two = record(tmp_path / "in" / "sub" / "two.ogg", "CAFE", channels=2)
    assert transcribe_to(recogniser, [tmp_path / "in"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{one}\tBAD\n{two}\tCAFE\n"
    assert "1 recording: 8000 Hz resampled to 16000 Hz\n1 recording: 2 channels mixed\n" in err
    assert "2 recordings transcribed, " in err
    assert "; 0 failed" in err
    assert transcribe_to(recogniser, [one, two], formats=["json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["path"], line["text"]) for line in lines] == [
        (str(one), "BAD"),
        (str(two), "CAFE"),
    ]


def test_a_folder_is_mirrored_and_other_files_are_left_alone(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {"one.wav": "BAD", "sub/one.wav": "CAFE", "sub/v1.2.flac": "EGG"}.items():
        record(tmp_path / "in" / name, text)
    (tmp_path / "in" / "notes.md").write_text("no audio")
    failed = transcribe_to(recogniser, [tmp_path / "in"], tmp_path / "out", ["txt", "json"])
    assert (failed, capsys.readouterr().out) == (0, "")
    written = {
        str(path.relative_to(tmp_path / "out")): path.read_text()
        for path in (tmp_path / "out").rglob("*.*")
    }
    assert {name: text for name, text in written.items() if name.endswith(".txt")} == {
        "one.txt": "BAD\n",
        "sub/one.txt": "CAFE\n",
        "sub/v1.2.txt": "EGG\n",
    }
    assert {n: json.loads(t)["text"] for n, t in written.items() if n.endswith(".json")} == {
        "one.json": "BAD",
        "sub/one.json": "CAFE",
        "sub/v1.2.json": "EGG",
    }
    assert len(written) == 6


def test_a_truncated_file_is_counted_and_writes_nothing(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "in" / "good.flac", "BAD")
    record(tmp_path / "in" / "later.flac", "EGG")
    cut = record(tmp_path / "in" / "cut.flac", "CAFE")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    assert transcribe_to(recogniser, [tmp_path / "in"], tmp_path / "out") == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.txt", "later.txt"]
    err = capsys.readouterr().err
    assert f"{cut}: " in err
    assert "2 recordings transcribed" in err
    assert "1 failed" in err


def refuse(recogniser: Recogniser, fragment: str, *arguments: object) -> None:
    with pytest.raises(AsrError, match=fragment):
        transcribe_to(recogniser, *arguments)


def test_what_cannot_work_is_refused_before_any_work(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav, flac = (record(tmp_path / "in" / f"a.{kind}", "BAD") for kind in ("wav", "flac"))
    other = record(tmp_path / "other" / "a.wav", "EGG")
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    refuse(recogniser, r"a\.flac and .*a\.wav would both be written to .*a\.txt", [wav.parent], out)
    refuse(recogniser, "would both be written", [wav, other], out)
    refuse(recogniser, "would both be written", [wav, flac], out, ["json"])
    refuse(recogniser, "'doc' is unknown; there are txt, json", [wav], out, ["doc"])
    refuse(recogniser, "several formats need a folder", [wav], None, ["txt", "json"])
    refuse(recogniser, r"a\.wav: is a file", [other], wav)
    refuse(recogniser, "folder without audio", [empty], out)
    refuse(recogniser, "no such file", [tmp_path / "none.wav"], out)
    assert not out.exists()
    assert capsys.readouterr() == ("", "")
    assert transcribe_to(recogniser, [wav, wav], out) == 0
    assert [p.name for p in out.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("values", ["fp32", "fp16"])
@pytest.mark.parametrize("fold", [False, True])
def test_a_packed_model_hears_what_the_dense_one_hears(
    tmp_path: Path, values: Literal["fp32", "fp16"], fold: bool
) -> None:
    pack(save_tone_model(tmp_path / "tone.asr"), tmp_path / "packed.asr", values, fold)
    packed = load(tmp_path / "packed.asr")
    transcripts = list(packed.transcribe(speak(text) for text in TEXTS))
    assert [t.text for t in transcripts] == TEXTS
    assert {t.model for t in transcripts} == {"packed.asr"}


def test_threads_are_set_for_torch(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        load(save_tone_model(tmp_path / "tone.asr"), threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(AsrError, match=r"notes\.txt"):
        load(tmp_path / "notes.txt")
    with pytest.raises(AsrError, match=r"none\.asr"):
        load(tmp_path / "none.asr")


def test_zero_threads_are_refused() -> None:
    with pytest.raises(AsrError, match="threads=0: at least 1"):
        load("any.asr", threads=0)


def test_without_torch_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from asr.transcribe import load; from asr.errors import AsrError\n"
        "try: load('any.asr')\n"
        "except AsrError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "running a model needs torch: pip install 'asr[train]'\n"


def test_importing_the_room_loads_no_torch() -> None:
    code = "import sys, asr.transcribe, asr.evaluate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
