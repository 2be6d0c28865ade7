"""What trainings cost: read from finished run folders."""

import json
import runpy
from pathlib import Path

import pytest
from paths import ROOT
from report_records import plain_record

from asr.errors import AsrError
from asr.report.measurements import read_measurement

MAIN = runpy.run_path(str(ROOT / "recipes" / "shipped" / "cost.py"))["main"]
HEADING = "epoch,step,seconds,learning_rate,train_loss,dev_loss,dev_wer,sparsity\n"


def training(folder: Path, name: str, rates: list[float]) -> Path:
    """A run folder whose validations, one an hour, had these error rates."""
    made = folder / name
    made.mkdir()
    (made / "record.json").write_text(json.dumps(plain_record(name, tests={})))
    rows = [f"{i},{100 * i},{3600 * i},0.001,1.0,1.0,{rate}," for i, rate in enumerate(rates, 1)]
    (made / "metrics.csv").write_text(HEADING + "\n".join(rows) + "\n")
    return made


def test_epochs_and_hours_until_another_network_was_as_good(tmp_path: Path) -> None:
    large = training(tmp_path, "large", [0.9, 0.5, 0.4, 0.3])
    small = training(tmp_path, "small", [0.95, 0.8, 0.45, 0.5])
    record = tmp_path / "cost.json"
    assert MAIN([str(large), str(small), "--reach", "small", "large", "-o", str(record)]) == 0
    rows = read_measurement(record).rows
    assert [row["wer"] for row in rows] == [0.3, 0.45]
    assert [row["reach small"] for row in rows] == ["3 (3.0)", "3 (3.0)"]
    assert [row["reach large"] for row in rows] == ["4 (4.0)", "never"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no validation"), ("a,b\n1,2\n", "not the metrics"), (HEADING, "no validation")],
)
def test_a_folder_without_validations_is_refused(tmp_path: Path, text: str, message: str) -> None:
    made = training(tmp_path, "one", [0.5])
    (made / "metrics.csv").write_text(text)
    with pytest.raises(AsrError, match=message):
        MAIN([str(made)])


def test_what_is_to_be_reached_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="other"):
        MAIN([str(training(tmp_path, "one", [0.5])), "--reach", "other"])
