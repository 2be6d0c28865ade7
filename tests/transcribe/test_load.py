"""A recogniser is loaded from any model file, with and without torch and compiled code."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tone_network import record, save_tone_model, speak
from transcribed import texts

from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.transcribe.recogniser import Recogniser, load, load_for_command, say_once


def test_loading_does_not_change_the_threads_of_torch(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    recogniser = load(save_tone_model(tmp_path / "tone.asr"), threads=before + 1)
    assert texts(recogniser.transcribe(speak("BAD CAFE"))) == ["BAD CAFE"]
    assert torch.get_num_threads() == before


def test_a_file_that_is_not_a_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(AsrError, match=r"notes\.txt"):
        load(tmp_path / "notes.txt")
    with pytest.raises(AsrError, match=r"none\.asr"):
        load(tmp_path / "none.asr")


def test_zero_threads_are_refused() -> None:
    with pytest.raises(AsrError, match="threads=0: at least 1"):
        load("any.asr", threads=0)


def test_without_torch_a_dense_file_runs_natively_and_torch_cannot_be_asked_for(
    tmp_path: Path,
) -> None:
    model = save_tone_model(tmp_path / "tone.asr")
    recording = record(tmp_path / "cafe.wav", "BAD CAFE")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from asr.transcribe.recogniser import load; from asr.errors import AsrError\n"
        f"recogniser = load({str(model)!r}, backend=sys.argv[1])\n"
        f"[transcript] = recogniser.transcribe({str(recording)!r}); print(transcript.text)"
    )

    def run(backend: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, backend], capture_output=True, text=True)

    for backend in ("auto", "native"):
        assert run(backend).stdout == "BAD CAFE\n"
    assert "backend=torch needs torch: pip install '.[train]' in the" in run("torch").stderr


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, asr.transcribe, asr.evaluate.dataset; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def slow(recogniser: Recogniser, decoder: str) -> list[str]:
    own = DecoderOptions(decoder)
    return Recogniser(recogniser.backend, recogniser.tokenizer, own).slow()


def test_missing_compiled_code_is_reported_once_on_the_command_line_and_not_in_python(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("asr.transcribe.recogniser.compiled", lambda: False)
    monkeypatch.setattr("asr.transcribe.recogniser.native", lambda: "Python")
    monkeypatch.delenv("ASR_NATIVE", raising=False)
    say_once.cache_clear()
    recogniser = load(trained)
    assert capsys.readouterr() == ("", "")
    for _ in range(2):
        load_for_command(trained)
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("slow: the network runs on numpy")
    assert "install a wheel, or reinstall with a C compiler" in line
    assert [s.split(",")[0] for s in slow(recogniser, "beam")] == [
        "the network runs on numpy",
        "the beam search runs in Python",
    ]
    monkeypatch.setenv("ASR_NATIVE", "0")
    assert "ASR_NATIVE=0 switches the C library off; unset it" in slow(recogniser, "greedy")[0]
    on_torch = load(trained, backend="torch")
    assert slow(on_torch, "greedy") == [], "torch has its own kernels"
    assert Recogniser(on_torch.backend, on_torch.tokenizer, DecoderOptions("beam")).describe() == (
        f"{on_torch.backend.describe()}; beam search in Python"
    )
    say_once.cache_clear()


def test_decoders_with_other_phrases_share_the_language_model() -> None:
    ours = load("english", threads=1)
    lm = ours.decoder().scorer.lm  # type: ignore[attr-defined]
    for number in range(10):
        phrases = (f"{'A' * (number + 1)} BIRD",)
        other = ours.decoder(replace(ours.decoding, phrases=phrases))
        assert other.scorer.lm is lm  # type: ignore[attr-defined]
