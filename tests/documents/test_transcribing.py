"""The commands of the guide to transcribing run in order, as written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from asr.corpus.manifest import read_manifest

GUIDE = ROOT / "recipes" / "TRANSCRIBING.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, trained: Path, corpus: Path) -> Path:
    """The files that the guide assumes, and the command `asr` of this source tree."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(corpus, folder, dirs_exist_ok=True)
    shutil.copy(trained, folder / "model.asr")
    (folder / "recordings" / "sub").mkdir(parents=True)
    first, second = (u.audio_filepath for u in read_manifest(corpus / "test.jsonl")[:2])
    shutil.copy(first, folder / "recordings" / "one.flac")
    shutil.copy(second, folder / "recordings" / "sub" / "two.flac")
    texts = [u.text for u in read_manifest(corpus / "train.jsonl")]
    (folder / "books.txt").write_text("\n".join(texts))
    (folder / "bin").mkdir()
    command = folder / "bin" / "asr"
    root = ROOT
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m asr "$@"\n')
    command.chmod(0o755)
    return folder


def run(folder: Path, script: str, shell: str) -> str:
    environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    result = subprocess.run(
        [shell, "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, script + result.stdout + result.stderr
    return result.stdout


def test_the_commands_of_the_guide_run_as_written(folder: Path) -> None:
    printed = [run(folder, f"set -euo pipefail\n{block}", "bash") for block in blocks("bash")]
    assert "## Data and attribution" in printed[0]
    text = printed[1].splitlines()[0]
    assert len(text.split()) > 2
    assert printed[1].splitlines()[-1] == text, "from a file and from a pipe"
    assert sorted(p.name for p in (folder / "texts").rglob("[!.]*.*")) == [
        "one.json", "one.srt", "one.txt", "two.json", "two.srt", "two.txt",
    ]  # fmt: skip
    assert (folder / "texts" / "sub" / "two.srt").read_text().startswith("1\n00:00:0")
    assert '"nbest"' in printed[2]
    assert printed[3].startswith("start\tend\ttext\tconfidence\n")
    assert "WEBVTT" in printed[3]
    assert '{"type": "final", "text": ' in printed[4]
    assert "95 % interval over " in printed[6]
    assert "B - A: " in printed[6]
    assert (folder / "differences.txt").read_text().count("REF: ") >= 1


def test_the_python_of_the_guide_runs_as_written(folder: Path) -> None:
    script = "\n".join(blocks("python"))
    root = ROOT
    printed = run(folder, f"import sys; sys.path[0] = {str(root)!r}\n{script}", sys.executable)
    assert re.search(r"^\d\.\d\d \d\.\d\d [A-Z']+ [01]\.\d\d$", printed, re.MULTILINE)
    assert "00:00:0" in printed
    assert re.search(r"^False [A-Z' ]+$", printed, re.MULTILINE), "the stream, in windows"
