"""Tables, comparisons and plots: from records to exact text."""

import csv
import io
import re

import pytest
from report_records import plain_record, whole_grid, write_all
from rich.console import Console

from asr.report import comparison, print_table, read_records, report, tables
from asr.report.grouping import label_without_seed, networks
from asr.report.plots import (
    GRID,
    INK,
    PAPER,
    is_comparison_of_methods,
    methods_plot,
    pruning_plot,
    series,
    short_count,
    wer_plot,
)
from asr.report.table import Column, Table

MARKERS = "<!-- asr report: sparsity -->", "<!-- end: sparsity -->"


@pytest.fixture
def load(tmp_path):
    """Write plain records and read them back."""
    return lambda *plain: read_records(write_all(tmp_path / "records", list(plain)))


def row_of(table, label):
    row = next(row for row in table.rows if row[0] == label)
    return dict(zip((column.heading for column in table.columns), row, strict=True))


# Tables


def test_a_sparse_network_has_its_row(load):
    plain = plain_record(label="sparse", group="sparse", sparsity=0.9, tests={"set": 0.185})
    row = row_of(tables.networks_table(load(plain)), "sparse")
    assert row["WER %, set"] == "18.5 (16.9-20.1)"
    assert row["CER %, set"] == "6.2"
    assert row["Parameters"] == "713,824"
    assert row["Non-zeros"] == "182,980"
    assert row["Sparsity of prunable tensors, %"] == "90.0"
    assert row["Least to most sparse tensor, %"] == "88.0-92.0"
    assert (row["Cell"], row["Hidden"], row["Tokenizer"]) == ("gru", "3 x 128", "characters")
    assert (row["Dense fp32 file, MB"], row["Packed file, MB"]) == ("2.86", "0.440")
    assert (row["Training, s"], row["Peak memory, MiB"], row["Seed"]) == ("300", "812", "1")
    assert "Packed / dense, s" not in row


def test_seeds_make_one_row_with_mean_range_and_number_and_stay_apart_in_the_csv(load):
    wers = {1: 0.18, 2: 0.20, 3: 0.19}
    records = load(
        *(
            plain_record(f"s{seed}", label=f"GRU 128, seed {seed}", seed=seed, tests={"set": wer})
            for seed, wer in wers.items()
        )
    )
    table = tables.networks_table(records)
    assert len(table.rows) == 1
    row = row_of(table, "GRU 128")
    assert row["WER %, set"] == "19.0 (18.0-20.0 over 3 seeds)"
    assert row["Seed"] == "1, 2, 3"
    assert row["Parameters"] == "713,824"
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(records))))
    assert [(row["name"], row["set wer"]) for row in rows] == [
        ("s1", "0.18"),
        ("s2", "0.2"),
        ("s3", "0.19"),
    ]


def test_networks_that_differ_in_more_than_the_seed_are_never_averaged(load):
    same_seed = [plain_record(name, label="GRU") for name in ("a", "b")]
    assert len(networks(load(*same_seed))) == 2
    other_width = plain_record("c", label="GRU", seed=2, hidden=64)
    assert len(networks(load(same_seed[0], other_width))) == 3


@pytest.mark.parametrize(
    ("label", "seed", "expected"),
    [
        ("GRU 128, seed 2", 2, "GRU 128"),
        ("GRU 128 s2", 2, "GRU 128"),
        ("GRU 128 (seed=12)", 12, "GRU 128"),
        ("GRU 128, seed 2", 1, "GRU 128, seed 2"),
        ("GRUs2", 2, "GRUs2"),
        ("s1", 1, "s1"),
    ],
)
def test_only_its_own_seed_is_taken_from_a_label(label, seed, expected):
    assert label_without_seed(label, seed) == expected


def test_runs_without_evaluation_are_listed_as_not_tested(load):
    records = load(plain_record("a", label="A"), plain_record("b", label="B", tests={}))
    assert row_of(tables.networks_table(records), "B")["WER %, spoken test"] == "not tested"
    assert "Not tested: B." in tables.notes(records)


