"""The threshold ramp gives the figures of the paper's algorithm, and refuses units mixed up."""

import json
import warnings

import pytest

from asr.errors import AsrError
from asr.pruning.schedule import (
    FewUpdates,
    Frozen,
    Schedule,
    ThresholdSchedule,
    schedule_from_plain,
)
from asr.pruning.threshold_schedule import ThresholdRamp

# 1,000 batches an epoch, 20 epochs, Table 1's heuristics.
PAPER = ThresholdRamp(start=1000, ramp=5000, end=10000, frequency=100, ratio=1.5)


def test_slopes_follow_equation_1():
    assert PAPER.theta(0.1) == pytest.approx(8.69565e-4, rel=1e-6)
    assert PAPER.phi(0.1) == pytest.approx(1.304348e-3, rel=1e-6)


@pytest.mark.parametrize(
    ("ratio", "step", "eps", "digit"),
    [
        (1.5, 1100, 8.78261e-4, 1e-9),
        (1.5, 4900, 0.0339217, 1e-7),
        (1.5, 5000, 0.0348043, 1e-7),
        (1.5, 9900, 0.0987174, 1e-7),
        (1.5, 10000, 0.1000217, 1e-7),
        (2.0, 9900, 0.120026, 1e-6),
        (2.0, 10000, 0.12177, 1e-5),
    ],
)
def test_threshold_equals_the_worked_example(ratio, step, eps, digit):
    ramp = ThresholdRamp(1000, 5000, 10000, 100, ratio)
    assert ramp.threshold(step, q=0.1) == pytest.approx(eps, abs=0.51 * digit)
    assert ramp.relative_threshold(step) == pytest.approx(eps / 0.1, abs=5.1 * digit)


def test_threshold_is_algorithm_1_line_by_line():
    ramp, q = ThresholdRamp(37, 90, 205, 5, 1.7), 0.031
    theta = 2 * q * 5 / (2 * (90 - 37) + 3 * (205 - 90))
    phi = 1.7 * theta
    updates = []
    for current in range(300):
        if 37 < current < 205 and current % 5 == 0:
            if current < 90:
                eps = theta * (current - 37 + 1) / 5
            else:
                eps = (theta * (90 - 37 + 1) + phi * (current - 90 + 1)) / 5
            assert ramp.threshold(current, q) == pytest.approx(eps, rel=1e-12)
            updates.append(current)
    assert list(ramp.update_steps) == updates == [s for s in range(300) if ramp.is_update(s)]


def test_updates_exclude_start_and_end():
    assert PAPER.updates == len(PAPER.update_steps) == 89
    assert PAPER.update_steps[0] == 1100
    assert PAPER.update_steps[-1] == 9900
    assert not PAPER.is_update(1000)
    assert not PAPER.is_update(10000)
    assert not PAPER.is_update(1150)
    assert not PAPER.is_finished(9899)
    assert PAPER.is_finished(9900)


@pytest.mark.parametrize("step", [0, 500, 1000])
def test_threshold_is_zero_up_to_start(step):
    assert PAPER.threshold(step, 0.1) == 0.0


@pytest.mark.parametrize(("ratio", "final"), [(1.5, 1.0 + 5 / 23000), (2.0, 1.2177), (1.75, 1.109)])
def test_formal_end_over_q_follows_from_the_ratio(ratio, final):
    ramp = ThresholdRamp(1000, 5000, 10000, 100, ratio)
    assert ramp.relative_threshold(10000) == pytest.approx(final, abs=1e-3)


def test_short_run_warns_that_three_updates_stop_at_two_thirds_of_q():
    with pytest.warns(FewUpdates, match=r"only 3 updates .*stops at 0\.67\d q; .*frequency=11"):
        short = ThresholdRamp.from_epochs(steps_per_epoch=50, epochs=16, frequency=100)
    assert short.updates == 3
    assert short.final == pytest.approx(0.67, abs=0.01)


def test_frequency_10_brings_the_short_run_to_34_updates():
    ramp = ThresholdRamp.from_epochs(steps_per_epoch=50, epochs=16, frequency=10)
    assert (ramp.start, ramp.ramp, ramp.end, ramp.updates) == (50, 200, 400, 34)
    assert ramp.final == pytest.approx(0.972, abs=5e-4)


def test_from_epochs_is_the_paper_example():
    assert ThresholdRamp.from_epochs(1000, 20) == PAPER


