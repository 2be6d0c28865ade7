"""Every script of recipes/benchmarks runs with --quick, and RESULTS is made from its record."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from benchmark_scripts import FOLDER, script
from lib.record import Display, PartedRecord, read_parts
from lib.speed_tables import break_even
from lib.tables import gpu_display

from asr.benchmark.dense import NAMES
from asr.errors import AsrError
from asr.report.table import Column, Table
from asr.sparse.kernels import levels, library

RECORDS = FOLDER.parent / "results"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch):
    """Run the scripts without the C library too, on numpy; restore the threads of torch."""
    monkeypatch.setattr("lib.script.library", object)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "benchmarks"


def run(name: str, records: Path, *arguments: object) -> dict:
    """The parts of the record; parts of an earlier run are not measured again."""
    words = ["--quick", "--output", str(records), *map(str, arguments)]
    assert script(name).main(words) == 0
    return read_parts(records / f"{name}.json")


def test_no_script_has_the_name_of_a_module_that_others_import() -> None:
    # The folder of a script is the first that Python looks in: `cuda.py` there breaks torch.
    names = {path.stem for path in FOLDER.glob("*.py")}
    taken = {"cuda", "onnx", "openvino", "torch", "numpy", "asr"} | sys.stdlib_module_names
    assert not names & taken


ONLY = {"recurrent": ["--only", "gru-64-n1"], "network": ["--only", "2x32-t1"]}


def test_training(records: Path) -> None:
    parts = run("training", records)
    assert set(parts) == {"16, 20 s", "feeding"}
    names = {row["name"] for row in parts["16, 20 s"]["results"]}
    kinds = ("ours", "plain", "sparse")
    assert names == {f"{kind}, {p}" for kind in kinds for p in ("bf16", "float32")}
    [fed] = parts["feeding"]["results"]
    assert 0 <= fed["waited"] < 1
    assert min(fed["step"], fed["batch"]) > 0


def test_plan(records: Path) -> None:
    parts = run("plan", records)
    assert set(parts) == {"plan", "manifest"}
    [planned] = parts["plan"]["results"]
    assert planned["utterances"] / 8 * 0.9 < planned["of_rank"] <= planned["utterances"] / 8 * 1.1
    assert planned["seconds"] > 0
    index, whole = parts["manifest"]["results"]
    assert index["lines"] == whole["lines"] == 5000
    assert index["rise_mib"] < whole["rise_mib"], "memory of an index and of a list"
    assert index["sent"] < 1000 < whole["sent"] / 100, "bytes for the other processes"
    assert min(index["one"], whole["one"], index["reading"], whole["reading"]) > 0


def test_recurrent(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("recurrent", records, *ONLY["recurrent"])
    parts = read_parts(records / "recurrent.json")
    assert set(parts) == {"gru-64-n1-t1", "gru-64-n1-t2"}
    part = parts["gru-64-n1-t2"]
    assert part["quick"]
    dense = {row["name"] for row in part["results"] if row["kind"] == "dense"}
    assert "torch fp32" in dense
    assert "torch int8" in dense | set(part["absent"])
    assert "ONNX Runtime int8" in part["absent"]
    sparse = [row for row in part["results"] if row["kind"] == "sparse"]
    assert {row["pattern"] for row in sparse} == {"element", "bank", "block"}
    for row in sparse:
        assert row["seconds"] > 0
        assert row["error"] < 0.02, row["name"]
    assert "gru-64-n1-t2" in capsys.readouterr().out
    run("recurrent", records, *ONLY["recurrent"])
    assert "already in the record" in capsys.readouterr().out


def test_network(records: Path) -> None:
    part = run("network", records, *ONLY["network"])["2x32-t1"]
    found = {row["name"]: row for row in part["results"]}
    assert {"torch fp32", "element", "bank", "block", "features, native"} <= set(found)
    assert found["element, exact"]["error"] < 1e-4
    assert found["element"]["error"] < 0.05
    assert found["features, native"]["error"] < 1e-4


def test_some_parts_are_measured_again_and_the_others_are_kept(tmp_path: Path) -> None:
    def record(again: bool, only: str) -> PartedRecord:
        def display(parts: list) -> Display:
            return Display(Table("", (Column("Part"),), tuple((p["size"],) for p in parts)))

        return PartedRecord.open("x", display, tmp_path / "x.json", "x", True, again, only)

    first = record(False, "")
    for size in ("avx2-small", "avx512-small", "avx512-large"):
        first.add(size, {"size": size, "results": []}, None)
    assert list(record(False, "avx512").parts) == list(first.parts)
    assert list(record(True, "avx512").parts) == ["avx2-small"]
    assert not record(True, "").parts
    record(True, "avx512").begin_again()
    assert list(read_parts(tmp_path / "x.json")) == ["avx2-small"]
    record(True, "").begin_again()
    assert not (tmp_path / "x.json").exists()


@pytest.mark.skipif("avx2" not in levels() or not library(), reason="no AVX2")
def test_instruction_sets(records: Path) -> None:
    part = run("instruction_sets", records, "--only", "avx2-2x32")["avx2-2x32-t1"]
    found = {row["name"]: row for row in part["results"]}
    assert part["level"] == "avx2"
    assert "ATEN_CPU_CAPABILITY=avx2" in part["held"]
    assert "--held" not in part["command"]
    assert found["bank"]["kernel"] == "perm8"
    assert found["element, exact"]["kernel"] == "perm32"
    assert not any(name.startswith(("ONNX", "OpenVINO")) for name in found)


def test_sizes(records: Path) -> None:
    rows = run("sizes", records)["96x64"]["results"]
    found = {(r["name"], r.get("pattern")): r["bytes"] for r in rows}
    assert found["dense fp32", None] == 4 * 96 * 64
    assert found["dense int8", None] == 96 * 64 + 4 * 96
    packed = [found[f"packed {values}", "element"] for values in ("fp32", "fp16", "int8")]
    assert packed == sorted(packed, reverse=True)


def test_masks(records: Path, trained: Path) -> None:
    parts = run("masks", records)
    assert {f"{trained.name}, layer {i}" for i in (1, 2, 3)} < set(parts)
    skewed = next(part for key, part in parts.items() if "log-normal rows 1" in key)
    own, random = (skewed["results"][i] for i in (0, 1))
    assert own["kept"] == random["kept"]
    assert own["row_spread"] > 1.5 * random["row_spread"]


def test_wer(records: Path, corpus: Path) -> None:
    part = next(iter(run("wer", records, "--set", corpus / "test.jsonl").values()))
    found = {row["name"]: row for row in part["results"]}
    assert found["torch fp32"]["different"] == 0
    assert found["sparse, exact"]["different"] == 0
    assert {"torch int8", "sparse, file of int8 values"} <= {*found, *part["absent"]}
    assert {f"sparse, {level}" for level in levels()} <= set(found)
    for row in found.values():
        assert row["wer"] < found["torch fp32"]["wer"] + 0.05
        assert row["wer"] < 0.5
        changed = row["frames_changed"]
        assert (row["margin_changed"] is None) == (changed == 0)
        assert changed == 0 or row["margin_changed"] < row["margin"]
        assert row["words_changed"] <= 0.1 * row["words"]
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert found["sparse, exact"]["words_changed"] == 0
    assert found["sparse, exact"]["frames_changed"] <= 0.001 * found["sparse, exact"]["frames"]


def test_start(records: Path) -> None:
    rows = {row["name"]: row for row in run("start", records)["3x128"]["results"]}
    assert set(rows) == {"torch, 5 s", "native, 5 s"}
    assert rows["native, 5 s"]["characters"] > 20
    assert rows["native, 5 s"]["same_text"]
    assert rows["native, 5 s"]["peak_mib"] < 150 < rows["torch, 5 s"]["peak_mib"]


def test_gpu_is_recorded_as_not_run_without_a_gpu(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--quick", "--output", str(records)]
    assert script("gpu").main(arguments) == 0
    parts = read_parts(records / "gpu.json")
    if torch.cuda.is_available():
        rows = {row["name"]: row for row in parts["gru-512-n1"]["results"]}
        assert rows["torch.sparse CSR"]["error"] < 1e-4
        return
    assert "not run: torch finds no CUDA GPU" in capsys.readouterr().out
    assert parts["not run"]["results"] == []
    text = (records / "gpu.json").read_text()
    assert '"rows": [{"GPU": "not run: torch finds no CUDA GPU on this machine"}]' in text
    assert script("gpu").main(arguments) == 0
    assert "already in the record" in capsys.readouterr().out


def test_the_table_of_a_gpu_is_made_from_its_parts() -> None:
    names = ("torch fp32", "torch bf16", "torch.sparse CSR")
    results = [
        {"name": name, "kind": kind, "seconds": seconds, "error": 1e-6}
        for name, kind, seconds in zip(
            names, ("dense", "dense", "sparse"), (0.004, 0.002, 0.008), strict=True
        )
    ]
    part = {"gpu": "A GPU", "hidden": 800, "columns": 1, "results": results}
    table = gpu_display([part]).first.markdown()
    assert "| A GPU | 800 | 1 | 4 (0.50x) | 2 (1.00x) | 8 (0.25x) | 1.0e-06 |" in table


@pytest.mark.slow  # compiles the kernels for ARM
@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64-static")),
    reason="no cross-compiler and emulator for ARM",
)
def test_instructions(records: Path) -> None:
    rows = run("instructions", records)["instructions"]["results"]
    found = {(row["pattern"], row["kernel"], row["level"]): row["instructions"] for row in rows}
    for pattern in ("element", "bank"):
        for columns in ("1", "8"):
            slow, fast = (found[pattern, "perm8", level][columns] for level in ("neon", "neondot"))
            assert 0 < fast < slow


def test_tables_are_made_from_the_records_between_markers(
    records: Path, corpus: Path, tmp_path: Path
) -> None:
    for name in ("recurrent", "network", "sizes", "masks", "start"):
        run(name, records, *ONLY.get(name, []))
    run("wer", records, "--set", corpus / "test.jsonl")
    names = ("recurrent", "network", "sizes", "masks", "start", "wer")
    markers = [f"<!-- asr report: {name} -->\nold\n<!-- end: {name} -->" for name in names]
    results = tmp_path / "RESULTS.md"
    results.write_text("\n".join(["before", *markers, "after", ""]))
    results_script = script("results")
    assert results_script.main([str(records.parent), str(results)]) == 0
    lines = results.read_text().split("\n")
    assert lines[:2] == ["before", "<!-- asr report: recurrent -->"]
    assert lines[-3:] == ["<!-- end: wer -->", "after", ""]
    text = results.read_text()
    assert "old" not in lines
    for fragment in ("| GRU 64, N = 1, 2 threads |", "features to log-probabilities", "TINY SIZES"):
        assert fragment in text
    assert "ONNX Runtime int8: not measured in 2 of 2 conditions" in text
    for path in records.glob("*.json"):
        for part in read_parts(path).values():
            assert part["command"].startswith(f"python recipes/benchmarks/{path.stem}.py --quick")
    assert max(line.count(" | ") for line in lines if line.startswith("| ")) < 8
    results.write_text("no markers\n")
    assert results_script.write_results(records.parent, results) == []
    with pytest.raises(AsrError, match="no records in its folders"):
        results_script.write_results(tmp_path, results)
    (records / "odd.json").write_text("{}")
    with pytest.raises(AsrError, match=r"odd\.json: not a record"):
        results_script.write_results(records.parent, results)


def test_the_break_even_is_where_the_times_cross() -> None:
    rows = [{"sparsity": s, "seconds": t} for s, t in ((0.5, 8.0), (0.75, 4.0), (0.9, 1.0))]
    assert break_even(rows, {"seconds": 4.5}) == "72 %"
    assert break_even(rows, {"seconds": 9.0}) == "below 50 %"
    assert break_even(rows, {"seconds": 0.5}) == "above 90 %"
    assert break_even(rows, None) == "-"


def test_committed_records_are_complete_and_were_measured_on_an_idle_machine() -> None:
    paths = list((RECORDS / "benchmarks").glob("*.json"))
    assert paths
    sets = {
        part["set"] for part in read_parts(RECORDS / "benchmarks/instruction_sets.json").values()
    }
    assert sets == {"avx2", "avx2vnni", "avx512bw", "avx512vnni"}
    for path in paths:
        for key, part in read_parts(path).items():
            assert not part["quick"], (path.name, key)
            assert not part["busy"], (path.name, key)
            assert part["results"] or part["reason"], (path.name, key)
            if path.stem in ("recurrent", "network"):
                for name in NAMES:
                    rows = {row["name"] for row in part["results"]}
                    reason = part["absent"].get(name, "no")
                    assert name in rows or (reason != "no" and "not installed" not in reason), (
                        path.name,
                        key,
                        name,
                    )


def test_the_committed_tables_are_those_of_the_committed_records(tmp_path: Path) -> None:
    shutil.copytree(RECORDS, tmp_path / "results")
    committed = (FOLDER.parent / "RESULTS.md").read_text()
    copy = tmp_path / "RESULTS.md"
    copy.write_text(committed)
    script("results").write_results(tmp_path / "results", copy)
    assert copy.read_text() == committed
    for path in RECORDS.glob("*/plot.png"):
        assert path.read_bytes() == (tmp_path / path.relative_to(FOLDER.parent)).read_bytes()
