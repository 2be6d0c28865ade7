"""The batch plan: no utterance lost, limits, equal counts, direct start at any batch."""

import hashlib
import json
import time
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.train.batches import Batch, BatchPlan, collate

DURATIONS = np.random.default_rng(0).uniform(1.0, 16.0, 3000).astype(np.float32)
LIMIT = 120.0


def indices(plan: BatchPlan) -> list[list[int]]:
    return [[index for _, index in batch] for batch in plan]


@settings(max_examples=60, deadline=None)
@given(
    durations=st.lists(st.floats(0.0, 30.0), min_size=1, max_size=80),
    limit=st.floats(30.0, 100.0),
    epoch=st.integers(0, 5),
)
def test_every_utterance_comes_once_and_no_batch_is_above_the_limit(durations, limit, epoch):
    plan = BatchPlan(np.array(durations), limit, seed=1, epoch=epoch)
    batches = indices(plan)
    assert sorted(chain(*batches)) == list(range(len(durations)))
    assert len(batches) == len(plan)
    for batch in batches:
        assert max(durations[i] for i in batch) * len(batch) <= limit * (1 + 1e-6)


def test_the_epoch_travels_with_every_index():
    assert {epoch for batch in BatchPlan(DURATIONS, LIMIT, 1, 7) for epoch, _ in batch} == {7}


def test_the_count_is_the_same_in_every_epoch_and_on_every_rank():
    counts = {
        len(indices(BatchPlan(DURATIONS, LIMIT, 1, epoch, rank, 3)))
        for epoch in range(5)
        for rank in range(3)
    }
    assert counts == {len(BatchPlan(DURATIONS, LIMIT, 1, 0)) // 3}


def test_ranks_split_an_epoch_without_overlap_and_drop_less_than_a_batch_each():
    whole = indices(BatchPlan(DURATIONS, LIMIT, 1, 2))
    ranks = [indices(BatchPlan(DURATIONS, LIMIT, 1, 2, rank, 4)) for rank in range(4)]
    seen = [index for rank in ranks for batch in rank for index in batch]
    assert len(seen) == len(set(seen))
    kept = len(whole) // 4 * 4
    assert 0 < len(whole) - kept < 4  # otherwise this test is empty
    assert [ranks[i % 4][i // 4] for i in range(kept)] == whole[:kept]


def test_the_utterances_dropped_for_equal_counts_differ_between_epochs():
    def dropped(epoch):
        ranks = [BatchPlan(DURATIONS, LIMIT, 1, epoch, rank, 4) for rank in range(4)]
        kept = [index for rank in ranks for batch in rank for _, index in batch]
        return frozenset(range(len(DURATIONS))) - frozenset(kept)

    assert len({dropped(epoch) for epoch in range(4)}) == 4


def test_only_batches_and_their_order_differ_between_epochs_and_seeds():
    first = indices(BatchPlan(DURATIONS, LIMIT, 1, 0))
    assert first == indices(BatchPlan(DURATIONS, LIMIT, 1, 0))
    for other in (BatchPlan(DURATIONS, LIMIT, 1, 1), BatchPlan(DURATIONS, LIMIT, 2, 0)):
        same = {frozenset(b) for b in first} & {frozenset(b) for b in indices(other)}
        assert len(same) < 0.02 * len(first)


def test_long_and_short_batches_are_mixed():
    longest = np.array(
        [DURATIONS[batch].max() for batch in indices(BatchPlan(DURATIONS, LIMIT, 1, 0))]
    )
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.2


def test_little_is_padding_and_batches_are_nearly_full():
    batches = indices(BatchPlan(DURATIONS, LIMIT, 1, 0))
    padded = sum(DURATIONS[batch].max() * len(batch) for batch in batches)
    assert DURATIONS.sum() / padded > 0.93
    assert padded / (len(batches) * LIMIT) > 0.88


@pytest.mark.parametrize("start", [0, 1, 17])
def test_a_start_in_the_middle_continues_the_same_plan_and_counts_the_whole_epoch(start):
    whole = BatchPlan(DURATIONS, LIMIT, 1, 3, 1, 2)
    resumed = BatchPlan(DURATIONS, LIMIT, 1, 3, 1, 2, start=start)
    assert indices(resumed) == indices(whole)[start:]
    assert len(resumed) == len(whole)


def test_an_utterance_above_the_limit_gets_its_own_batch():
    batches = indices(BatchPlan(np.array([50.0, 1.0, 1.0]), 10.0, 1, 0))
    assert sorted(map(sorted, batches)) == [[0], [1, 2]]


def test_largest_is_the_batch_with_the_most_seconds_padding_included():
    plan = BatchPlan(DURATIONS, LIMIT, 1, 0)
    cost = lambda batch: DURATIONS[batch].max() * len(batch)  # noqa: E731
    largest = [index for _, index in plan.largest()]
    assert largest in indices(plan)
    assert cost(largest) == max(cost(batch) for batch in indices(plan))


def test_960_hours_are_planned_in_under_a_second():
    durations = np.random.default_rng(0).uniform(1.0, 17.0, 281_000).astype(np.float32)
    before = time.process_time()
    batches = list(BatchPlan(durations, 400.0, 1, 0))
    assert time.process_time() - before < 1.0
    assert sum(map(len, batches)) == 281_000


def test_the_order_is_that_of_earlier_versions():
    """A run that was started by one goes on with the batches that it has not seen."""
    digest = hashlib.sha256()
    for epoch, rank, world in ((0, 0, 1), (3, 1, 2), (7, 2, 3)):
        plan = BatchPlan(DURATIONS, LIMIT, 11, epoch, rank, world)
        digest.update(json.dumps([indices(plan), plan.largest()]).encode())
    assert digest.hexdigest()[:16] == "673af0fba4c6aed5"


def test_collate_pads_with_zeros_and_preserves_lengths_and_order():
    batch = collate([("a", torch.ones(3, 2), [5, 6], 0.5), ("b", torch.ones(5, 2), [7], 0.75)])
    assert batch.ids == ["a", "b"]
    assert batch.seconds == 1.25
    assert batch.features.shape == (2, 5, 2)
    assert batch.features.sum() == 16
    assert not batch.features[0, 3:].any()
    assert batch.feature_lengths.tolist() == [3, 5]
    assert batch.targets.tolist() == [[5, 6], [7, 0]]
    assert batch.targets.dtype == batch.target_lengths.dtype == torch.int64
    assert batch.target_lengths.tolist() == [2, 1]


def test_a_batch_moves_to_a_device_by_itself_and_by_lightning():
    from lightning.fabric.utilities import move_data_to_device

    batch = collate([("a", torch.ones(3, 2), [5, 6], 0.5)])
    for moved in (batch.to("meta"), move_data_to_device(batch, torch.device("meta"))):
        assert isinstance(moved, Batch)
        assert {t.device.type for t in (moved.features, moved.targets)} == {"meta"}
        assert {t.device.type for t in (moved.feature_lengths, moved.target_lengths)} == {"meta"}
        assert moved.ids == ["a"]
    assert batch.features.device.type == "cpu"
