"""What recipes/CORPORA.md says: its commands exist, its manifest is read, its figures add up."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from paths import ROOT

from asr.cli.main import app
from asr.corpus.manifest import read_manifest
from asr.corpus.openslr import LANGUAGE_MODELS, LIBRISPEECH

TEXT = (ROOT / "recipes" / "CORPORA.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    *(line for block in BLOCKS for line in block.splitlines()),
    *re.findall(r"`(asr corpus [a-z-]+ [^`]*)`", TEXT),
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_its_options_exist(line: str) -> None:
    words = shlex.split(line)[1:]
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_the_commands_are_those_of_the_whole_guide() -> None:
    assert len(COMMANDS) == 10


def test_the_lines_of_its_manifest_are_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "m.jsonl").write_text(block)
    whole, part = read_manifest(tmp_path / "m.jsonl")
    assert whole.offset is None
    assert (part.offset, part.duration) == (61.5, 4.2)


def test_its_names_and_sizes_are_those_of_the_tables() -> None:
    total = sum(part.size or 0 for part in LIBRISPEECH.values())
    assert f"{total / 1e9:.0f} GB of archives" in TEXT
    (files,) = re.findall(r"`--files ([a-z0-9,-]+)`", TEXT)
    assert set(files.split(",")) <= set(LANGUAGE_MODELS)
