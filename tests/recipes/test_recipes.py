"""Recipes run from end to end in miniature: the demo, the grids."""

import json
import runpy
from pathlib import Path

import pytest
from paths import ROOT
from report_records import plain_record

from asr.errors import AsrError
from asr.report import read_records

RECIPES = ROOT / "recipes"


def small(corpus: Path, folder: Path) -> list[str]:
    return [
        f"runs={folder}", f"data.root={corpus}", "data.train=[train.jsonl]",
        "data.dev=[dev.jsonl]", "data.test=[test.jsonl]", "data.batch_seconds=10",
        "data.max_seconds=9", "model.hidden=24", "model.layers=2", "model.conv_channels=[2,4]",
        "training.epochs=2", "pruning.mask_updates=10", "pruning.percentile=0.6", "threads=1",
    ]  # fmt: skip


def test_the_demo_prints_a_table_speeds_and_transcripts(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = runpy.run_path(str(RECIPES / "demo.py"))
    words = [w for w in small(corpus, tmp_path) if not w.startswith("pruning.percentile")]
    status = demo["main"](words)
    printed = capsys.readouterr().out
    assert status == 0, printed
    folder = tmp_path / "demo"
    records = {p.stem: json.loads(p.read_text()) for p in (folder / "records").glob("*.json")}
    assert set(records) == {"wide-sparse", "dense", "small"}
    assert records["wide-sparse"]["pruning"]["sparsity"] == pytest.approx(0.875, abs=0.03)
    for name in ("report.html", "plot.png", "plot.svg", "table.md", "table.csv"):
        assert (folder / "report" / name).stat().st_size > 500
    assert json.loads((folder / "records/wide-sparse.json").read_text())["speed"]["threads"] == 1
    for part in (
        "real-time factor",
        "packed.asr",
        "non-zeros the wide sparse one has",
        "austen-1.flac",
        "reference ",
        "hypothesis ",
        "minutes",
    ):
        assert part in printed


def test_a_grid_copies_its_records_and_rewrites_its_section_of_the_results(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text((RECIPES / "spoken.yaml").read_text())
    (tmp_path / "sparsity.yaml").write_text(
        "base: base.yaml\nworkers: 2\nset: [recipe=sparsity]\nruns:\n"
        '  - {name: large, set: ["data.train=[train.jsonl]"]}\n'
        '  - {name: impossible, set: ["data.train=[none.jsonl]"]}\n'
        "  - {name: needs-it, dense: impossible, group: sparse}\n"
    )
    results = tmp_path / "RESULTS.md"
    results.write_text("before\n<!-- asr report: sparsity -->\n<!-- end: sparsity -->\nafter\n")
    (tmp_path / "records").mkdir()
    for name in ("impossible", "needs-it", "renamed-since"):
        (tmp_path / "records" / f"{name}.json").write_text(json.dumps(plain_record(name)))
    recipe = runpy.run_path(str(RECIPES / "grid.py"))
    words = [w for w in small(corpus, tmp_path / "runs") if "data.train" not in w]
    status = recipe["main"](["sparsity", *words], tmp_path, tmp_path / "records", results)
    assert status == 1, "a run failed"
    there = {p.stem for p in (tmp_path / "records").glob("*.json")}
    assert there == {"large", "renamed-since"}, "records of runs that failed are removed"
    written = results.read_text()
    assert "renamed-since" not in written
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "large" in written


def test_a_grid_trains_only_the_runs_that_are_named_and_lists_all_with_a_record(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text((RECIPES / "spoken.yaml").read_text())
    (tmp_path / "sparsity.yaml").write_text(
        "base: base.yaml\nset: [recipe=sparsity]\nruns: [{name: a}, {name: b}, {name: c}]\n"
    )
    results = tmp_path / "RESULTS.md"
    results.write_text("<!-- asr report: sparsity -->\n<!-- end: sparsity -->\n")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "c.json").write_text(json.dumps(plain_record("c", label="c")))
    recipe = runpy.run_path(str(RECIPES / "grid.py"))
    words = ["sparsity", *small(corpus, tmp_path / "runs"), "--only"]
    assert recipe["main"]([*words, "b"], tmp_path, tmp_path / "records", results) == 0
    assert {p.stem for p in (tmp_path / "records").glob("*.json")} == {"b", "c"}
    rows = [line.split(" | ")[0] for line in results.read_text().splitlines()]
    assert sorted(row for row in rows if row in ("| b", "| c")) == ["| b", "| c"]
    with pytest.raises(AsrError, match="--only: not runs of this grid: d"):
        recipe["main"]([*words, "d"], tmp_path, tmp_path / "records", results)


@pytest.mark.parametrize("words", [[], ["demo"], ["model.hidden=8"]])
def test_a_grid_that_does_not_exist_is_refused_and_the_known_ones_are_named(
    words: list[str],
) -> None:
    with pytest.raises(AsrError, match="name of a grid: sparsity, methods, claims"):
        runpy.run_path(str(RECIPES / "grid.py"))["main"](words)


@pytest.mark.parametrize("name", ["demo", "grid", "benchmarks/results"])
def test_a_recipe_prints_its_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(RECIPES / "benchmarks")
    recipe = runpy.run_path(str(RECIPES / f"{name}.py"))
    with pytest.raises(SystemExit, match="0"):
        recipe["main"](["--help"])
    assert recipe["__doc__"].splitlines()[0] in capsys.readouterr().out


@pytest.mark.slow
def test_every_method_of_the_grid_trains_in_miniature(corpus: Path, tmp_path: Path) -> None:
    text = (RECIPES / "methods.yaml").read_text()
    kept = [row for row in text.split("\n  - {") if "-seed" not in row]
    (tmp_path / "spoken.yaml").write_text((RECIPES / "spoken.yaml").read_text())
    (tmp_path / "methods.yaml").write_text("\n  - {".join(kept))
    results = tmp_path / "RESULTS.md"
    results.write_text("<!-- asr report: methods -->\n<!-- end: methods -->\n")
    recipe = runpy.run_path(str(RECIPES / "grid.py"))
    words = [
        *small(corpus, tmp_path / "runs"), "model.hidden=32", "pruning.tolerance=0.02",
        "training.epochs=4", "training.progress=false",
    ]  # fmt: skip
    words = [w for w in words if not w.startswith("pruning.percentile")]
    status = recipe["main"](["methods", *words], tmp_path, tmp_path / "records", results)
    assert status == 0
    records = read_records(tmp_path / "records")
    assert len(records) == len(kept) - 1
    for record in records:
        if record.pruning and record.pruning.target_sparsity:
            assert record.pruning.sparsity == pytest.approx(0.906, abs=0.02)
    assert "small dense, distilled" in results.read_text()
