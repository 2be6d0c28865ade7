"""The commands of the guide to fine-tuning run as written, on a few recordings of three voices."""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from command_line import asr_here
from paths import ROOT

from asr.corpus.check import KINDS
from asr.corpus.manifest import read_manifest
from asr.evaluate.ref_hyp import read as read_ref_hyp
from asr.model.file import load_model
from asr.pretrained import registry
from asr.pruning import find
from asr.settings.run import Run
from asr.settings.yaml import load

GUIDE = (ROOT / "recipes" / "FINETUNING.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
SHORTER = ["training.epochs=1", "training.progress=false", "threads=1"]
"""Added to each `asr train`, so that the test takes seconds."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """What is there after all commands of the guide."""
    folder = tmp_path_factory.mktemp("finetuning")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    for number, u in enumerate(read_manifest(corpus / "train.jsonl")[:14]):
        place = folder / "recordings" / f"voice{number % 7}" / f"{number:04d}.flac"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(u.audio_filepath, place)
        place.with_suffix(".txt").write_text(f"{u.text.capitalize()}.\n")
    (folder / "recordings/voice0/0000.txt").write_text("Route 66.")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for words in COMMANDS:
            assert words[0] == "asr"
            asr_here(*words[1:], *(SHORTER if words[1] == "train" else []))
    finally:
        os.chdir(before)
    return folder


def test_what_cannot_be_used_is_left_out_and_no_voice_is_in_two_sets(folder: Path) -> None:
    assert len(read_manifest(folder / "all.jsonl")) == 14
    assert len(read_manifest(folder / "usable.jsonl")) == 13
    sets = [read_manifest(folder / f"{name}.jsonl") for name in ("train", "dev", "test")]
    assert sum(map(len, sets)) == 13
    voices = [{u.speaker for u in found} for found in sets]
    assert sum(map(len, voices)) == len(set.union(*voices)) == 7


@pytest.mark.parametrize("name", ["finetuned", "new-tokens"])
def test_fine_tuning_keeps_every_zero_and_moves_the_other_weights(folder: Path, name: str) -> None:
    before = load_model(registry.resolve("english")).model
    run = folder / "runs" / "finetune" / name
    names = find(before, ["rnn*"])
    state = before.state_dict()
    for file in (run / "model.asr", run / "packed.asr"):
        after = load_model(file).model.state_dict()
        for tensor in names:
            zeros = state[tensor] == 0
            assert zeros.float().mean() > 0.9
            assert not after[tensor][zeros].any(), f"{file}: {tensor}"
            assert not torch.equal(after[tensor], state[tensor])
    opened = load_model(run / "model.asr")
    assert opened.frontend == load_model(registry.resolve("english")).frontend
    assert len(opened.tokenizer.tokens) == (29 if name == "finetuned" else 41)


def test_old_and_new_were_evaluated_on_the_same_set_and_the_pack_is_used(folder: Path) -> None:
    rows = [read_ref_hyp(folder / name) for name in ("old.txt", "new.txt")]
    tests = {u.id for u in read_manifest(folder / "test.jsonl")}
    assert {row.id for row in rows[0]} == {row.id for row in rows[1]} == tests
    assert load_model(folder / "mine.asr").metadata.training["confidence"]["decoder"] == "beam"
    assert len(list((folder / "texts").rglob("*.txt"))) == 14


def test_the_table_of_problems_is_that_of_the_check() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", GUIDE, re.MULTILINE)
    assert sorted(rows) == sorted(KINDS)


def test_the_guide_says_what_the_recipe_says() -> None:
    settings = load(Run, ROOT / "recipes" / "finetune.yaml")
    assert f"init: {settings.init}`" in GUIDE
    assert f"pruning.method: {settings.pruning.method}`" in GUIDE
    assert settings.optimiser.learning_rate == 3e-4
    assert "learning_rate: 3.0e-4`" in GUIDE
    assert f"longer than {settings.data.max_seconds:.0f} s" in GUIDE


def test_every_file_that_the_guide_links_to_exists() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", GUIDE):
        assert (ROOT / "recipes" / path).exists(), path
