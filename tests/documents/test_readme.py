"""The commands and the Python of the README run as written."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from asr.corpus.manifest import read_manifest

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_of_the_readme_prunes_packs_and_sparsifies(tmp_path: Path) -> None:
    code = "".join(b for b in blocks("python") if "Pruner" in b or "sparsify" in b)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    zeros = re.search(r"prunable tensors .* (\d+\.\d+)%", run.stdout)
    assert zeros is not None, run.stdout
    assert float(zeros[1]) > 80
    assert "GRU" in run.stdout.split("whole model")[1], "the report of sparsify"
    assert 0 < (tmp_path / "gru.asr").stat().st_size < 20_000


def test_the_transcribing_commands_of_the_readme_run(
    trained: Path, corpus: Path, tmp_path: Path
) -> None:
    block = next(block for block in blocks("bash") if "asr transcribe recordings/" in block)
    utterances = read_manifest(corpus / "test.jsonl")
    shutil.copy(trained, tmp_path / "model.asr")
    (tmp_path / "recordings").mkdir()
    shutil.copy(utterances[0].audio_filepath, tmp_path / "talk.flac")
    for u in utterances[:3]:
        shutil.copy(u.audio_filepath, tmp_path / "recordings")
    commands = [line for line in block.splitlines() if line.startswith("asr ")]
    assert len(commands) == 4
    outputs = []
    for command in commands:
        words = [sys.executable, "-m", "asr", *shlex.split(command, comments=True)[1:]]
        words += ["--seconds", "1"] if command.startswith("asr benchmark") else []
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        run = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert run.returncode == 0, run.stderr
        outputs.append(run.stdout)
    assert outputs[0].strip()
    assert len(list((tmp_path / "texts").glob("*.txt"))) == 3
    assert len(list((tmp_path / "texts").glob("*.json"))) == 3
    assert len(list((tmp_path / "texts").glob("*.srt"))) == 3

    code = next(block for block in blocks("python") if "asr.load" in block)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    run = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert run.returncode == 0, run.stderr
    spoken = [line.split()[2] for line in run.stdout.splitlines()]
    assert " ".join(spoken) == outputs[0].strip()


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)))
)
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_file_that_the_readme_links_to_exists() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"(recipes/[a-z_0-9]+\.(?:yaml|py))", README):
        assert (ROOT / path).exists(), path
