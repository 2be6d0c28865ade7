"""Schedules of shares give the published figures, and refuse what cannot be meant."""

import json
import warnings

import pytest

from asr.errors import AsrError
from asr.pruning.schedule import FewUpdates, SparsitySchedule, schedule_from_plain
from asr.pruning.sparsity_schedules import Constant, Cubic, Linear, OneCut

CUBIC = Cubic(start=1000, end=5000, frequency=100, final=0.9)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        (CUBIC, 999, 0.0),
        (CUBIC, 1000, 0.0),
        (CUBIC, 2000, 0.9 * (1 - 0.75**3)),
        (CUBIC, 3000, 0.7875),
        (CUBIC, 4900, 0.9 * (1 - 0.025**3)),
        (CUBIC, 5000, 0.9),
        (CUBIC, 9999, 0.9),
        (Cubic(1000, 5000, 100, 0.9, 0.5), 999, 0.0),
        (Cubic(1000, 5000, 100, 0.9, 0.5), 1000, 0.5),
        (Cubic(1000, 5000, 100, 0.9, 0.5), 3000, 0.85),
        (Cubic(0, 4050, 100, 0.8), 4000, 0.8),
        (Cubic(0, 4050, 100, 0.8), 2000, 0.7),
        (Linear(1000, 5000, 100, 0.9), 1000, 0.0),
        (Linear(1000, 5000, 100, 0.9), 2000, 0.225),
        (Linear(1000, 5000, 100, 0.9, 0.1), 3000, 0.5),
        (Linear(1000, 5000, 100, 0.9), 5000, 0.9),
        (Constant(0.9), 0, 0.0),
        (Constant(0.9), 1, 0.9),
        (Constant(0.9), 10**6, 0.9),
        (OneCut(300, 0.9), 299, 0.0),
        (OneCut(300, 0.9), 300, 0.9),
        (OneCut(300, 0.9), 301, 0.9),
    ],
)
def test_share_at_a_step(schedule, step, expected):
    assert schedule.sparsity(step) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("initial", [0.0, 0.25])
def test_cubic_is_the_published_formula_at_every_update(initial):
    start, frequency, n, final = 70, 7, 40, 0.906
    schedule = Cubic(start, start + n * frequency, frequency, final, initial)
    assert schedule.updates == n + 1
    for step in schedule.update_steps:
        published = final + (initial - final) * (1 - (step - start) / (n * frequency)) ** 3
        assert schedule.sparsity(step) == pytest.approx(published, abs=1e-15)


@pytest.mark.parametrize("kind", [Cubic, Linear])
def test_last_update_is_at_the_final_share_even_when_the_window_is_no_multiple(kind):
    schedule = kind(10, 145, 4, 0.9)
    assert schedule.update_steps[-1] == 142
    shares = [schedule.sparsity(step) for step in schedule.update_steps]
    assert shares == sorted(shares)
    assert shares[-1] == 0.9
    assert shares[-2] < 0.9


@pytest.mark.parametrize(
    ("schedule", "updates", "finished"),
    [
        (Cubic(1000, 5000, 100, 0.9), list(range(1000, 5001, 100)), 5000),
        (Linear(0, 300, 10, 0.9), list(range(10, 301, 10)), 300),
        (Constant(0.5), [1], 1),
        (OneCut(7, 0.5), [7], 7),
    ],
)
def test_updates_come_at_their_steps_alone(schedule, updates, finished):
    assert list(schedule.update_steps) == updates
    assert [step for step in range(6000) if schedule.is_update(step)] == updates
    assert not schedule.is_finished(finished - 1)
    assert schedule.is_finished(finished)


