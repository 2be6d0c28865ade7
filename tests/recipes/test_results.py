"""The committed records: each command can be run today, and RESULTS.md stays readable."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from paths import ROOT

from asr.report.measurements import is_measurement, read_measurement
from asr.report.records import read_record
from asr.settings.run import Run
from asr.settings.yaml import load

RECORDS = sorted((ROOT / "recipes" / "results").glob("*/*.json"))
RESULTS = ROOT / "recipes" / "RESULTS.md"


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_command_of_a_record_can_be_run_today(path: Path) -> None:
    if is_measurement(path):
        program, script, *_ = shlex.split(read_measurement(path).command)
        assert program == "python"
        assert (ROOT / script).is_file()
        return
    record = read_record(path)
    program, command, settings, *overrides = shlex.split(record.command)
    assert (program, command) == ("asr", "train")
    run = load(Run, ROOT / settings, overrides)
    assert run.name == record.name
    assert run.model.hidden == record.model.hidden
    assert run.tokenizer.kind == record.model.tokenizer
    assert (run.pruning.method != "none") == (record.pruning is not None)


def test_commands_of_records_name_no_folder_of_one_machine() -> None:
    for path in RECORDS:
        for command in re.findall(r'"command": ("(?:[^"\\]|\\.)*")', path.read_text()):
            words = re.split(r"[=\[,]|\s", json.loads(command))
            assert not [word for word in words if word.startswith(("/", "~", "../"))], path


def test_tables_of_the_results_have_at_most_eight_columns_and_no_commands() -> None:
    text = RESULTS.read_text()
    for line in text.splitlines():
        if line.startswith("| "):
            assert line.replace(r"\|", "").count("|") <= 9, line[:80]
            assert "`" not in line, line[:80]


def test_every_recipe_with_records_has_a_section() -> None:
    text = RESULTS.read_text()
    recipes = {json.loads(path.read_text())["recipe"] for path in RECORDS} - {"sparsity_window"}
    for recipe in recipes:
        assert f"<!-- asr report: {recipe} -->\n\n|" in text, recipe


def test_only_one_plot_per_recipe_small_networks_and_the_page_are_committed() -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "recipes/results"], capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [Path(name) for name in listed.stdout.split()]
    # Networks that took hours to train are committed too, small as they are packed.
    networks = {path for path in names if path.suffix == ".asr"}
    assert {path.parent.name for path in networks} <= {"shipped", "claims"}
    assert all((ROOT / path).stat().st_size <= 8_000_000 for path in networks)
    others = {path.name for path in names if path.suffix != ".json" and path not in networks}
    assert others <= {"plot.png", "page.png"}