def test_speed_is_a_column_only_when_a_record_has_it(load):
    records = load(plain_record("a", label="A", speed=True), plain_record("b", label="B"))
    table = tables.networks_table(records)
    assert row_of(table, "A")["Packed / dense, s"] == "0.4 / 1.2 (3.00x)"
    assert row_of(table, "B")["Packed / dense, s"] == "-"
    expected = "Speed: seconds for 60 s of audio, packed and dense in one process, 1 thread, median"
    assert any(line.startswith(expected) for line in tables.notes(records))


def test_sparsity_and_threshold_of_each_tensor_are_listed(load):
    records = load(plain_record("d"), plain_record("s", "sparse", "sparse", sparsity=0.9))
    table = tables.tensors_table(records)
    assert [column.heading for column in table.columns] == ["Tensor", "sparse"]
    assert table.rows[:2] == (
        ("rnn.0.forward_cell.weight_ih_l0", "88.0 (q 0.1)"),
        ("rnn.0.forward_cell.weight_hh_l0", "92.0 (q 0.11)"),
    )
    assert len(table.rows) == 12
    assert tables.tensors_table(records[:1]) is None


def test_commands_show_a_changed_checkout_and_cannot_break_the_table(load):
    plain = plain_record(label="a|b <i>*c*")
    plain["git"]["dirty"] = True
    plain["command"] = "asr train x.yaml 'name=a|b' `date`"
    table = tables.runs_table(load(plain))
    assert table.rows[0][2:4] == ("0123456789ab+changes", "AMD EPYC, 2 cores, 23.5 GiB")
    line = table.markdown().splitlines()[2]
    assert line.startswith(r"| a\|b \<i>\*c\* | `` asr train x.yaml 'name=a\|b' `date` `` | ")


def test_networks_tested_under_other_conditions_are_listed_apart(load):
    one, other = plain_record("a", label="A"), plain_record("b", label="B")
    other["evaluation"]["spoken test"]["lm"] = "3-gram"
    lines = [line for line in tables.notes(load(one, other)) if line.startswith("spoken test")]
    assert lines[0].endswith("text normalised by en-v1; interval over utterances (only A).")
    assert "; greedy decoding, LM 3-gram; " in lines[1]
    assert lines[1].endswith("(only B).")


def test_a_table_for_a_page_has_at_most_eight_columns_each_with_the_name(load):
    tests = dict.fromkeys(("a", "b", "c", "d", "e"), 0.2)
    table = tables.networks_table(load(plain_record(tests=tests)))
    parts = table.parts()
    assert max(len(part.columns) for part in parts) == 8
    assert all(part.rows[0][0] == "GRU 128, dense" for part in parts)
    rest = [c.heading for part in parts for c in part.columns[1:]]
    assert rest == [c.heading for c in table.columns[1:]]


def test_a_table_as_text_is_aligned_and_never_shortened():
    long = "x" * 300
    columns = (Column("name", numeric=False), Column("value"))
    lines = Table("", columns, (("a", "1"), (long, "12,345"))).text().splitlines()
    assert lines[0].split() == ["name", "value"]
    assert lines[-2].split() == ["a", "1"]
    assert lines[-1].split() == [long, "12,345"]
    assert len(lines[-2]) == len(lines[-1])


# Comparison of equal non-zeros


def pair(wer_sparse, wer_dense, larger=1.02, **options):
    sparse = plain_record("s", "sparse", "S", sparsity=0.9, tests={"set": wer_sparse})
    nonzeros = round(larger * sparse["model"]["nonzeros"])
    dense = plain_record("d", "small-dense", "D", hidden=40, nonzeros=nonzeros,
                         tests={"set": wer_dense}, **options)  # fmt: skip
    return sparse, dense


