"""Scores against jiwer, intervals against their definition."""

import random
import time

import jiwer
import numpy as np
import pytest

from asr.errors import AsrError
from asr.evaluate.wer import Errors, Row, score, speakers_of


def random_texts(count: int, seed: int = 5) -> tuple[list[str], list[str]]:
    """References, and hypotheses with about 30 % of words changed; some of both are empty."""
    draw, words = random.Random(seed), "ONE TWO THREE FOUR FIVE SIX SEVEN".split()  # noqa: SIM905
    references, hypotheses = [], []
    for _ in range(count):
        reference = draw.choices(words, k=draw.randrange(0, 12))
        found = []
        for word in reference:
            found += draw.choice([[word]] * 7 + [[], [draw.choice(words)], [word, "OH"]])
        references.append(" ".join(reference))
        hypotheses.append(" ".join(found or draw.choices(words, k=draw.randrange(0, 2))))
    return references, hypotheses


def test_rates_and_parts_are_those_of_jiwer() -> None:
    references, hypotheses = random_texts(200)
    got, expected = score(references, hypotheses), jiwer.process_words(references, hypotheses)
    assert 0.1 < got.wer < 0.6
    assert got.wer == jiwer.wer(references, hypotheses)
    assert got.cer == jiwer.cer(references, hypotheses)
    assert (got.insertions, got.deletions, got.substitutions) == (
        expected.insertions,
        expected.deletions,
        expected.substitutions,
    )
    assert got.words == sum(len(r.split()) for r in references)
    assert got.wer == (got.insertions + got.deletions + got.substitutions) / got.words


def test_counts_of_an_utterance_do_not_depend_on_the_others() -> None:
    references, hypotheses = random_texts(60)
    for row, reference, found in zip(
        score(references, hypotheses).per_utterance, references, hypotheses, strict=True
    ):
        alone = jiwer.process_words(reference, found)
        assert row == Errors(
            len(reference.split()), alone.substitutions, alone.deletions, alone.insertions
        )


def test_exact_counts_of_a_small_set() -> None:
    got = score(["A B C D", "", "E"], ["A X C", "F G", "E"])
    assert (got.utterances, got.words) == (3, 5)
    assert got.per_utterance == (Errors(4, 1, 1, 0), Errors(0, 0, 0, 2), Errors(1, 0, 0, 0))
    assert got.wer == 4 / 5
    plain = got.to_plain()
    assert plain.pop("wer_low") <= 0.8 <= plain.pop("wer_high")
    assert plain.pop("cer") == jiwer.cer(["A B C D", "", "E"], ["A X C", "F G", "E"])
    assert plain == {
        "wer": 0.8,
        "utterances": 3,
        "words": 5,
        "insertions": 2,
        "deletions": 1,
        "substitutions": 1,
    }
    assert str(got).endswith(
        "1 substitution, 1 deletion, 2 insertions in 5 words of 3 utterances"
    ), got


def test_words_found_in_silence_are_insertions() -> None:
    got = score(["", ""], ["A B", ""])
    assert (got.words, got.insertions) == (0, 2)
    assert got.wer == jiwer.wer(["", ""], ["A B", ""]) == 2.0


def test_interval_is_the_bootstrap_of_a_plain_loop() -> None:
    references, hypotheses = random_texts(40)
    got = score(references, hypotheses, seed=7, resamples=300)
    rates = []
    for chosen in np.random.default_rng(7).integers(40, size=(300, 40)):
        rows = [got.per_utterance[i] for i in chosen]
        rates.append(sum(e.total for e in rows) / sum(e.words for e in rows))
    assert got.wer_low == pytest.approx(np.quantile(rates, 0.025), abs=1e-12)
    assert got.wer_high == pytest.approx(np.quantile(rates, 0.975), abs=1e-12)
    assert got.wer_low < got.wer < got.wer_high


def test_interval_has_the_coverage_of_theory_and_is_reproducible() -> None:
    # 400 one-word utterances of which 100 are wrong: a binomial fraction, sd 0.0217.
    references, hypotheses = ["A"] * 400, ["B"] * 100 + ["A"] * 300
    got = score(references, hypotheses)
    assert got.wer_low == pytest.approx(0.25 - 1.96 * 0.02165, abs=0.006)
    assert got.wer_high == pytest.approx(0.25 + 1.96 * 0.02165, abs=0.006)
    assert score(references, hypotheses) == got
    other = score(references, hypotheses, seed=2)
    assert (other.wer_low, other.wer_high) != (got.wer_low, got.wer_high)


def test_resampling_speakers_widens_the_interval_if_errors_depend_on_the_speaker() -> None:
    references = ["A"] * 400
    hypotheses = (["B"] * 10 + ["A"] * 10) * 10 + ["A"] * 200
    speakers = [f"speaker {i // 10}" for i in range(400)]
    alone, grouped = score(references, hypotheses), score(references, hypotheses, speakers)
    assert grouped.wer == alone.wer == 0.25
    assert grouped.wer_high - grouped.wer_low > 2 * (alone.wer_high - alone.wer_low)


def test_no_errors_give_an_interval_of_zero_width() -> None:
    got = score(["A B"] * 5, ["A B"] * 5)
    assert (got.wer, got.wer_low, got.wer_high, got.cer) == (0.0, 0.0, 0.0, 0.0)


def test_thousands_of_utterances_are_scored_in_a_moment() -> None:
    references, hypotheses = random_texts(3000)
    started = time.perf_counter()
    score(references, hypotheses)
    assert time.perf_counter() - started < 5


def test_no_utterances_and_a_single_speaker_are_refused() -> None:
    with pytest.raises(AsrError, match="no utterances"):
        score([], [])
    with pytest.raises(AsrError, match="needs at least two"):
        score(["A", "B"], ["A", "B"], ["same", "same"])


def test_speakers_are_drawn_over_only_if_all_are_known_and_they_are_five() -> None:
    rows = [Row(f"u{i}", f"s{i % 5}", "A", "A") for i in range(10)]
    assert speakers_of(rows) == [row.speaker for row in rows]
    assert speakers_of([*rows, Row("u", "", "A", "A")]) is None
    assert speakers_of([row for row in rows if row.speaker != "s0"]) is None
