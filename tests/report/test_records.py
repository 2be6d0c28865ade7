"""Records: exact round trips, small diffs, errors with file and key."""

import json
import subprocess
import sys

import pytest
from report_records import plain_record, whole_grid, write_all

from asr.errors import AsrError
from asr.report import read_record, read_records, write_record


def test_record_is_read_as_it_was_written(tmp_path):
    plain = plain_record(sparsity=0.9, tests={"spoken test": 0.185}, speed=True)
    write_record(tmp_path / "r.json", plain)

    record = read_record(tmp_path / "r.json")

    assert record.model.parameters == plain["model"]["parameters"]
    assert record.model.tensors[1].name == "rnn.0.forward_cell.weight_hh_l0"
    assert record.model.tensors[1].shape == (384, 128)
    assert record.evaluation["spoken test"].wer_high == pytest.approx(0.201)
    assert record.pruning.curve[0] == (150, 0.0)
    assert record.pruning.thresholds["rnn.0.forward_cell.weight_ih_l0"] == {"q": 0.1}
    assert record.speed.ratio == pytest.approx(3.0)
    assert record.settings == plain["settings"]


def test_keys_beyond_the_schema_are_ignored(tmp_path):
    plain = plain_record() | {"weather": "fine"}
    plain["training"]["skipped_batches"] = 3
    write_record(tmp_path / "r.json", plain)
    assert read_record(tmp_path / "r.json").training.steps == 600


def test_written_floats_keep_six_digits_and_nan_becomes_null(tmp_path):
    values = {"wer": 0.12345678, "seconds": 1234567.891, "rate": 2e-3, "loss": float("nan")}
    write_record(tmp_path / "r.json", values)
    text = (tmp_path / "r.json").read_text()
    assert text == '{"wer": 0.123457, "seconds": 1234567.9, "rate": 0.002, "loss": null}\n'


def test_a_changed_figure_changes_one_line(tmp_path):
    before, after = plain_record(sparsity=0.9), plain_record(sparsity=0.9)
    after["model"]["tensors"][3]["nonzeros"] -= 1
    write_record(tmp_path / "a.json", before)
    write_record(tmp_path / "b.json", after)
    one = (tmp_path / "a.json").read_text().splitlines()
    other = (tmp_path / "b.json").read_text().splitlines()
    assert len(one) == len(other)
    assert sum(x != y for x, y in zip(one, other, strict=True)) == 1


def test_values_that_json_cannot_hold_are_a_bug_and_leave_no_file(tmp_path):
    with pytest.raises(TypeError, match="a record holds plain values"):
        write_record(tmp_path / "r.json", {"folder": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_of_a_record_are_named_together_with_file_and_key(tmp_path):
    plain = plain_record()
    del plain["label"]
    plain["seed"] = True
    plain["training"]["steps"] = "many"
    plain["model"]["tensors"][1]["elements"] = 0.5
    plain["evaluation"]["spoken test"]["wer"] = None
    plain["machine"] = "mine"
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(plain))

    with pytest.raises(AsrError) as caught:
        read_records(tmp_path)

    message = str(caught.value)
    assert message.startswith(f"{path}: not a whole record:")
    assert message.splitlines()[1:] == [
        "  label: missing",
        "  seed: expected a whole number, found True",
        "  machine: expected a group of keys, found 'mine'",
        "  training.steps: expected a whole number, found 'many'",
        "  model.tensors[1].elements: expected a whole number, found 0.5",
        "  evaluation.spoken test.wer: expected a number, found None",
    ]


def test_more_nonzeros_than_elements_are_refused(tmp_path):
    plain = plain_record()
    plain["model"]["nonzeros"] = plain["model"]["parameters"] + 1
    write_record(tmp_path / "r.json", plain)
    with pytest.raises(AsrError, match=r"r\.json.*\n  model\.nonzeros: \d+ non-zeros of \d+"):
        read_record(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ('{"schema": 1,\n "name" "x"}', r"r\.json:2: not JSON"),
        ('{"schema": 7}', "schema is 7, this version reads 1"),
        ("[1, 2]", "schema is 'list'"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_files_that_are_not_records_are_refused(tmp_path, content, fragment):
    path = tmp_path / "r.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AsrError, match=fragment):
        read_records(path)


def test_no_record_at_all_is_an_error(tmp_path):
    with pytest.raises(AsrError, match="no record in"):
        read_records(tmp_path)
    with pytest.raises(AsrError, match="no such file or folder"):
        read_records(tmp_path / "missing")


def test_two_records_of_one_name_are_refused(tmp_path):
    for name in ("a", "b"):
        write_record(tmp_path / f"{name}.json", plain_record("same"))
    with pytest.raises(AsrError, match=r"b\.json: name 'same' .* already in .*a\.json"):
        read_records(tmp_path)


def test_run_folders_are_found_and_their_other_files_are_not_taken_for_records(tmp_path):
    for name in ("one", "two"):
        write_record(tmp_path / name / "record.json", plain_record(name))
        (tmp_path / name / "other.json").write_text("{}")
    assert [r.name for r in read_records(tmp_path)] == ["one", "two"]
    assert [r.name for r in read_records(tmp_path / "two")] == ["two"]
    assert [r.name for r in read_records([tmp_path / "two" / "record.json"])] == ["two"]


def test_order_comes_from_the_records_not_from_file_names(tmp_path):
    grid = whole_grid({"spoken test": 1.0})
    for number, plain in enumerate(reversed(grid)):
        write_record(tmp_path / f"{number:02}.json", plain)
    names = [record.name for record in read_records(tmp_path)]
    assert names[:4] == ["dense-256", "dense-128", "dense-64", "sparse-256-80"]
    assert names == [r.name for r in read_records(write_all(tmp_path / "named", grid))]


def test_reading_and_writing_records_loads_neither_torch_nor_matplotlib():
    code = (
        "import sys; import asr.report; "
        "print([m for m in ('torch', 'matplotlib', 'lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