def test_a_difference_larger_than_both_intervals_is_stated(load):
    (found,) = comparison(load(*pair(0.185, 0.287)))
    assert found.clear
    assert found.difference == pytest.approx(-0.102)
    assert str(found) == (
        "set: S (182,980 non-zeros) has a WER of 18.5 % (16.9-20.1), D (186,640) of "
        "28.7 % (27.1-30.3): 10.2 points lower; the intervals do not overlap."
    )


def test_a_difference_within_the_intervals_is_not_called_a_difference(load):
    (found,) = comparison(load(*pair(0.20, 0.18)))
    assert not found.clear
    assert "2.0 points higher; the intervals overlap, so this test does not" in str(found)


@pytest.mark.parametrize(
    ("larger", "options"), [(1.06, {}), (0.94, {}), (1.0, {"tokenizer": "sentencepiece"})]
)
def test_unequal_networks_are_not_compared(load, larger, options):
    assert comparison(load(*pair(0.2, 0.3, larger, **options))) == []


def test_results_of_different_decoding_are_not_compared(load):
    sparse, dense = pair(0.2, 0.3)
    dense["evaluation"]["set"]["lm"] = "3-gram"
    assert comparison(load(sparse, dense)) == []


def test_with_several_seeds_a_difference_must_clear_the_intervals_of_all(load):
    sparse, dense = pair(0.18, 0.22)
    second = plain_record("s2", "sparse", "S", seed=2, sparsity=0.9, tests={"set": 0.20})
    assert comparison(load(sparse, dense))[0].clear
    (found,) = comparison(load(sparse, dense, second))
    assert found.wer_sparse.wer == pytest.approx(0.19)
    assert not found.clear


# Plots


def test_series_follow_group_width_cell_and_tokenizer(load):
    names = [one.name for one in series(load(*whole_grid({"set": 1.0})))]
    assert names == [
        "GRU, dense",
        "GRU 256, sparse",
        "GRU 128, sparse",
        "GRU, small dense",
        "GRU, sentencepiece 200, dense",
        "GRU 128, sentencepiece 200, sparse",
        "RNN, dense",
        "RNN 256, sparse",
    ]


def test_every_series_and_every_pruned_network_is_named_in_a_legend(load):
    from matplotlib.figure import Figure

    legends = []
    records = load(*whole_grid({"set": 1.0}))
    original = Figure.legend

    def legend(figure, handles, labels, **options):
        legends.append(list(labels))
        return original(figure, handles, labels, **options)

    Figure.legend = legend
    try:
        wer_plot(records)
        pruning_plot(records)
    finally:
        Figure.legend = original
    tested = [one.name for one in series(records) if one.networks[0].wer("set")]
    assert legends[0] == tested
    assert sorted(legends[1]) == sorted(r.label for r in records if r.pruning)


def test_counts_on_the_axis_are_short():
    assert [short_count(x) for x in (950, 200_000, 1_500_000)] == ["950", "200 k", "1.5 M"]


def test_without_a_test_set_nothing_is_plotted(load):
    assert wer_plot(load(plain_record(tests={}))) is None


def test_terminal_shows_the_few_columns_that_matter(load):
    out = io.StringIO()
    sparse, dense = pair(0.185, 0.287)
    sparse["label"] = "S [bold]"
    sparse |= {"speed": plain_record(speed=True)["speed"]}
    print_table(load(sparse, dense), Console(file=out, width=200))
    text = out.getvalue()
    assert "S [bold]" in text
    assert "182,980" in text
    assert "18.5 (16.9-20.1)" in text
    assert "0.440" in text
    assert "0.4 / 1.2 (3.00x)" in text
    assert "10.2 points lower; the intervals do not overlap." in text


# Distillation, and many methods at one size

USUAL = {INK, PAPER, GRID}

DISTILLED = {"teacher": "dense/model.asr", "kind": "frame", "weight": 0.3, "temperature": 2.0,
          "ctc_loss": 0.9, "distillation_loss": 0.4}  # fmt: skip


