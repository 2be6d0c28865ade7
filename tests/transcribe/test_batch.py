"""Many files: output paths, skipped files, failures, messages, memory."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tone_network import RATE, record, speak
from transcribed import files

from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.transcribe.batch import transcribe_to
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser
from asr.transcribe.subtitles import SubtitleOptions


def test_one_recording_prints_only_its_text(
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


def test_a_folder_is_mirrored_and_other_files_are_not_touched(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {"one.wav": "BAD", "sub/one.wav": "CAFE", "sub/v1.2.flac": "EGG"}.items():
        record(tmp_path / "in" / name, text)
    (tmp_path / "in" / "notes.md").write_text("no audio")
    failed = transcribe_to(recogniser, [tmp_path / "in"], tmp_path / "out", ["txt", "json"])
    assert (failed, capsys.readouterr().out) == (0, "")
    written = files(tmp_path / "out")
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


@pytest.mark.parametrize("suffix", ["flac", "wav", "aiff", "mp3"])
def test_of_a_truncated_file_what_is_there_is_transcribed_and_it_is_said(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    record(tmp_path / "in" / "good.flac", "BAD")
    record(tmp_path / "in" / "later.flac", "EGG")
    half = record(tmp_path / "in" / f"half.{suffix}", "BAD " * 6 + "CAFE " * 6)
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    out, formats = tmp_path / "out", ["txt", "json"]
    assert transcribe_to(recogniser, [tmp_path / "in"], out, formats) == 1
    err = capsys.readouterr().err
    assert f"{half}: truncated" in err
    assert "3 recordings transcribed" in err
    assert "1 not complete (--accept-truncated counts them as done); 0 failed" in err
    assert (out / "half.txt").read_text().startswith("BAD BAD")
    written = {name: json.loads((out / f"{name}.json").read_text()) for name in ("half", "good")}
    assert (written["half"]["complete"], written["good"]["complete"]) == (False, True)
    assert "truncated" in written["half"]["notes"][-1]
    again = [tmp_path / "in"], out, formats
    assert transcribe_to(recogniser, *again) == 1
    err = capsys.readouterr().err
    assert f"{half}: truncated or damaged, its text is of a part of it" in err
    assert "3 skipped, done before" in err
    assert transcribe_to(recogniser, *again, accept_truncated=True) == 0
    assert "1 not complete (accepted)" in capsys.readouterr().err
    assert transcribe_to(recogniser, *again, overwrite=True, accept_truncated=True) == 0
    assert "1 not complete (accepted); 0 failed" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["flac", "wav", "mp3"])
def test_a_truncated_file_alone_prints_its_text_with_status_1(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    half = record(tmp_path / f"half.{suffix}", "BAD " * 6 + "CAFE " * 6)
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    assert transcribe_to(recogniser, [half]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("BAD BAD")
    assert f"{half}: truncated" in err
    with pytest.raises(AsrError, match="truncated"):
        recogniser.log_probs(half)


def test_what_a_folder_holds_beside_recordings_is_said(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "a.wav", "BAD")
    for name in ("a.txt", "b.txt", "c.pdf", "README"):
        (tmp_path / name).write_text("not sound")
    assert transcribe_to(recogniser, [tmp_path]) == 0
    message = "4 files passed over, not recordings: 2 .txt, 1 "
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("channels", [(1.0, -1.0), (0.8, -1.0), (0.0, 1.0)])
def test_words_of_two_channels_are_not_lost(
    recogniser: Recogniser,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    channels: tuple[float, float],
) -> None:
    path = tmp_path / "two.wav"
    soundfile.write(path, speak("BAD CAFE")[:, None] * np.array(channels, np.float32), RATE)
    assert transcribe_to(recogniser, [path]) == 0
    assert capsys.readouterr().out == "BAD CAFE\n"
    assert transcribe_to(recogniser, [path], options=TranscribeOptions(channel=2)) == 0
    assert capsys.readouterr().out == "BAD CAFE\n"
    assert transcribe_to(recogniser, [path], options=TranscribeOptions(channel=3)) == 1
    assert "has 2 channels, no channel 3" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="files without a name need /dev/fd")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_the_copy_of_standard_input_is_gone_whatever_ends_the_process(
    tmp_path: Path, number: int
) -> None:
    code = (
        "import os, signal, sys\n"
        # A shell starts what runs in the background with this signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from asr.transcribe import batch\n"
        "with batch._copied(sys.stdin.buffer) as path:\n"
        "    print(path.stat().st_size, flush=True)\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
    )
    content = record(tmp_path / "a.wav", "BAD").read_bytes()
    (tmp_path / "temporary").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=content,
        capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        check=False,
    )
    assert (int(run.stdout), run.returncode != 0) == (len(content), True)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_two_recordings_of_one_name_keep_their_suffix(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    for name, text in {"a.wav": "BAD", "a.flac": "EGG", "b.wav": "DAD", "a.wav.flac": "A"}.items():
        record(tmp_path / "in" / name, text)
    assert transcribe_to(recogniser, [tmp_path / "in"], tmp_path / "out") == 0
    assert files(tmp_path / "out") == {
        "a.wav.txt": "BAD\n",
        "a.flac.txt": "EGG\n",
        "b.txt": "DAD\n",
        "a.wav.flac.txt": "A\n",
    }


def test_finished_files_are_skipped_unless_overwriting_is_asked_for(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (record(tmp_path / "in" / f"{name}.wav", "BAD") for name in ("one", "two"))
    out = tmp_path / "out"
    transcribe_to(recogniser, [tmp_path / "in"], out)
    assert "skipped" not in capsys.readouterr().err
    (out / "one.txt").write_text("corrected by hand\n")
    transcribe_to(recogniser, [tmp_path / "in"], out)
    err = capsys.readouterr().err
    assert "0 recordings transcribed; 2 skipped, done before (--overwrite" in err
    assert files(out) == {"one.txt": "corrected by hand\n", "two.txt": "BAD\n"}

    record(two, "EGG")
    os.utime(two, ns=(time.time_ns() + 10**9,) * 2)
    transcribe_to(recogniser, [tmp_path / "in"], out)
    assert "2 skipped, done before, 1 before the recording changed" in capsys.readouterr().err
    assert (out / "two.txt").read_text() == "BAD\n"

    transcribe_to(recogniser, [one, two], out, ["txt", "json"])
    assert json.loads((out / "one.json").read_text())["text"] == "BAD"
    assert (out / "one.txt").read_text() == "corrected by hand\n"

    transcribe_to(recogniser, [one, two], out, overwrite=True)
    assert [(out / f"{name}.txt").read_text() for name in ("one", "two")] == ["BAD\n", "EGG\n"]


def test_a_name_that_is_not_text_and_a_folder_that_cannot_be_made(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.wav")
    record(tmp_path / "plain.wav", "BAD").rename(odd)
    assert transcribe_to(recogniser, [odd], formats=["json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == f"{tmp_path}/caf?.wav"
    assert transcribe_to(recogniser, [tmp_path], tmp_path / "out") == 0
    assert [os.fsencode(name) for name in files(tmp_path / "out")] == [b"caf\xe9.txt"]
    odd.write_bytes(b"no audio")
    assert transcribe_to(recogniser, [odd]) == 1
    assert "caf?.wav: not audio" in capsys.readouterr().err

    (tmp_path / "file").write_text("no folder")
    good = record(tmp_path / "good.wav", "BAD")
    with pytest.raises(AsrError, match=r"file.*: cannot be written: "):
        transcribe_to(recogniser, [good], tmp_path / "file" / "out")


def test_standard_input_is_a_recording(
    recogniser: Recogniser,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = record(tmp_path / "a.flac", "BAD CAFE").read_bytes()

    def hand_over(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    hand_over(content)
    assert transcribe_to(recogniser, ["-"]) == 0
    assert capsys.readouterr() == ("BAD CAFE\n", "")
    hand_over(content)
    assert transcribe_to(recogniser, ["-", tmp_path / "a.flac"]) == 0
    assert capsys.readouterr().out == f"-\tBAD CAFE\n{tmp_path / 'a.flac'}\tBAD CAFE\n"
    hand_over(content)
    assert transcribe_to(recogniser, ["-"], tmp_path / "out", ["json"]) == 0
    assert json.loads((tmp_path / "out" / "stdin.json").read_text())["path"] == "-"
    hand_over(b"no audio")
    assert transcribe_to(recogniser, ["-"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("-: not audio that can be read")


def test_lines_of_tsv_begin_with_the_path(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [record(tmp_path / f"{i}.wav", text) for i, text in enumerate(["BAD EGG", "", "DAD"])]
    assert transcribe_to(recogniser, paths, formats=["tsv"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[3]) for row in rows] == [
        (str(paths[0]), "BAD"),
        (str(paths[0]), "EGG"),
        (str(paths[2]), "DAD"),
    ]


def refuse(recogniser: Recogniser, fragment: str, *arguments: object, **options: object) -> None:
    with pytest.raises(AsrError, match=fragment):
        transcribe_to(recogniser, *arguments, **options)


def test_impossible_requests_are_refused_before_any_work(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav = record(tmp_path / "in" / "a.wav", "BAD")
    other = record(tmp_path / "other" / "a.wav", "EGG")
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    refuse(
        recogniser, r"both be written to .*a\.wav\.txt; .*folder that holds both", [wav, other], out
    )
    refuse(recogniser, "'doc' is unknown; there are txt, json", [wav], out, ["doc"])
    refuse(recogniser, "several formats need a folder", [wav], None, ["txt", "json"])
    refuse(recogniser, "2 recordings as srt need a folder", [wav, other], None, ["srt"])
    refuse(recogniser, r"a\.wav: is a file", [other], wav)
    refuse(recogniser, "folder without audio", [empty], out)
    refuse(recogniser, "no such file", [tmp_path / "none.wav"], out)
    refuse(recogniser, "can be read once", ["-", "-"], out)
    refuse(recogniser, "nothing to overwrite without a folder", [wav], overwrite=True)
    lines = TranscribeOptions(subtitles=SubtitleOptions(lines=1))
    refuse(recogniser, "for the formats srt and vtt", [wav], out, ["txt", "json"], lines)
    nbest = TranscribeOptions(DecoderOptions("beam", nbest=2))
    refuse(recogniser, "only the format json holds several", [wav], out, ["txt"], nbest)
    several = Recogniser(recogniser.backend, recogniser.tokenizer, nbest.decoding)
    refuse(several, "only the format json holds several", [wav], out, ["txt"])
    lm = TranscribeOptions(DecoderOptions("beam", lm=str(tmp_path / "no.arpa")))
    refuse(recogniser, r"no\.arpa", [wav], out, ["txt"], lm)
    assert not out.exists()
    assert capsys.readouterr() == ("", "")
    assert transcribe_to(recogniser, [wav, wav], out) == 0
    assert list(files(out)) == ["a.txt"]
