"""Schedules of sparsities have the published values and refuse impossible ones."""

import json
import warnings

import pytest

from asr.errors import AsrError
from asr.pruning.schedule import FewUpdates, SparsitySchedule, schedule_from_plain
from asr.pruning.sparsity_schedules import Cubic, OneShot

CUBIC = Cubic(start=1000, end=5000, frequency=100, target=0.9)


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
        (OneShot(1, 0.9), 0, 0.0),
        (OneShot(1, 0.9), 1, 0.9),
        (OneShot(1, 0.9), 10**6, 0.9),
        (OneShot(300, 0.9), 299, 0.0),
        (OneShot(300, 0.9), 300, 0.9),
        (OneShot(300, 0.9), 301, 0.9),
    ],
)
def test_sparsity_at_a_step(schedule, step, expected):
    assert schedule.sparsity(step) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("initial", [0.0, 0.25])
def test_cubic_is_the_published_formula_at_every_update(initial):
    start, frequency, n, target = 70, 7, 40, 0.906
    schedule = Cubic(start, start + n * frequency, frequency, target, initial)
    assert schedule.mask_updates == n + 1
    for step in schedule.update_steps:
        published = target + (initial - target) * (1 - (step - start) / (n * frequency)) ** 3
        assert schedule.sparsity(step) == pytest.approx(published, abs=1e-15)


def test_last_update_is_at_the_target_even_when_the_window_is_not_a_multiple():
    schedule = Cubic(10, 145, 4, 0.9)
    assert schedule.update_steps[-1] == 142
    fractions = [schedule.sparsity(step) for step in schedule.update_steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 0.9
    assert fractions[-2] < 0.9


@pytest.mark.parametrize(
    ("schedule", "updates", "finished"),
    [
        (Cubic(1000, 5000, 100, 0.9), list(range(1000, 5001, 100)), 5000),
        (OneShot(1, 0.5), [1], 1),
        (OneShot(7, 0.5), [7], 7),
    ],
)
def test_updates_are_only_at_their_steps(schedule, updates, finished):
    assert list(schedule.update_steps) == updates
    assert [step for step in range(6000) if schedule.is_update(step)] == updates
    assert not schedule.is_finished(finished - 1)
    assert schedule.is_finished(finished)


@pytest.mark.parametrize(
    "schedule",
    [CUBIC, Cubic(0, 300, 10, 0.9, 0.2), OneShot(1, 0.5), OneShot(7, 0.5)],
    ids=lambda s: type(s).__name__,
)
def test_plain_values_make_an_equal_schedule(schedule):
    plain = json.loads(json.dumps(schedule.to_plain()))
    assert schedule_from_plain(plain) == schedule
    assert isinstance(schedule, SparsitySchedule)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Cubic.from_fractions(10000, 0.1, 0.5, 40, 0.9), Cubic(1000, 5000, 100, 0.9)),
        (lambda: Cubic.from_fractions(1000, 0.1, 0.5, 33, 0.8, 0.1), Cubic(100, 500, 12, 0.8, 0.1)),
        (lambda: OneShot.from_fractions(999, 0.25, 0.8), OneShot(250, 0.8)),
        (lambda: OneShot.from_fractions(999, 0.0, 0.8), OneShot(1, 0.8)),
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
        (lambda: Cubic(True, 5, 1, 0.9), "Cubic: start=True must be a whole number"),
        (lambda: Cubic(0, 50, 51, 0.9), "frequency=51 must be from 1 to end - start = 50"),
        (lambda: Cubic(0, 50, 0, 0.9), "frequency=0 must be from 1"),
        (
            lambda: Cubic(0, 50, 1, 90),
            r"Cubic: target=90: a fraction above 0 and below 1, such as 0\.9",
        ),
        (lambda: Cubic(0, 50, 1, float("nan")), "target=nan: a fraction"),
        (lambda: Cubic(0, 50, 1, True), "target=True: a fraction"),
        (lambda: Cubic(0, 50, 1, 0.5, 0.5), r"need 0 <= initial < target, got .*initial=0\.5"),
        (lambda: Cubic(0, 50, 1, 0.5, -0.1), "need 0 <= initial < target"),
        (lambda: OneShot(1, 1.0), r"OneShot: target=1\.0: a fraction"),
        (lambda: OneShot(1, "0.9"), "OneShot: target='0.9': a fraction"),
        (lambda: OneShot(0, 0.9), "OneShot: step=0: steps are counted from 1"),
        (lambda: OneShot(0.5, 0.9), r"OneShot: step=0\.5 must be a whole number"),
        (lambda: OneShot(10, 0), "OneShot: target=0: a fraction"),
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
        (
            lambda: Cubic.from_fractions(100, mask_updates=0),
            "mask_updates=0: a whole number",
        ),
        (lambda: Cubic.from_fractions(100, mask_updates=4.5), r"mask_updates=4\.5: a whole number"),
        (lambda: Cubic.from_fractions(100, "0.2"), "start='0.2': not a fraction of all steps"),
        (
            lambda: Cubic.from_fractions(100, end=float("nan")),
            "end=nan: not a fraction",
        ),
        (lambda: Cubic(0, 50, 1, 0.5, "0"), "need 0 <= initial < target"),
        (lambda: OneShot.from_fractions(100, 1.5), r"0 <= at <= 1, got at=1\.5"),
    ],
)
def test_impossible_values_are_refused(make, fragment):
    with pytest.raises(AsrError, match=fragment):
        make()


def test_few_updates_give_a_warning_with_a_sufficient_frequency():
    with pytest.warns(FewUpdates, match="Cubic: only 11 updates .* choose frequency=3 or less"):
        Cubic(0, 110, 10, 0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Cubic(0, 110, 3, 0.9).mask_updates >= 30
        OneShot(3, 0.9)
        OneShot(1, 0.9)