def test_the_teachers_loss_is_a_column_only_if_a_network_was_distilled(load):
    plain = plain_record("d", "small-dense", "D", tests={"set": 0.3})
    assert "Teacher's loss" not in row_of(tables.networks_table(load(plain)), "D")
    distilled = plain_record("t", "small-dense", "T", tests={"set": 0.3}, distillation=DISTILLED)
    table = tables.networks_table(load(plain, distilled))
    assert row_of(table, "D")["Teacher's loss"] == "-"
    assert row_of(table, "T")["Teacher's loss"] == "frame, 30 %, T 2"
    assert any("not counted in the training time" in line for line in tables.notes(load(distilled)))
    rows = csv.DictReader(io.StringIO(tables.to_csv(load(plain, distilled))))
    assert [row["distillation temperature"] for row in rows] == ["", "2.0"]


def test_the_average_is_a_column_only_when_a_network_was_averaged(load):
    plain = plain_record("d", label="D")
    averaged = plain_record("a", label="A")
    averaged["training"]["average"] = 0.999
    assert "Averaged, decay" not in row_of(tables.networks_table(load(plain)), "D")
    assert "average" not in tables.to_csv(load(plain))
    table = tables.networks_table(load(plain, averaged))
    assert row_of(table, "A")["Averaged, decay"] == "0.999"
    assert row_of(table, "D")["Averaged, decay"] == "-"
    assert any(line.startswith("Averaged: ") for line in tables.notes(load(averaged)))
    rows = csv.DictReader(io.StringIO(tables.to_csv(load(plain, averaged))))
    assert {row["name"]: row["average"] for row in rows} == {"d": "", "a": "0.999"}


def test_of_two_dense_networks_of_one_size_the_better_is_compared(load):
    sparse, dense = pair(0.2, 0.3)
    distilled = plain_record(
        "t", "small-dense", "distilled", tests={"set": 0.25}, distillation=DISTILLED,
        nonzeros=dense["model"]["nonzeros"],
    )  # fmt: skip
    (found,) = comparison(load(sparse, dense, distilled))
    assert found.dense == "distilled"


def methods_grid():
    plain = [
        plain_record(f"m{i}-{seed}", "sparse", f"method {i}", seed=seed, sparsity=0.9,
                     tests={"set": 0.2 + 0.01 * i + 0.002 * seed})
        for i in range(6) for seed in (1, 2)
    ]  # fmt: skip
    return [plain_record("d", tests={"set": 0.15}), *plain]


def test_many_methods_at_one_size_get_one_line_each(load, tmp_path):
    records = load(*methods_grid())
    assert is_comparison_of_methods(records)
    assert not is_comparison_of_methods(records[:9]), "a dense network and four methods"
    written = report(tmp_path / "records", tmp_path / "out")
    assert "best first" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "plot.png") in written
    svg = methods_plot(records).svg
    assert methods_plot(records).svg == svg


def test_a_grid_of_sizes_is_still_drawn_over_non_zeros(load):
    assert not is_comparison_of_methods(load(*whole_grid({"set": 1.0})))


def test_curves_of_many_methods_have_different_colours_and_of_few_those_of_their_series(load):
    def colours(records):
        svg = pruning_plot(records).svg.decode()
        return len({c for c in re.findall(r"stroke: (#[0-9a-f]{6})", svg) if c not in USUAL})

    records = load(*methods_grid())
    assert colours(records) == 6
    assert colours([r for r in records if r.label in ("method 0", "method 1")]) == 1


def test_a_grid_without_tests_shows_its_dev_errors(load):
    records = load(plain_record("a", label="A", tests={}), plain_record("b", label="B", tests={}))
    table = tables.networks_table(records).select(tables.main_columns(records))
    assert row_of(table, "B")["Dev WER %"] == "12.0"
    assert not any("Not tested" in line for line in tables.notes(records))
