"""Paired comparison: the interval by its definition, the list, what cannot be compared."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tone_network import RATE, save_tone_model, speak

from asr.corpus.manifest import Utterance, write_manifest
from asr.errors import AsrError
from asr.evaluate.compare import compare, compare_to, listing, table
from asr.evaluate.ref_hyp import write
from asr.evaluate.wer import Row


def rows(count: int, fraction_wrong: float, seed: int, speakers: int = 0) -> list[Row]:
    """Utterances of ten words, each wrong at random."""
    draw = random.Random(seed)
    result = []
    for i in range(count):
        words = ["WRONG" if draw.random() < fraction_wrong else "RIGHT" for _ in range(10)]
        speaker = f"s{i % speakers}" if speakers else ""
        result.append(Row(f"u{i:03}", speaker, " ".join(["RIGHT"] * 10), " ".join(words)))
    return result


def errors(row: Row) -> int:
    return row.hypothesis.split().count("WRONG")


def test_the_difference_and_its_interval_are_those_of_a_plain_loop() -> None:
    a, b = rows(60, 0.3, seed=1), rows(60, 0.2, seed=2)
    got = compare(a, b[::-1], seed=7, resamples=300)
    drawn = []
    for chosen in np.random.default_rng(7).integers(60, size=(300, 60)):
        drawn.append(sum(errors(b[i]) - errors(a[i]) for i in chosen) / 600)
    assert got.difference == pytest.approx((sum(map(errors, b)) - sum(map(errors, a))) / 600)
    assert got.low == pytest.approx(np.quantile(drawn, 0.025), abs=1e-12)
    assert got.high == pytest.approx(np.quantile(drawn, 0.975), abs=1e-12)
    assert got.high < 0
    assert got.p < 0.01
    assert (got.a.wer, got.b.wer) == (sum(map(errors, a)) / 600, sum(map(errors, b)) / 600)


def test_a_small_difference_shows_in_pairs_where_two_intervals_overlap() -> None:
    a = rows(200, 0.3, seed=1)
    b = [
        replace(row, hypothesis=row.hypothesis.replace("WRONG", "RIGHT", 1)) if i % 8 == 0 else row
        for i, row in enumerate(a)
    ]
    got = compare(a, b)
    assert got.b.wer_high > got.a.wer_low, "the intervals overlap"
    assert got.high < 0
    assert all(d.b_errors == d.a_errors - 1 for d in got.differing)


def test_chance_is_not_a_difference() -> None:
    got = compare(rows(200, 0.3, seed=1), rows(200, 0.3, seed=2))
    assert got.low < 0 < got.high
    assert got.p > 0.05
    same = compare(rows(50, 0.3, seed=1), rows(50, 0.3, seed=1))
    assert (same.difference, same.low, same.high, same.p, same.differing) == (0, 0, 0, 1, ())


def test_speakers_are_drawn_where_they_are_known() -> None:
    a = rows(100, 0.3, seed=1, speakers=10)
    # B is better for half of the speakers and worse for the others.
    b = [
        replace(row, hypothesis=" ".join(["RIGHT" if int(row.speaker[1]) < 6 else "WRONG"] * 10))
        for row in a
    ]
    known = compare(a, b)
    unknown = compare([replace(r, speaker="") for r in a], [replace(r, speaker="") for r in b])
    assert known.a.groups == 10
    assert known.high - known.low > 2 * (unknown.high - unknown.low)
    assert "paired resamples of 10 speakers" in table(known, ("a", "b"))
    assert "paired resamples of 100 utterances" in table(unknown, ("a", "b"))


def test_the_list_shows_the_largest_differences_first_with_their_errors() -> None:
    a = [
        Row("u1", "s1", "THE CAT SAT", "THE CAT SAD"),
        Row("u2", "", "A DOG", "A DOG"),
        Row("u3", "", "ONE TWO THREE", "ON TO"),
    ]
    b = [
        replace(a[0], hypothesis="THE CAT SAT"),
        replace(a[1], hypothesis="A DOG"),
        replace(a[2], hypothesis="ONE TWO THREE"),
    ]
    got = compare(a, b)
    assert listing(got.differing).splitlines() == [
        "u3: A 3 errors, B 0 errors",
        "REF: ONE TWO THREE",
        "A:   ON TO",
        "     (ONE->ON) (TWO->TO) (THREE->*)",
        "B:   ONE TWO THREE",
        "",
        "u1, speaker s1: A 1 error, B 0 errors",
        "REF: THE CAT SAT",
        "A:   THE CAT SAD",
        "     (SAT->SAD)",
        "B:   THE CAT SAT",
    ]
    assert "2 utterances of 3 differ: B better in 2, A better in 0, as many errors in 0" in table(
        got, ("a", "b")
    )
    assert listing([]) == ""


def test_results_of_other_utterances_are_refused() -> None:
    a = rows(5, 0.3, seed=1)
    with pytest.raises(
        AsrError, match="not of the same utterances: 1 are in one only, such as u004"
    ):
        compare(a, a[:-1])
    with pytest.raises(AsrError, match="different references for 1, such as u002"):
        compare(a, [replace(r, reference="X") if r.id == "u002" else r for r in a])
    with pytest.raises(AsrError, match="nothing to compare"):
        compare([], [])


def test_files_are_compared(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", rows(60, 0.3, seed=1))
    write(tmp_path / "b.txt", rows(60, 0.2, seed=2))
    printed = compare_to(
        tmp_path / "a.txt", tmp_path / "b.txt", output=tmp_path / "all.txt", show=2
    )
    assert printed.startswith(f"A {tmp_path / 'a.txt'}: WER ")
    assert printed.count("REF: ") == 2
    written = (tmp_path / "all.txt").read_text()
    assert written.count("REF: ") == 60 - sum(
        x.hypothesis == y.hypothesis
        for x, y in zip(rows(60, 0.3, seed=1), rows(60, 0.2, seed=2), strict=True)
    )
    with pytest.raises(AsrError, match="both are results already"):
        compare_to(tmp_path / "a.txt", tmp_path / "b.txt", "test.jsonl")
    with pytest.raises(AsrError, match="both are results already"):
        compare_to(tmp_path / "a.txt", tmp_path / "b.txt", given={"decoder": "beam"})


def test_a_model_is_run_and_compared_with_a_file(tmp_path: Path) -> None:
    utterances = []
    for name, text in {"one": "FAD", "two": "BEAD"}.items():
        soundfile.write(tmp_path / f"{name}.wav", speak(text), RATE)
        utterances.append(Utterance(name, str(tmp_path / f"{name}.wav"), 1.0, text, ""))
    write_manifest(tmp_path / "test.jsonl", utterances)
    model = save_tone_model(tmp_path / "tone.asr")
    write(tmp_path / "other.txt", [Row(u.id, "", u.text, "A B") for u in utterances])
    printed = compare_to(model, tmp_path / "other.txt", str(tmp_path / "test.jsonl"))
    assert printed.splitlines()[0].startswith(f"A {model} (greedy): WER 0.00 %")
    assert "B - A: +200.00 points" in printed
    with pytest.raises(AsrError, match=r"tone\.asr: a model needs a manifest"):
        compare_to(model, tmp_path / "other.txt")
