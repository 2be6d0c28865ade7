"""The package as people get it: a wheel, installed in a fresh environment, transcribes.

Run by `make test-wheel`; it downloads what the wheel needs, unless pip has it in its cache.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from asr.corpus.manifest import read_manifest
from asr.transcribe import load

pytestmark = pytest.mark.wheel
ROOT = Path(__file__).parent.parent


def run(*words: object, cwd: Path, **environment: str) -> str:
    """Run a command outside of the source tree, as if nobody had set anything; its output."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    result = subprocess.run(
        [*map(str, words)], cwd=cwd, env=clean | environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def build(folder: Path, **environment: str) -> Path:
    """The wheel of the files that git knows, made in a copy so that nothing old gets in."""
    source = folder / "source"
    for name in run("git", "ls-files", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder / "dist"]
    run(*pip, source, cwd=folder, **environment)
    [wheel] = (folder / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fresh environment in which the wheel is installed, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = build(folder)
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet"]
    run(*pip, f"{wheel}[train]", cwd=folder)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(installed: Path) -> None:
    [wheel] = (installed / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"asr"}
    assert {"asr/py.typed", "asr/corpus/grammar.txt"} <= set(names)


def test_the_installed_command_transcribes(installed: Path, trained: Path, corpus: Path) -> None:
    paths = [Path(u.audio_filepath) for u in read_manifest(corpus / "test.jsonl")[:3]]
    shutil.copytree(corpus, installed / "recordings", dirs_exist_ok=True)
    shutil.copy(trained, installed / "model.asr")
    command = [installed / "venv/bin/asr", "transcribe", *paths, "-m", "model.asr"]
    printed = run(*command, cwd=installed)
    expected = [t.text for t in load(trained).transcribe(paths)]
    assert [line.split("\t")[1] for line in printed.splitlines()] == expected
    assert all(expected)
    run(*command, "-o", "out", "-f", "srt", "-f", "json", cwd=installed)
    assert len([p for p in (installed / "out").rglob("*") if p.suffix in (".srt", ".json")]) == 6


def test_the_installed_package_is_the_one_in_the_environment(installed: Path) -> None:
    code = "import asr, asr.native; print(asr.__file__, asr.native.native(), asr.load.__name__)"
    where, native, name = run(installed / "venv/bin/python", "-c", code, cwd=installed).split()
    assert Path(where).is_relative_to(installed / "venv")
    assert native == ("C" if shutil.which("cc") or shutil.which("gcc") else "Python")
    assert name == "load"


def test_without_a_compiler_a_wheel_is_made_too(tmp_path: Path) -> None:
    wheel = build(tmp_path, CC="/bin/false")
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    pip = [tmp_path / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-deps"]
    run(*pip, wheel, cwd=tmp_path)
    code = "from asr.native import native; print(native())"
    assert run(tmp_path / "venv/bin/python", "-c", code, cwd=tmp_path) == "Python\n"
