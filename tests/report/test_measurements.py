"""Records of measurements: writing, reading, errors, display in RESULTS.md."""

import json
from pathlib import Path
from typing import Any

import pytest

from asr.errors import AsrError
from asr.report import report
from asr.report.measurements import (
    DisplayColumn,
    ExtraTable,
    read_measurements,
    tables,
    write_measurement,
)

COLUMNS = [
    DisplayColumn("Decoder", "decoder"),
    DisplayColumn("WER %", "wer", "rate"),
    DisplayColumn("Less", "less", "change"),
    DisplayColumn("Words", "words", "count"),
    DisplayColumn("Fraction", "fraction", "percent"),
    DisplayColumn("Time", "time", ".2f"),
]
ROW: dict[str, Any] = {
    "decoder": "greedy",
    "wer": {"wer": 0.2513, "low": 0.2, "high": 0.3},
    "less": {"wer": -0.051, "low": -0.06, "high": 0.01},
    "words": 12345,
    "fraction": 0.5,
    "time": 0.125,
}


def write(path: Path, label: str = "A|B", **changes: Any) -> Path:
    notes = ["same for all", f"only {label}"]
    write_measurement(path, "decoders", label, "python x.py", COLUMNS, [ROW | changes], notes)
    return path


def test_values_are_displayed_in_the_format_of_their_columns(tmp_path: Path) -> None:
    records = read_measurements(write(tmp_path / "a.json", time=None))
    assert tables(records)[0].rows == (
        ("greedy", "25.1 (20.0-30.0)", "-5.1 (-6.0 to +1.0)", "12,345", "50.0", "-"),
    )
    [record] = records
    assert (record.name, record.threads, record.label) == ("a", 1, "A|B")
    assert record.machine.cores >= 1
    assert "python" in record.versions


def test_several_records_make_one_table_between_their_markers(tmp_path: Path) -> None:
    write(tmp_path / "records/a.json")
    write(tmp_path / "records/b.json", label="C", decoder="beam")
    results = tmp_path / "RESULTS.md"
    results.write_text("before\n<!-- asr report: decoders -->\nold\n<!-- end: decoders -->\nafter")
    paths = report(tmp_path / "records", tmp_path / "out", results)
    assert paths == [tmp_path / "out/table.md", results]
    text = results.read_text()
    assert text.startswith("before\n<!-- asr report: decoders -->\n\n| Network | Decoder |")
    assert text.endswith("<!-- end: decoders -->\nafter")
    assert "old" not in text
    assert r"| A\|B | greedy | 25.1 (20.0-30.0) |" in text
    assert "| C | beam |" in text
    assert text.count("- same for all\n") == 1
    assert r"- A\|B: only A\|B" in text
    assert "python x.py" not in text
    assert "[commands and figures](records/)" in text
    assert (tmp_path / "out/table.md").read_text().count("`python x.py`") == 2
    report(tmp_path / "records", tmp_path / "out", results)
    assert results.read_text() == text


def test_what_a_record_lacks_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json")
    plain = json.loads(path.read_text())
    plain["rows"][0]["wer"] = 0.25
    del plain["threads"]
    path.write_text(json.dumps(plain))
    with pytest.raises(AsrError, match=r"a\.json: not a whole record:\n  threads: missing"):
        read_measurements(path)
    path.write_text(json.dumps(plain | {"threads": 1}))
    with pytest.raises(AsrError, match=r"rows\[0\]: no value 'wer' that fits the format rate"):
        read_measurements(path)
    path.write_text(json.dumps(plain | {"schema": 0}))
    with pytest.raises(AsrError, match="schema is 0"):
        read_measurements(path)


def test_records_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.json")
    write_measurement(tmp_path / "b.json", "decoders", "B", "x", COLUMNS[:1], [ROW])
    with pytest.raises(AsrError, match=r"b\.json: other columns than .*a\.json"):
        report(tmp_path, tmp_path / "out")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(AsrError, match=r"b\.json: not a measurement, beside .*a\.json"):
        report(tmp_path, tmp_path / "out")


def test_extra_tables_display_the_same_rows_or_rows_of_their_own(tmp_path: Path) -> None:
    own = {"network": "a", "cer": {"value": 0.1, "low": 0.05, "high": 0.2}}
    extra = [
        ExtraTable(
            "Sizes", (DisplayColumn("Decoder", "decoder"), DisplayColumn("Words", "words", "count"))
        ),
        ExtraTable(
            "Letters",
            (DisplayColumn("Network", "network"), DisplayColumn("CER", "cer", "rate")),
            (own,),
        ),
        ExtraTable("Nothing", (DisplayColumn("Network", "network"),), ()),
    ]
    for name in ("a", "b"):
        arguments = ("decoders", name, "x", COLUMNS, [ROW])
        write_measurement(tmp_path / "r" / f"{name}.json", *arguments, tables=extra)
    report(tmp_path / "r", tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text()
    assert "<details><summary>Sizes</summary>\n\n| Network | Decoder | Words |" in text
    assert "| b | greedy | 12,345 |" in text
    assert "<details><summary>Letters</summary>\n\n| Record | Network | CER |" in text
    assert "| b | a | 10.0 (5.0-20.0) |" in text
    assert text.partition("Nothing</summary>")[2].startswith(
        "\n\n| Record | Network |\n| :-- | :-- |\n\n"
    )

    write_measurement(tmp_path / "r" / "b.json", *arguments, tables=extra[:2])
    with pytest.raises(AsrError, match=r"b\.json: other columns"):
        read_measurements(tmp_path / "r")
    broken = [ExtraTable("Letters", extra[1].columns, ({"network": "a", "cer": 0.1},))]
    write_measurement(tmp_path / "c.json", *arguments, tables=broken)
    with pytest.raises(AsrError, match=r"Letters: rows\[0\]: no value 'cer'"):
        read_measurements(tmp_path / "c.json")
