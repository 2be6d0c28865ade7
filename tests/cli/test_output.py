"""What cannot be written, or not be printed: a sentence before the work, and no figure is lost."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from command_line import asr_here
from tone_network import RATE, save_tone_model, speak

pytestmark = pytest.mark.skipif(os.name == "nt", reason="devices are those of POSIX")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a recording, its manifest and a result of it."""
    folder = tmp_path_factory.mktemp("files")
    save_tone_model(folder / "tone.asr")
    soundfile.write(folder / "a.wav", speak("BAD CAFE"), RATE)
    line = '{"audio_filepath": "a.wav", "duration": 1.4, "text": "bad cage"}\n'
    (folder / "set.jsonl").write_text(line)
    (folder / "text.txt").write_text("the bad cafe\n" * 9)
    (folder / "r.yaml").write_text("name: x\n")
    return folder


def asr(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "asr", *words],
        cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, env=os.environ | environment,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
    )  # fmt: skip


@pytest.mark.parametrize("place", ["folder", "text.txt/x/y", "/proc/asr/x"])
@pytest.mark.parametrize(
    "command",
    [
        "align missing.wav bad -m tone.asr",
        "evaluate missing.asr set.jsonl",
        "compare missing.asr set.jsonl",
        "calibrate missing.asr set.jsonl",
        "lm train text.txt",
        "lm convert missing.arpa",
        "lm tune missing.asr set.jsonl --lm missing.arpa",
        "corpus folder missing",
        "corpus ljspeech missing",
        "corpus import missing",
        "tokenizer train text.txt",
        "pack missing.asr",
        "export missing.asr",
    ],
)
def test_every_command_refuses_a_file_it_could_not_write_before_it_begins(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch, command: str, place: str
) -> None:
    (files / "folder").mkdir(exist_ok=True)
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    asr_here(*command.split(), "-o", place, status=2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"asr: {place}: ")
    assert err.count("\n") == 1
    assert sorted(files.rglob("*")) == before


@pytest.mark.parametrize("place", ["text.txt", "text.txt/x/y", "/proc/asr/x"])
@pytest.mark.parametrize("command", ["train r.yaml runs={}", "transcribe a.wav -m tone.asr -o {}"])
def test_a_folder_that_cannot_be_made_is_a_sentence(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch, command: str, place: str
) -> None:
    monkeypatch.chdir(files)
    asr_here(*command.format(place).split(), status=2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"asr: {place}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "figures"),
    [
        ("evaluate tone.asr set.jsonl", ["WER 50.00 %", "decoder greedy"]),
        ("compare tone.asr tone.asr set.jsonl", ["A tone.asr", "B - A"]),
        ("calibrate tone.asr set.jsonl", ["raw: ", "calibrated: "]),
        ("lm tune tone.asr set.jsonl --lm small.arpa --bonuses 0", ["best on set.jsonl"]),
    ],
)
def test_a_disk_that_fills_up_costs_no_figure(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch, command: str, figures: list[str]
) -> None:
    monkeypatch.chdir(files)
    if not (files / "small.arpa").exists():
        asr_here("lm", "train", "text.txt", "-o", "small.arpa")
    capsys.readouterr()
    asr_here(*command.split(), "-o", "/dev/full", status=2)
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "asr: /dev/full: cannot be written: No space left on device"
    assert "Traceback" not in err
    for figure in figures:
        assert figure in out
    assert stat.S_ISCHR(os.lstat("/dev/full").st_mode)


@pytest.mark.parametrize(
    "command", ["models", "transcribe a.wav -m tone.asr --backend native", "info tone.asr"]
)
def test_standard_output_that_is_full_is_a_sentence(files: Path, command: str) -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "asr", *command.split()],
            cwd=files, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert run.returncode == 2
    assert "No space left on device" in run.stderr
    assert "Traceback" not in run.stderr
    assert "ignored" not in run.stderr


@pytest.mark.parametrize(
    ("name", "encoding", "written"),
    [
        ("caf\u00e9.wav", "ascii", "caf\\xe9.wav"),
        ("caf\u00e9 \u4e2d.wav", "latin-1", "caf\u00e9 \\u4e2d.wav"),
        ("\U0001f600.wav", "cp1252", "\\U0001f600.wav"),
    ],
)
def test_a_name_that_standard_output_cannot_encode_stops_nothing(
    files: Path, tmp_path: Path, name: str, encoding: str, written: str
) -> None:
    for each in ("a.wav", name, "z.wav"):
        (tmp_path / each).write_bytes((files / "a.wav").read_bytes())
    words = ["transcribe", ".", "-m", str(files / "tone.asr"), "--backend", "native"]
    run = asr(tmp_path, *words, PYTHONIOENCODING=encoding)
    assert run.returncode == 0
    assert sorted(run.stdout.splitlines()) == sorted(
        f"{each}\tBAD CAFE" for each in ("a.wav", written, "z.wav")
    )