@pytest.mark.parametrize("epochs", [1, 4, 7])
def test_too_few_epochs_for_the_heuristics_are_refused_with_numbers(epochs):
    with pytest.raises(AsrError, match=f"at least 8 epochs: with {epochs}, .*ramp at epoch"):
        ThresholdRamp.from_epochs(1000, epochs)


@pytest.mark.parametrize(
    ("total", "updates"), [(100, 40), (137, 40), (1000, 40), (1003, 44), (87654, 300), (94, 41)]
)
def test_from_fractions_has_at_least_the_wanted_updates_and_no_finer_than_needed(total, updates):
    ramp = ThresholdRamp.from_fractions(total, 0.25, 0.40, 0.70, updates)
    assert (ramp.start, ramp.ramp, ramp.end) == tuple(round(total * f) for f in (0.25, 0.40, 0.70))
    assert ramp.updates >= updates
    coarser = ramp.frequency + 1
    assert (ramp.end - 1) // coarser - ramp.start // coarser < updates


def test_from_fractions_refuses_a_window_too_short_for_its_updates():
    with pytest.raises(AsrError, match=r"40 updates do not fit.*only 26 .*step 15.*step 42"):
        ThresholdRamp.from_fractions(60, 0.25, 0.40, 0.70, updates=40)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"start": 5000}, r"start < ramp < end, got start=5000, ramp=5000, end=10000"),
        ({"end": 5000}, r"start < ramp < end, got start=1000, ramp=5000, end=5000"),
        ({"start": -1}, r"0 <= start"),
        ({"frequency": 0}, r"frequency=0 gives no update"),
        ({"frequency": -100}, r"frequency=-100 gives no update"),
        # Frequency or window in another unit than optimiser steps.
        ({"start": 0.25, "ramp": 0.4, "end": 0.7}, r"start=0.25 must be a whole number of opt"),
        ({"frequency": 0.5}, r"frequency=0.5 must be a whole number"),
        ({"frequency": True}, r"frequency=True must be a whole number"),
        ({"start": 1, "ramp": 5, "end": 10}, r"frequency=100 gives no update between start and"),
        ({"frequency": 100_000}, r"frequency=100000 gives no update"),
        ({"ratio": 0.0}, r"ratio=0.0 must be above 0"),
        ({"ratio": float("nan")}, r"ratio=nan must be above 0"),
        ({"ratio": "1.5"}, r"ratio='1.5' must be above 0"),
    ],
)
def test_bad_ramp_is_refused_with_its_numbers(arguments, fragment):
    good = {"start": 1000, "ramp": 5000, "end": 10000, "frequency": 100}
    with pytest.raises(AsrError, match=fragment):
        ThresholdRamp(**{**good, **arguments})


@pytest.mark.parametrize("shares", [(0.4, 0.25, 0.7), (0.25, 0.4, 1.1), (25, 40, 70)])
def test_from_fractions_refuses_what_are_not_ordered_shares(shares):
    with pytest.raises(AsrError, match="shares 0 <= start < ramp < end <= 1"):
        ThresholdRamp.from_fractions(1000, *shares)


@pytest.mark.parametrize("frequency", [1, 10, 100, 160])
def test_frequency_cancels_so_its_unit_cannot_change_the_threshold(frequency):
    """Both units traps of the slopes: equation (1) and Algorithm 1 share one frequency."""
    other = ThresholdRamp(1000, 5000, 10000, frequency)
    for step in (1600, 4800, 8000):
        assert other.threshold(step, 0.1) == pytest.approx(PAPER.threshold(step, 0.1), rel=1e-12)


@pytest.mark.parametrize("schedule", [PAPER, ThresholdRamp(0, 40, 91, 3, 2.0 / 3), Frozen()])
def test_round_trip_through_plain_values(schedule):
    plain = json.loads(json.dumps(schedule.to_plain()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewUpdates)
        assert schedule_from_plain(plain) == schedule


def test_unknown_schedule_and_field_are_refused():
    with pytest.raises(AsrError, match="unknown pruning schedule 'Cube'; there are Frozen, "):
        schedule_from_plain({"kind": "Cube"})
    with pytest.raises(AsrError, match="Frozen has no field start"):
        schedule_from_plain({"kind": "Frozen", "start": 3})


def test_frozen_never_updates_and_has_no_threshold():
    assert not any(Frozen().is_update(step) for step in range(1000))
    assert Frozen().is_finished(0)
    assert isinstance(Frozen(), Schedule)
    assert not isinstance(Frozen(), ThresholdSchedule)
    assert isinstance(PAPER, ThresholdSchedule)
