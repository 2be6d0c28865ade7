"""The recipes of LibriSpeech on a miniature: downloaded, checked, unpacked, trained, tested.

The archives have the real layout and sums of their own; they come from a local server.
"""

import json
import subprocess
import sys
from pathlib import Path

import file_server as http
import mini_librispeech as mini
import pytest
from command_line import asr_here
from paths import ROOT

from asr.corpus import openslr
from asr.model.file import load_model
from asr.pruning import statistics

RECIPES = ROOT / "recipes"
PARTS = {
    "librispeech_100h": "train-clean-100,dev-clean,test-clean,test-other",
    "librispeech_960h": "all",
}
SMOKE = [
    "threads=1", "data.batch_seconds=3", "data.max_seconds=3", "data.workers=0",
    "tokenizer.size=36", "model.hidden=16", "model.layers=2", "model.conv_channels=[2,2]",
    "training.progress=false", "training.precision=float32", "pruning.mask_updates=10",
]  # fmt: skip


@pytest.fixture(scope="module")
def libri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all parts, by the command of the recipes and a server of our own."""
    archives, folder = (tmp_path_factory.mktemp(name) for name in ("archives", "libri"))
    table = mini.write(archives, list(openslr.LIBRISPEECH), utterances=6, seconds=2.0)
    with pytest.MonkeyPatch.context() as patch, http.serve() as server:
        for name, part in table.items():
            patch.setitem(openslr.LIBRISPEECH, name, part)
            server.files[f"/resources/12/{part.name}"] = (archives / part.name).read_bytes()
        mirror = f"--mirror={server.address}/resources"
        for parts in PARTS.values():
            asr_here("corpus", "librispeech", str(folder), "--parts", parts, mirror)
        assert len(server.asked) == len(table), "what is there is not asked for again"
    return folder


@pytest.mark.filterwarnings("ignore:ThresholdRamp. only")
@pytest.mark.parametrize("word", ["", "pruning.method=none"], ids=["sparse", "dense"])
@pytest.mark.parametrize("recipe", list(PARTS))
def test_the_recipe_trains_sparse_and_with_one_more_word_dense(
    recipe: str, word: str, libri: Path, tmp_path: Path
) -> None:
    epochs = 4 if recipe == "librispeech_100h" else 2
    words = [f"data.root={libri}", f"runs={tmp_path}", f"training.epochs={epochs}", *SMOKE]
    asr_here("train", str(RECIPES / f"{recipe}.yaml"), *words, *([word] if word else []))
    name = "dense" if word else "sparse"
    folder = tmp_path / recipe / name
    record = json.loads((folder / "record.json").read_text())
    assert (record["name"], record["group"]) == (name, name)
    assert set(record["evaluation"]) == {"test-clean", "test-other"}
    assert record["evaluation"]["test-clean"]["words"] == 36
    assert record["model"]["tokenizer"] == "sentencepiece"
    sparsity = statistics(load_model(folder / "packed.asr").model, ["rnn*"]).prunable_sparsity
    assert sparsity == pytest.approx(0.0 if word else 0.9, abs=0.02)


@pytest.mark.distributed
def test_the_large_recipe_trains_in_two_processes(libri: Path, tmp_path: Path) -> None:
    words = [f"data.root={libri}", f"runs={tmp_path}", "training.epochs=4", *SMOKE]
    command = [sys.executable, "-m", "asr", "train", str(RECIPES / "librispeech_960h.yaml")]
    done = subprocess.run(
        [*command, *words, "training.devices=2"], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "librispeech_960h/sparse/record.json").read_text())
    assert record["training"]["processes"] == 2
    assert record["pruning"]["sparsity"] == pytest.approx(0.9, abs=0.05)
