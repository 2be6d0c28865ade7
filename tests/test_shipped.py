"""The recipe of the recogniser in the package: what its grids compare, and what it refuses."""

import runpy
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from asr.configure import load
from asr.errors import AsrError
from asr.grid import Plan, read_grid
from asr.settings import Pruning, Run

RECIPES = Path(__file__).parents[1] / "recipes"


def settings(plan: Plan, name: str) -> Run:
    return load(Run, plan.base, plan.run(name).set)


def apart(first: Run, second: Run) -> set[str]:
    """Names of the sections in which two runs differ."""
    one, other = asdict(first), asdict(second)
    return {key for key in one if one[key] != other[key]}


def test_the_twin_differs_from_the_sparse_network_in_pruning_alone() -> None:
    plan = read_grid(RECIPES / "shipped.yaml", ["data.root=somewhere"])
    twin, sparse, small = (settings(plan, name) for name in ("twin", "sparse", "small"))
    assert apart(twin, sparse) == {"pruning"}
    assert twin.pruning == Pruning()
    assert apart(twin, small) == set()
    assert apart(settings(plan, "stage1"), settings(plan, "small-stage1")) == set()
    assert plan.run("small").match == plan.run("small-stage1").match == "sparse"
    assert [plan.run(n).init for n in ("twin", "sparse", "small")] == [
        "stage1",
        "stage1",
        "small-stage1",
    ]
    assert twin.data.root == "somewhere"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_seeds_differ_in_the_seed_alone(seed: int) -> None:
    plan = read_grid(RECIPES / "shipped_seeds.yaml", [])
    end = "" if seed == 1 else f"-seed{seed}"
    dense, sparse, small = (settings(plan, n + end) for n in ("dense", "sparse", "small"))
    assert apart(dense, sparse) == {"pruning"}
    assert apart(dense, small) == set()
    assert plan.run(f"small{end}").match == f"sparse{end}"
    assert dense.seed == seed
    assert replace(dense, seed=1) == settings(plan, "dense")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["speech"], "--text FOLDER"),
        (["speech", "--seeds", "--text", "books"], "not for --seeds"),
        (["speech", "--text", "books", "model.hiden=2"], "hiden"),
    ],
)
def test_what_the_script_refuses(words: list[str], message: str) -> None:
    script = runpy.run_path(str(RECIPES / "shipped.py"))
    with pytest.raises(AsrError, match=message):
        script["main"](words)


def test_the_language_model_is_of_books_and_what_was_said(tmp_path: Path) -> None:
    script = runpy.run_path(str(RECIPES / "shipped.py"))
    with pytest.raises(AsrError, match="no books"):
        script["language_model"](tmp_path, tmp_path, tmp_path / "english.lm", [])