@pytest.mark.parametrize(
    "schedule",
    [CUBIC, Linear(0, 300, 10, 0.9, 0.2), Constant(0.5), OneCut(7, 0.5)],
    ids=lambda s: type(s).__name__,
)
def test_plain_values_make_an_equal_schedule(schedule):
    plain = json.loads(json.dumps(schedule.to_plain()))
    assert schedule_from_plain(plain) == schedule
    assert isinstance(schedule, SparsitySchedule)
    assert schedule.with_final(0.25).final == 0.25


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Cubic.from_fractions(10000, 0.1, 0.5, 40, 0.9), Cubic(1000, 5000, 100, 0.9)),
        (lambda: Cubic.from_fractions(1000, 0.1, 0.5, 33, 0.8, 0.1), Cubic(100, 500, 12, 0.8, 0.1)),
        (lambda: Linear.from_fractions(400, final=0.8), Linear(100, 280, 4, 0.8)),
        (lambda: OneCut.from_fractions(999, 0.25, 0.8), OneCut(250, 0.8)),
        (lambda: OneCut.from_fractions(999, 0.0, 0.8), OneCut(1, 0.8)),
    ],
)
def test_fractions_of_all_steps(make, expected):
    assert make() == expected


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: Cubic(5, 5, 1, 0.9), "Cubic: need 0 <= start < end, got start=5, end=5"),
        (lambda: Cubic(-1, 5, 1, 0.9), "need 0 <= start < end, got start=-1"),
        (lambda: Cubic(0.1, 0.5, 1, 0.9), r"start=0\.1 must be a whole number of optimiser steps"),
        (lambda: Linear(True, 5, 1, 0.9), "Linear: start=True must be a whole number"),
        (lambda: Cubic(0, 50, 51, 0.9), "frequency=51 must be from 1 to end - start = 50"),
        (lambda: Cubic(0, 50, 0, 0.9), "frequency=0 must be from 1"),
        (
            lambda: Cubic(0, 50, 1, 90),
            r"Cubic: final=90: a share above 0 and below 1, such as 0\.9",
        ),
        (lambda: Cubic(0, 50, 1, float("nan")), "final=nan: a share"),
        (lambda: Cubic(0, 50, 1, True), "final=True: a share"),
        (lambda: Linear(0, 50, 1, 0.5, 0.5), r"need 0 <= initial < final, got .*initial=0\.5"),
        (lambda: Cubic(0, 50, 1, 0.5, -0.1), "need 0 <= initial < final"),
        (lambda: Constant(1.0), r"Constant: final=1\.0: a share"),
        (lambda: Constant("0.9"), "Constant: final='0.9': a share"),
        (lambda: OneCut(0, 0.9), "OneCut: step=0: steps are counted from 1"),
        (lambda: OneCut(0.5, 0.9), r"OneCut: step=0\.5 must be a whole number"),
        (lambda: OneCut(10, 0), "OneCut: final=0: a share"),
        (
            lambda: Cubic.from_fractions(100, 0.5, 0.5),
            r"0 <= start < end <= 1, got start=0\.5, end",
        ),
        (lambda: Cubic.from_fractions(100, 10, 50), "0 <= start < end <= 1, got start=10"),
        (lambda: Cubic.from_fractions(100.0), r"total_steps=100\.0: the number of all optimiser"),
        (
            lambda: Cubic.from_fractions(100, 0.1, 0.3, 40),
            "40 updates do not fit: of 100 .* only 20",
        ),
        (lambda: Cubic.from_fractions(100, updates=0), "updates=0: a whole number, at least 1"),
        (lambda: Cubic.from_fractions(100, updates=4.5), r"updates=4\.5: a whole number"),
        (lambda: Cubic.from_fractions(100, "0.2"), "start='0.2': no share of all steps"),
        (lambda: Linear.from_fractions(100, end=float("nan")), "end=nan: no share of all steps"),
        (lambda: Cubic(0, 50, 1, 0.5, "0"), "need 0 <= initial < final"),
        (lambda: OneCut.from_fractions(100, 1.5), r"0 <= cut <= 1, got cut=1\.5"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, fragment):
    with pytest.raises(AsrError, match=fragment):
        make()


def test_few_updates_are_warned_of_with_a_frequency_that_is_enough():
    with pytest.warns(FewUpdates, match="Cubic: only 11 updates .* choose frequency=3 or less"):
        schedule = Cubic(0, 110, 10, 0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Cubic(0, 110, 3, 0.9).updates >= 30
        assert schedule.with_final(0.5).final == 0.5
        OneCut(3, 0.9)
        Constant(0.9)
