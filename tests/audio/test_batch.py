"""Batches by length: everything once, longest first, within the limit."""

import doctest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asr.audio import batch
from asr.audio.batch import batch_by_length, split_by_length


def test_the_split_is_greedy_at_longest_times_count():
    durations = np.array([4.0, 3.0, 3.0, 2.0, 1.0])
    assert split_by_length(durations, 8.0).tolist() == [0, 2, 4, 5]
    assert split_by_length(np.array([]), 8.0).tolist() == [0]


def test_a_split_for_longer_utterances_takes_none_for_longer_than_the_first():
    durations = np.array([4.0, 3.9, 3.0, 3.0, 3.0])
    assert split_by_length(durations, 9.0).tolist() == [0, 2, 5]
    assert split_by_length(durations, 9.0, longer=0.1).tolist() == [0, 2, 4, 5]


def test_batches_hold_everything_longest_first():
    assert batch_by_length(np.array([1.0, 5.0, 2.0, 2.0]), 5.0) == [[1], [2, 3], [0]]


@given(st.lists(st.floats(0.0, 30.0), max_size=60), st.floats(1.0, 100.0))
def test_no_batch_costs_more_than_the_limit_but_a_single_utterance(durations, limit):
    batches = batch_by_length(np.array(durations), limit)
    assert sorted(i for indices in batches for i in indices) == list(range(len(durations)))
    for indices in batches:
        longest = max(durations[i] for i in indices)
        assert len(indices) == 1 or longest * len(indices) <= limit * (1 + 1e-5)


def test_the_example_runs():
    assert doctest.testmod(batch).failed == 0
