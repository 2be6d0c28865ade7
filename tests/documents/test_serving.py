"""The commands of the guide to serving run as written; its files are what their readers take."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from paths import ROOT
from served import in_process

from asr.cli.main import app
from asr.corpus.manifest import read_manifest
from asr.server.options import ServerOptions

GUIDE = (ROOT / "recipes" / "SERVING.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of every command line."""
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line]


def options_of(words: list[str]) -> ServerOptions:
    """What `asr serve WORDS...` would serve."""
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asr.server.run.serve", found.append)
        result = CliRunner().invoke(typer_command(), ["serve", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return found[0]  # type: ignore[no-any-return]


def typer_command() -> Any:
    import typer

    return typer.main.get_command(app)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, trained: Path, corpus: Path) -> Path:
    """The files that the guide assumes."""
    folder = tmp_path_factory.mktemp("serving")
    shutil.copy(trained, folder / "model.asr")
    shutil.copy(read_manifest(corpus / "test.jsonl")[0].audio_filepath, folder / "talk.flac")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The second server of the guide, on a free port."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = next(c for c in commands("".join(blocks("bash"))) if "mine=model.asr" in c)
        with in_process(*words[2:]) as served:
            yield served.url


def run(script: str, folder: Path, *shell: str) -> str:
    done = subprocess.run([*shell, script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, script + done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_guide_get_answers(address: str, folder: Path) -> None:
    block = next(b for b in blocks("bash") if "timestamp_granularities" in b)
    script = block.replace("http://127.0.0.1:8000", address).replace("curl ", "curl -sSf ")
    lines = script.replace("\\\n", " ").splitlines()
    text, srt, verbose, models, health = (run(line, folder, "sh", "-c") for line in lines)
    assert len(json.loads(text)["text"].split()) > 2
    assert srt.startswith("1\n00:00:0")
    assert {"words", "segments"} <= set(json.loads(verbose))
    assert [model["id"] for model in json.loads(models)["data"]] == ["english", "mine"]
    assert json.loads(health) == {"status": "ok"}


def test_the_python_of_the_guide_prints_words(address: str, folder: Path) -> None:
    [code] = blocks("python")
    printed = run(code.replace("http://127.0.0.1:8000", address), folder, sys.executable, "-c")
    assert re.match(r"\d+\.\d+ \d+\.\d+ [A-Z']+ [01]\.\d+\n", printed)


def test_every_other_server_of_the_guide_could_start(folder: Path) -> None:
    served = [
        words[2:] for words in commands("".join(blocks("bash"))) if words[:2] == ["asr", "serve"]
    ]
    assert len(served) >= 5
    found = [options_of(words) for words in served]
    assert [o.workers for o in found].count(2) == 1
    assert [o.unix_socket for o in found].count("asr.sock") == 1
    assert [o.token_file for o in found].count("tokens.txt") == 1


def test_the_options_of_the_table_have_the_defaults_that_it_says() -> None:
    rows = re.findall(r"^\| [^|]+ \| `--([a-z-]+)` \| ([^|]+) \|", GUIDE, re.MULTILINE)
    assert len(rows) == 7
    for name, default in rows:
        value = getattr(ServerOptions(), name.replace("-", "_"))
        assert default == ("one for each core" if name == "concurrency" else f"{value:g}"), name


def test_the_events_of_the_guide_are_json() -> None:
    [block] = blocks("json")
    kinds = [json.loads(line)["type"] for line in block.splitlines()]
    assert kinds == ["words", "final", "error"]


def test_the_unit_of_systemd_starts_a_server() -> None:
    [unit] = blocks("ini")
    [command] = re.findall(r"^ExecStart=/opt/asr/bin/asr serve (.*)$", unit, re.MULTILINE)
    options = options_of(shlex.split(command))
    stop = int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0])
    assert options.stop_seconds < stop
    assert options.unix_socket == "/run/asr/asr.sock"
    # The socket has the unit's group, which else would be a dynamic one.
    assert ("UMask=0007" in unit) == ("\nGroup=www-data\n" in unit)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    [unit] = blocks("ini")
    path = tmp_path / "asr.service"
    path.write_text(re.sub(r"/opt/asr/bin/asr", sys.executable, unit))
    done = subprocess.run(
        ["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=60
    )
    assert "asr.service:" not in done.stderr, done.stderr


def test_the_image_holds_what_it_needs_and_starts_a_server() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE):
        copied |= set(line.split()[:-1])
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    [command] = re.findall(r"^ENTRYPOINT (\[.*\])$", dockerfile, re.MULTILINE)
    words = json.loads(command)
    assert words[:2] == ["asr", "serve"]
    assert options_of(words[2:]).host == "0.0.0.0"
    assert "USER 65534" in dockerfile.split("FROM")[-1]
    extras = set(re.findall(r"'\.\[(.*)\]'", dockerfile)[0].split(","))
    assert extras <= set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M))


def test_the_health_check_of_the_image_passes_and_fails(address: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    [command] = re.findall(r"^    CMD (\[.*\])$", dockerfile, re.MULTILINE)
    words = json.loads(command)
    assert words[0] == "python"
    for url, passes in ((address, True), ("http://127.0.0.1:9", False)):
        code = words[2].replace("http://127.0.0.1:8000", url)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
        assert (done.returncode == 0) == passes


def test_every_file_that_the_guide_links_to_exists() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", GUIDE):
        assert (ROOT / "recipes" / path).exists(), path
    assert os.path.exists(ROOT / "Dockerfile")
