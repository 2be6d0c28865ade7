"""The threshold ramp has the values of the paper's algorithm, and refuses mixed units."""

import json
import warnings

import pytest

from asr.errors import AsrError
from asr.pruning.schedule import (
    FewUpdates,
    FixedMask,
    Schedule,
    ThresholdSchedule,
    options_of,
    schedule_from_fractions,
    schedule_from_plain,
)
from asr.pruning.sparsity_schedules import Cubic, OneShot
from asr.pruning.threshold_schedule import ThresholdRamp

# 1,000 batches an epoch, 20 epochs, Table 1's heuristics.
PAPER = ThresholdRamp(start=1000, ramp=5000, end=10000, frequency=100, slope_ratio=1.5)


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
    assert PAPER.mask_updates == len(PAPER.update_steps) == 89
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
    assert short.mask_updates == 3
    assert short.final_height == pytest.approx(0.67, abs=0.01)


def test_frequency_10_brings_the_short_run_to_34_updates():
    ramp = ThresholdRamp.from_epochs(steps_per_epoch=50, epochs=16, frequency=10)
    assert (ramp.start, ramp.ramp, ramp.end, ramp.mask_updates) == (50, 200, 400, 34)
    assert ramp.final_height == pytest.approx(0.972, abs=5e-4)


def test_from_epochs_is_the_paper_example():
    assert ThresholdRamp.from_epochs(1000, 20) == PAPER


@pytest.mark.parametrize("epochs", [1, 4, 7])
def test_too_few_epochs_for_the_heuristics_are_refused_with_numbers(epochs):
    with pytest.raises(AsrError, match=f"at least 8 epochs: with {epochs}, .*ramp at epoch"):
        ThresholdRamp.from_epochs(1000, epochs)


@pytest.mark.parametrize(
    ("total", "updates"), [(100, 40), (137, 40), (1000, 40), (1003, 44), (87654, 300), (94, 41)]
)
def test_from_fractions_has_at_least_the_updates_asked_for_and_no_finer_than_needed(total, updates):
    ramp = ThresholdRamp.from_fractions(total, 0.25, 0.40, 0.70, updates)
    assert (ramp.start, ramp.ramp, ramp.end) == tuple(round(total * f) for f in (0.25, 0.40, 0.70))
    assert ramp.mask_updates >= updates
    coarser = ramp.frequency + 1
    assert (ramp.end - 1) // coarser - ramp.start // coarser < updates


def test_from_fractions_refuses_a_window_too_short_for_its_updates():
    with pytest.raises(AsrError, match=r"40 updates do not fit.*only 26 .*step 15.*step 42"):
        ThresholdRamp.from_fractions(60, 0.25, 0.40, 0.70, mask_updates=40)


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
        ({"slope_ratio": 0.0}, r"slope_ratio=0.0 must be above 0"),
        ({"slope_ratio": float("nan")}, r"slope_ratio=nan must be above 0"),
        ({"slope_ratio": "1.5"}, r"slope_ratio='1.5' must be above 0"),
        ({"target": 90}, r"ThresholdRamp: target=90: a fraction above 0 and below 1, such as 0\.9"),
    ],
)
def test_bad_ramp_is_refused_with_its_numbers(arguments, fragment):
    good = {"start": 1000, "ramp": 5000, "end": 10000, "frequency": 100}
    with pytest.raises(AsrError, match=fragment):
        ThresholdRamp(**{**good, **arguments})


@pytest.mark.parametrize("fractions", [(0.4, 0.25, 0.7), (0.25, 0.4, 1.1), (25, 40, 70)])
def test_from_fractions_refuses_what_are_not_ordered_fractions(fractions):
    with pytest.raises(AsrError, match="fractions 0 <= start < ramp < end <= 1"):
        ThresholdRamp.from_fractions(1000, *fractions)


@pytest.mark.parametrize("frequency", [1, 10, 100, 160])
def test_frequency_cancels_so_its_unit_cannot_change_the_threshold(frequency):
    """Both slopes are in the same unit: equation (1) and Algorithm 1 sparsity one frequency."""
    other = ThresholdRamp(1000, 5000, 10000, frequency)
    for step in (1600, 4800, 8000):
        assert other.threshold(step, 0.1) == pytest.approx(PAPER.threshold(step, 0.1), rel=1e-12)


@pytest.mark.parametrize(
    "schedule", [PAPER, ThresholdRamp(0, 40, 91, 3, 2.0 / 3, 0.8), FixedMask()]
)
def test_round_trip_through_plain_values(schedule):
    plain = json.loads(json.dumps(schedule.to_plain()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewUpdates)
        assert schedule_from_plain(plain) == schedule


def test_unknown_schedule_and_field_are_refused():
    with pytest.raises(AsrError, match="unknown pruning method 'cube'; there are fixed_mask, "):
        schedule_from_plain({"method": "cube"})
    with pytest.raises(AsrError, match="fixed_mask has no field start"):
        schedule_from_plain({"method": "fixed_mask", "start": 3})


def test_fixed_mask_never_updates_and_has_no_threshold():
    assert not any(FixedMask().is_update(step) for step in range(1000))
    assert FixedMask().is_finished(0)
    assert isinstance(FixedMask(), Schedule)
    assert not isinstance(FixedMask(), ThresholdSchedule)
    assert isinstance(PAPER, ThresholdSchedule)


def test_a_method_takes_its_own_of_the_options_for_all():
    options = {"start": 0.1, "ramp": 0.3, "end": 0.6, "mask_updates": 40, "at": 0.5, "target": 0.9}
    assert options_of("cubic") == ["start", "end", "mask_updates", "target", "initial"]
    assert options_of("fixed_mask") == []
    made = [schedule_from_fractions(m, 1000, options) for m in ("cubic", "one_shot", "fixed_mask")]
    assert made == [Cubic(100, 600, 12, 0.9), OneShot(500, 0.9), FixedMask()]
    ramp = schedule_from_fractions("threshold_ramp", 1000, options)
    assert ramp == ThresholdRamp(100, 300, 600, 12, target=0.9)
    with pytest.raises(AsrError, match="unknown pruning method 'cube'; there are "):
        schedule_from_fractions("cube", 1000, options)
