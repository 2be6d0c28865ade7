"""A batch shows its progress, may be interrupted and continued, and needs little memory."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tone_network import RATE, record, speak
from transcribed import files

from asr.transcribe.batch import transcribe_to
from asr.transcribe.recogniser import Recogniser


def test_a_bar_shows_seconds_of_audio_and_the_real_time_factor(
    recogniser: Recogniser,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    for i in range(5):
        record(tmp_path / "in" / f"{i}.wav", "BAD CAFE")
    (tmp_path / "in" / "bad.wav").write_text("no audio")
    assert transcribe_to(recogniser, [tmp_path / "in"], tmp_path / "out", bar=True) == 1
    err = capsys.readouterr().err
    assert "of 7 s of audio" in err
    assert "x real time (RTF 0." in err
    assert "bad.wav: not audio" in err
    assert "5 recordings transcribed, 6.7 s of audio" in err


def test_an_interrupted_job_leaves_whole_files_and_continues(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    for i in range(4):
        record(tmp_path / "in" / f"{i}.wav", "BAD")
    transcribe = recogniser.transcribe

    def interrupted(sources, options, on_progress):
        for number, transcript in enumerate(transcribe(sources, options, on_progress)):
            if number == 2:
                raise KeyboardInterrupt
            yield transcript

    out = tmp_path / "out"
    monkeypatch.setattr(recogniser, "transcribe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        transcribe_to(recogniser, [tmp_path / "in"], out)
    assert "stopped after 2 of 4 recordings" in capsys.readouterr().err
    assert files(out) == {"0.txt": "BAD\n", "1.txt": "BAD\n"}
    monkeypatch.undo()
    transcribe_to(recogniser, [tmp_path / "in"], out)
    assert "2 recordings transcribed" in capsys.readouterr().err
    assert len(files(out)) == 4


def test_an_interrupt_ends_the_command_with_130_and_no_traceback(
    model: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "asr", "transcribe", "-", "-m", str(model)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell that starts the tests in the background lets them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin is not None
    process.stdin.write(b"RIFF" + bytes(1 << 20))  # more than a pipe holds: it is being read
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err.decode()
    assert "Traceback" not in err.decode()


@pytest.mark.parametrize("to_terminal", [False, True])
def test_a_terminal_shows_a_bar_and_the_text_goes_where_it_belongs(
    model: Path, tmp_path: Path, to_terminal: bool
) -> None:
    pty = pytest.importorskip("pty")
    wav = record(tmp_path / "a.wav", "BAD CAFE")
    mine, theirs = pty.openpty()
    command = [sys.executable, "-m", "asr", "transcribe", str(wav), "-m", str(model)]
    out = theirs if to_terminal else subprocess.PIPE
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=out, stderr=theirs, env=environment)
    os.close(theirs)
    displayed = b""
    with contextlib.suppress(OSError):  # a closed terminal ends like this
        while content := os.read(mine, 4096):
            displayed += content
    os.close(mine)
    printed = process.communicate(timeout=120)[0] or b""
    assert process.returncode == 0
    assert b"s of audio" in displayed
    if to_terminal:
        # On its own line: the bar was erased before.
        assert re.search(rb"\x1b\[2K(\x1b\[[^\x1b]*|\r)*BAD CAFE\r\n", displayed), displayed
    else:
        assert (printed, b"BAD CAFE" in displayed) == (b"BAD CAFE\n", False)


def peak_megabytes(model: Path, folder: Path) -> float:
    code = f"""import resource
from pathlib import Path
from asr.transcribe.batch import transcribe_to
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import load
options = TranscribeOptions(batch_seconds=10.0)
assert transcribe_to(load({str(model)!r}, 1), [{str(folder)!r}], Path({str(folder / "out")!r}),
    ["json", "srt"], options) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout)


def test_200_files_take_no_more_memory_than_20(model: Path, tmp_path: Path) -> None:
    # 200 files of 10 s are 128 MB of samples and 64 MB of features.
    sound = np.tile(speak("BAD CAFE "), 7)
    for name, count in (("few", 20), ("many", 200)):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "0.wav", sound, RATE)
        for i in range(1, count):
            os.link(tmp_path / name / "0.wav", tmp_path / name / f"{i}.wav")
    few, many = (peak_megabytes(model, tmp_path / name) for name in ("few", "many"))
    assert many < few + 30
    assert len(files(tmp_path / "many" / "out")) == 400
