"""Code shared by the benchmark scripts: records that are continued, and options."""

import json
import time
from pathlib import Path

import pytest
from benchmark_scripts import FOLDER
from lib import script as scripts
from lib.record import Display, PartedRecord, read_parts
from lib.script import named, start

from asr.errors import AsrError
from asr.report.measurements import read_measurement
from asr.report.table import Column, Table

assert FOLDER.is_dir()


def display(parts: list[dict]) -> Display:
    """One row for each result."""
    rows = tuple((r["name"], str(r.get("seconds"))) for p in parts for r in p["results"])
    return Display(Table("", (Column("Name", numeric=False), Column("Seconds")), rows))


class FakeLoadMonitor:
    """Other programs that use a given fraction of a core."""

    loads: list[float]

    def other_load(self) -> float:
        return FakeLoadMonitor.loads.pop(0)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    FakeLoadMonitor.loads = []
    monkeypatch.setattr(scripts, "LoadMonitor", FakeLoadMonitor)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return FakeLoadMonitor.loads


def test_a_record_is_continued_and_marks_what_was_measured_on_a_busy_machine(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.json"
    record = PartedRecord.open("x", display, path, "python x.py", quick=False, again=False)
    record.add("one", {"results": [{"name": "a", "seconds": 1 / 3}, {"name": "b"}]}, 0.01)
    record.add("two", {"results": [{"name": "a", "seconds": float("nan")}]}, 0.5)
    parts = read_parts(path)
    assert [part["busy"] for part in parts.values()] == [False, True]
    assert parts["one"]["results"][0] == {"name": "a", "seconds": 0.333333}
    assert parts["two"]["results"][0]["seconds"] is None
    assert {"machine", "git", "versions", "date", "command"} <= set(parts["one"])
    measurement = read_measurement(path)
    assert (measurement.name, measurement.recipe) == ("x", "x")
    assert [row["Name"] for row in measurement.rows] == ["a", "b", "a"]
    assert "TAKEN BESIDE OTHER PROGRAMS, not to be quoted: two." in measurement.notes
    continued = PartedRecord.open("x", display, path, "", False, again=False)
    assert set(continued.parts) == {"one", "two"}
    assert not PartedRecord.open("x", display, path, "", False, again=True).parts


def test_a_file_that_is_not_the_record_of_a_benchmark_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"schema": 2, "kind": "measurement"}))
    with pytest.raises(AsrError, match="schema is 2, not 1"):
        read_parts(path)
    path.write_text("{")
    with pytest.raises(AsrError, match="not the record of a benchmark"):
        read_parts(path)


def test_nothing_is_measured_without_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.script.library", lambda: None)
    with pytest.raises(AsrError, match="C library of the sparse kernels is not built"):
        start("x", "", display, [])
    assert start("x", "", display, [], timed=False).record.path is not None


def test_a_busy_machine_is_refused_before_anything_is_prepared(
    loads: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.script.library", object)
    loads += [0.3, 0.01]
    with pytest.raises(AsrError, match=r"other programs use 30% of a core: stop them"):
        start("x", "", display, [])
    assert not start("x", "", display, []).allow_busy
    assert start("x", "", display, ["--allow-busy"]).allow_busy


def test_quick_figures_are_written_only_with_output(tmp_path: Path) -> None:
    assert start("x", "", display, ["--quick"], timed=False).record.path is None
    script = start("x", "", display, ["--quick", "--output", str(tmp_path)], timed=False)
    assert script.record.path == tmp_path / "x.json"
    assert str(tmp_path) not in script.record.command


def test_models_are_named_by_their_file_or_by_their_run(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "packed.asr", tmp_path / "b" / "packed.asr", tmp_path / "own.asr"]
    assert list(named(paths)) == ["a/packed.asr", "b/packed.asr", "own.asr"]
    with pytest.raises(AsrError, match="both would be called own"):
        named([tmp_path / "own.asr", tmp_path / "a" / "own.asr"])
