"""What recipes/LIBRISPEECH.md says: its commands exist, its sums are those of the recipes."""

import math
import re
import shlex
from dataclasses import replace
from typing import Any

import click
import pytest
import typer
from paths import ROOT

from asr.cli.main import app
from asr.corpus.openslr import LIBRISPEECH
from asr.model.shapes import count_parameters, parameter_shapes
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train.grid import matching_hidden

GUIDE = (ROOT / "recipes" / "LIBRISPEECH.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
COLUMNS = {"100h": 100, "960h": 960}
"""Hours of each recipe."""
RATE = 10e12
"""Operations a second of one GPU, as the page assumes."""


def row(beginning: str) -> list[str]:
    """The cells of the table row that begins so, without the first."""
    (line,) = [line for line in GUIDE.splitlines() if line.startswith(f"| {beginning}")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def settings(size: str, *words: str) -> Run:
    found = load(Run, ROOT / "recipes" / f"librispeech_{size}.yaml", words)
    return replace(found, model=replace(found.model, outputs=found.tokenizer.size + 1))


@pytest.mark.parametrize("words", COMMANDS, ids=lambda w: " ".join(w[1:3]))
def test_every_command_and_its_options_exist(words: list[str]) -> None:
    rest = words[1:]
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    parameters = command.get_params(click.Context(command))
    known = {option for parameter in parameters for option in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known
    if words[1] == "train":
        assert load(Run, ROOT / rest[0], rest[1:]).data.root == "data/LibriSpeech"


@pytest.mark.parametrize("size", list(COLUMNS))
def test_the_sums_are_those_of_the_recipe(size: str) -> None:
    at, hours, run = list(COLUMNS).index(size), COLUMNS[size], settings(size)
    shapes = parameter_shapes(run.model)
    recurrent = sum(
        math.prod(shape) for name, shape in shapes.items() if re.match(r"rnn.*\.weight_", name)
    )
    parameters = count_parameters(run.model)
    nonzeros = parameters - run.pruning.target * recurrent
    assert row("Parameters |")[at] == f"{parameters / 1e6:.1f} M"
    assert row("Non-zeros")[at] == f"{nonzeros / 1e6:.2f} M"
    assert row("Network | 5")[at] == f"{run.model.layers} x {run.model.hidden} GRU"
    heard = run.training.epochs * hours
    assert row("Audio trained on")[at] == f"{heard:,} h"

    matrices = sum(math.prod(shape) for shape in shapes.values() if len(shape) == 2)
    bands, frames, uses = run.model.mels, run.model.time_stride, 0
    for i, (band_stride, frame_stride) in enumerate(run.model.conv_strides):
        bands, frames = -(-bands // band_stride), frames // frame_stride
        uses += math.prod(shapes[f"conv.{i}.convolution.weight"]) * bands * frames
    assert f"add another {uses / 1e6:.2f} M uses" in GUIDE
    assert row("Weights used")[at] == f"{(matrices + uses) / 1e6:.1f} M"
    per_second = 1 / run.frontend.step_seconds / run.model.time_stride
    assert f"{per_second:.0f} a second" in GUIDE
    operations = 6 * (matrices + uses) * per_second * heard * 3600
    assert row("Operations")[at] == f"{operations:.1e}".replace("e+", "e")
    gpus = int(row("GPUs")[at])
    of_one = operations / RATE / 3600
    assert float(row("Hours of one GPU")[at]) == pytest.approx(of_one, rel=0.03)
    assert float(row("Hours of all")[at]) == pytest.approx(of_one / gpus, rel=0.03)
    delivered = heard / of_one
    assert float(row("Audio that")[at].replace(",", "")) == pytest.approx(delivered, rel=0.01)
    small = matching_hidden(run.model, round(nonzeros))
    assert f"model.hidden={small}" in GUIDE


def test_the_disk_holds_the_archives_twice() -> None:
    small = re.findall(r"--parts (train-clean-100,\S+)", GUIDE)[0].split(",")
    for cell, parts in zip(row("Disk"), (small, LIBRISPEECH), strict=True):
        archives = sum(LIBRISPEECH[part].size or 0 for part in parts)
        assert cell == f"{2 * archives / 1e9:.0f} GB"


def test_the_memory_of_the_small_recipe_holds_its_cache() -> None:
    run = settings("100h")
    bytes_needed = 100.6 * 3600 * 2 * run.frontend.sample_rate
    assert bytes_needed < 1e9 * run.data.cache_gigabytes < 32e9
    assert settings("960h").data.cache_gigabytes == 0


def test_every_file_that_the_page_links_to_exists() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", GUIDE):
        assert (ROOT / "recipes" / path).exists(), path
