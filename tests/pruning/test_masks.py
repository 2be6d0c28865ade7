"""Masks keep what is large, never give back, and stop before a tensor is empty."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.pruning.masks import (
    PrunedTooFar,
    check_density,
    count_for,
    from_zeros,
    keep_at_or_above,
    keep_largest,
    nth_largest,
    pack,
    sparsity,
    unpack,
)


def test_weight_at_the_threshold_is_kept():
    weight = torch.tensor([-0.5, 0.25, 0.125, -0.25, 0.0])
    assert keep_at_or_above(weight, 0.25).tolist() == [True, True, False, True, False]


def test_dropped_weight_does_not_come_back():
    previous = torch.tensor([True, False])
    keep = keep_at_or_above(torch.tensor([9.0, 9.0]), 1.0, previous)
    assert keep.tolist() == [True, False]


def test_bfloat16_weights_are_compared_in_float32():
    weight = torch.tensor([0.1], dtype=torch.bfloat16)  # is 0.10009765625
    assert keep_at_or_above(weight, 0.10009).all()
    assert not keep_at_or_above(weight, 0.1001).any()


def test_mask_needs_no_gradient():
    weight = torch.nn.Parameter(torch.ones(3))
    assert not keep_at_or_above(weight, 0.5).requires_grad


numbers = st.floats(-10, 10, width=32)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=40), st.lists(st.floats(0, 10), min_size=2))
def test_mask_is_monotone_idempotent_and_counts_exactly(values, thresholds):
    weight = torch.tensor(values)
    keep = torch.ones_like(weight, dtype=torch.bool)
    highest = 0.0
    for eps in thresholds:
        new = keep_at_or_above(weight, eps, keep)
        assert not (new & ~keep).any()
        assert torch.equal(keep_at_or_above(weight, eps, new), new)
        highest, keep = max(highest, eps), new
    eps32 = torch.tensor(highest).item()
    assert int(keep.sum()) == sum(abs(v) >= eps32 for v in weight.tolist())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.floats(0, 1))
def test_largest_are_kept_in_exact_number_and_of_equal_ones_the_first(values, sparsity):
    scores = torch.tensor(values, dtype=torch.float32)
    count = count_for(scores, None, sparsity)
    assert count == len(values) - round(sparsity * len(values))
    keep = keep_largest(scores, count)
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert keep.nonzero().flatten().tolist() == sorted(order[:count])
    if count:
        assert nth_largest(scores, count) == values[order[count - 1]]
    # What is kept is kept again, and fewer are a part of it.
    again = keep_largest(scores.masked_fill(~keep, float("-inf")), count)
    assert torch.equal(again, keep)
    assert not (keep_largest(scores, count - 1) & ~keep).any()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), min_size=1, max_size=20),
    st.floats(0, 1),
)
def test_units_of_several_sizes_come_as_near_to_the_share_as_they_can(units, sparsity):
    scores = torch.tensor([float(score) for score, _ in units])
    sizes = torch.tensor([size for _, size in units])
    count = count_for(scores, sizes, sparsity)
    wanted = sparsity * int(sizes.sum())
    off = abs(int(sizes[~keep_largest(scores, count)].sum()) - wanted)
    for other in range(len(units) + 1):
        dropped = int(sizes[~keep_largest(scores, other)].sum())
        assert off <= abs(dropped - wanted) + 1e-4


def test_from_zeros_keeps_what_is_not_zero():
    assert from_zeros(torch.tensor([0.0, -0.0, 1e-30, -2.0])).tolist() == [False, False, True, True]


def test_sparsity_is_the_dropped_share():
    assert sparsity(torch.tensor([[True, False], [False, False]])) == 0.75


def test_nearly_empty_tensor_is_refused_with_name_and_figures():
    keep = torch.zeros(50, 40, dtype=torch.bool)
    keep[0, :9] = True
    with pytest.raises(
        PrunedTooFar,
        match=r"rnn\.weight_hh_l0 \[50, 40\] would be 99\.55% sparse at the threshold eps=0\.3: "
        r"9 of 2000 weights left, below min_density=0\.005.*calibrate",
    ):
        check_density("rnn.weight_hh_l0", keep, 0.3)
    keep[0, :10] = True
    check_density("rnn.weight_hh_l0", keep, 0.3)


def test_too_large_a_share_is_refused_with_another_remedy():
    with pytest.raises(PrunedTooFar, match=r"100\.00% sparse: 0 of 4 .*lower sparsity.*floor"):
        check_density("w", torch.zeros(4, dtype=torch.bool))


def test_empty_tensor_is_refused_whatever_the_density():
    with pytest.raises(PrunedTooFar, match="0 of 4 weights left"):
        check_density("w", torch.zeros(4, dtype=torch.bool), min_density=0.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_packed_mask_comes_back(bits):
    keep = torch.tensor(bits)
    packed = pack(keep)
    assert packed.numel() == -(-len(bits) // 8)
    assert torch.equal(unpack(packed, keep.shape), keep)


def test_packed_mask_keeps_its_shape_and_refuses_another():
    keep = torch.rand(3, 5, 7) > 0.5
    assert torch.equal(unpack(pack(keep), (3, 5, 7)), keep)
    with pytest.raises(AsrError, match=r"needs 15 bytes of uint8, found \[14\]"):
        unpack(pack(keep), (3, 5, 8))
