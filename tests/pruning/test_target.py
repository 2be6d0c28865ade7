"""The corrected ramp has the same shape, never falls, and ends at its target."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.pruning.target import TargetThreshold
from asr.pruning.threshold_schedule import ThresholdRamp

RAMP = ThresholdRamp(1000, 5000, 10000, 100)


def test_constant_prediction_is_the_paper_s_ramp():
    corrected = TargetThreshold(RAMP)
    q = 0.2 / RAMP.final_height
    for step in RAMP.update_steps:
        assert corrected.raise_to(step, 0.2) == pytest.approx(RAMP.threshold(step, q), rel=1e-9)
    assert corrected.eps == 0.2
    assert corrected.effective_q == pytest.approx(q)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-3, 10), min_size=89, max_size=89), st.none() | st.floats(1e-3, 10))
def test_the_threshold_never_falls_and_never_exceeds_that_of_the_target(quantiles, q):
    corrected, before = TargetThreshold(RAMP, q), 0.0
    for step, quantile in zip(RAMP.update_steps, sorted(quantiles), strict=True):
        eps = corrected.raise_to(step, quantile)
        assert before <= eps <= quantile
        before = eps
    assert before == max(quantiles)


def test_growing_weights_are_followed_with_two_slopes():
    corrected, heights = TargetThreshold(RAMP), []
    for step in RAMP.update_steps:
        heights.append(corrected.raise_to(step, 0.1 + step * 1e-5))
    rises = torch.tensor(heights).diff()
    early, late = rises[:39].mean(), rises[39:].mean()
    assert 1.5 < late / early < 3.0
    assert heights[-1] == pytest.approx(0.1 + 9900e-5)


def test_weights_that_shrink_below_the_threshold_do_not_cost_the_target():
    corrected = TargetThreshold(RAMP)
    for step in RAMP.update_steps:
        eps = corrected.raise_to(step, 1.0 if step < 9000 else 0.3)
        assert eps <= (1.0 if step < 9000 else 0.3)
    assert eps == 0.3


def test_a_known_q_has_influence_at_first_and_none_at_the_end():
    free, known = TargetThreshold(RAMP), TargetThreshold(RAMP, q=1.0)
    assert known.raise_to(1100, 0.5) > 1.8 * free.raise_to(1100, 0.5)
    for step in RAMP.update_steps[1:]:
        known.raise_to(step, 0.5)
    assert known.eps == 0.5


def test_a_restored_state_continues_bit_for_bit():
    whole, stopped = TargetThreshold(RAMP), TargetThreshold(RAMP)
    for step in RAMP.update_steps[:40]:
        whole.raise_to(step, step / 7)
    stopped.load_state_dict(whole.state_dict())
    for step in RAMP.update_steps[40:]:
        assert whole.raise_to(step, step / 7) == stopped.raise_to(step, step / 7)
    with pytest.raises(AsrError, match="damaged"):
        stopped.load_state_dict({"eps": 1.0})
