"""The package as people get it: a wheel, installed in a fresh environment, transcribes.

Run by `make test-wheel`; it downloads what the wheel needs, unless pip has it in its cache.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import read_manifest
from asr.pretrained.registry import decoding
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import load

pytestmark = pytest.mark.wheel
ROOT = Path(__file__).parent.parent


def run(*words: object, cwd: Path, **environment: str) -> str:
    """Run a command outside the source tree without environment variables of ours; its output."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    result = subprocess.run(
        [*map(str, words)], cwd=cwd, env=clean | environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def build(folder: Path, **environment: str) -> Path:
    """A wheel of the files that git tracks, built in a copy so that no old file gets in."""
    source = folder / "source"
    for name in run("git", "ls-files", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder / "dist"]
    run(*pip, source, cwd=folder, **environment)
    [wheel] = (folder / "dist").glob("*.whl")
    return wheel


def test_a_source_distribution_holds_the_models(tmp_path: Path) -> None:
    build(tmp_path)
    code = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, tmp_path, cwd=tmp_path / "source")
    [packed] = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {f"asr/pretrained/english.{s}" for s in ("asr", "lm", "json", "md")} <= names


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fresh environment in which only the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = build(folder)
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet"]
    run(*pip, f"{wheel}[train]", cwd=folder)
    return folder


def test_the_wheel_contains_only_the_package(installed: Path) -> None:
    [wheel] = (installed / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"asr"}
    assert {"asr/py.typed", "asr/corpus/spoken/grammar.txt"} <= set(names)
    assert {f"asr/pretrained/english.{s}" for s in ("asr", "lm", "json", "md")} <= set(names)


def test_the_installed_command_transcribes(installed: Path, trained: Path, corpus: Path) -> None:
    paths = [Path(u.audio_filepath) for u in read_manifest(corpus / "test.jsonl")[:3]]
    shutil.copytree(corpus, installed / "recordings", dirs_exist_ok=True)
    shutil.copy(trained, installed / "model.asr")
    command = [installed / "venv/bin/asr", "transcribe", *paths, "-m", "model.asr"]
    printed = run(*command, cwd=installed)
    expected = [t.text for t in load(trained).transcribe(paths)]  # packed: the native backend
    assert [line.split("\t")[1] for line in printed.splitlines()] == expected
    assert all(expected)
    run(*command, "-o", "out", "-f", "srt", "-f", "json", cwd=installed)
    assert len([p for p in (installed / "out").rglob("*") if p.suffix in (".srt", ".json")]) == 6


def test_the_installed_package_is_the_one_in_the_environment(installed: Path) -> None:
    code = (
        "import asr, asr.decode.library; from asr.sparse.kernels import library\n"
        "print(asr.__file__, asr.decode.library.native(), bool(library()), asr.load.__name__)"
    )
    python = installed / "venv/bin/python"
    where, native, sparse, name = run(python, "-c", code, cwd=installed).split()
    assert Path(where).is_relative_to(installed / "venv")
    compiler = bool(shutil.which("cc") or shutil.which("gcc"))
    assert (native, sparse) == ("C" if compiler else "Python", str(compiler))
    assert name == "load"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fresh environment in which the wheel is installed without any extra."""
    folder = tmp_path_factory.mktemp("base")
    wheel = build(folder)
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet"]
    run(*pip, wheel, cwd=folder)
    return folder


def test_an_install_without_extras_is_below_116_megabytes(base: Path) -> None:
    # 104 MB and the recogniser of the package, which may have 12.
    [packages] = (base / "venv").glob("lib/python*/site-packages")
    tools = ("pip", "setuptools", "pkg_resources", "_distutils_hack")  # of the environment itself
    files = [
        path
        for path in (base / "venv").rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and not (
            path.is_relative_to(packages) and path.relative_to(packages).parts[0].startswith(tools)
        )
    ]
    assert not (packages / "torch").exists()
    assert 60e6 < sum(path.stat().st_size for path in files) < 116e6


def test_an_install_without_extras_transcribes_and_names_missing_extras(
    base: Path, trained: Path, corpus: Path
) -> None:
    path = read_manifest(corpus / "test.jsonl")[0].audio_filepath
    asr = base / "venv/bin/asr"
    [expected] = load(trained, exact=True).transcribe(path)
    assert expected.text
    for words in ([], ["--backend", "native", "--exact"]):
        printed = run(asr, "transcribe", path, "-m", trained, *words, cwd=base)
        assert printed == f"{expected.text}\n"
    for words, lacking in (
        (["transcribe", path, "-m", trained, "--backend", "torch"], ".[train]"),
        (["train", base / "any.yaml"], ".[train]"),
    ):
        refused = subprocess.run([asr, *map(str, words)], cwd=base, capture_output=True, text=True)
        assert refused.returncode == 2
        assert lacking in refused.stderr
        assert "Traceback" not in refused.stderr


def test_an_install_without_extras_contains_a_recogniser(base: Path, corpus: Path) -> None:
    path = read_manifest(corpus / "test.jsonl")[0].audio_filepath
    asr = base / "venv/bin/asr"
    for words, given in (([], {}), (["--decoder", "greedy"], {"decoder": "greedy"})):
        options = TranscribeOptions(decoding("english", given))
        [expected] = load("english").transcribe(path, options)
        printed = run(asr, "transcribe", path, *words, cwd=base)
        assert printed == f"{expected.text}\n"
        assert expected.text
    assert str(base / "venv") in run(asr, "models", cwd=base)
    assert "## Data and attribution" in run(asr, "info", "english", cwd=base)


def test_the_text_is_printed_in_a_third_of_torch_s_time(
    installed: Path, trained: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    soundfile.write(tmp_path / "five.wav", 0.1 * random.standard_normal(5 * 16000), 16000)
    command = [installed / "venv/bin/asr", "transcribe", tmp_path / "five.wav", "-m", trained]
    seconds: dict[str, list[float]] = {"native": [], "torch": []}
    for _ in range(4):  # the first run of each fills the disk cache
        for backend, measured in seconds.items():
            started = time.perf_counter()
            run(*command, "--backend", backend, cwd=tmp_path)
            measured.append(time.perf_counter() - started)
    assert min(seconds["native"][1:]) < min(seconds["torch"][1:]) / 3


def test_a_wheel_is_built_without_a_compiler_too(
    base: Path, trained: Path, corpus: Path, tmp_path: Path
) -> None:
    wheel = build(tmp_path, CC="/bin/false")
    shutil.copytree(base / "venv", tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv/bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
    run(*pip, wheel, cwd=tmp_path)
    code = "from asr.decode.library import native; print(native())"
    assert run(python, "-c", code, cwd=tmp_path) == "Python\n"
    assert "numpy alone, slow" in run(python, "-m", "asr", "info", trained, cwd=tmp_path)
    path = read_manifest(corpus / "test.jsonl")[0].audio_filepath
    [expected] = load(trained, exact=True).transcribe(path)
    printed = run(python, "-m", "asr", "transcribe", path, "-m", trained, cwd=tmp_path)
    assert printed == f"{expected.text}\n"
