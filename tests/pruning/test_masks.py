"""Masks preserve large weights, never empty a tensor, and are equal on all ranks."""

import subprocess
import sys

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
    keep_largest,
    nth_largest,
    pack,
    sparsity,
    unpack,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.floats(0, 1))
def test_the_largest_remain_in_exact_number_and_of_equal_ones_the_first(values, sparsity):
    scores = torch.tensor(values, dtype=torch.float32)
    count = count_for(scores, None, sparsity)
    assert count == len(values) - round(sparsity * len(values))
    keep = keep_largest(scores, count)
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert keep.nonzero().flatten().tolist() == sorted(order[:count])
    if count:
        assert nth_largest(scores, count) == values[order[count - 1]]
    # Idempotent, and a smaller fraction is a subset.
    again = keep_largest(scores.masked_fill(~keep, float("-inf")), count)
    assert torch.equal(again, keep)
    assert not (keep_largest(scores, count - 1) & ~keep).any()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), min_size=1, max_size=20),
    st.floats(0, 1),
)
def test_blocks_of_several_sizes_come_as_near_to_the_fraction_as_possible(units, sparsity):
    scores = torch.tensor([float(score) for score, _ in units])
    sizes = torch.tensor([size for _, size in units])
    count = count_for(scores, sizes, sparsity)
    target = sparsity * int(sizes.sum())
    off = abs(int(sizes[~keep_largest(scores, count)].sum()) - target)
    for other in range(len(units) + 1):
        pruned = int(sizes[~keep_largest(scores, other)].sum())
        assert off <= abs(pruned - target) + 1e-4


def test_from_zeros_masks_exactly_the_zeros():
    assert from_zeros(torch.tensor([0.0, -0.0, 1e-30, -2.0])).tolist() == [False, False, True, True]


def test_sparsity_is_the_pruned_fraction():
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


def test_too_large_a_fraction_is_refused_with_advice():
    with pytest.raises(PrunedTooFar, match=r"100\.00% sparse: 0 of 4 .*lower sparsity.*scope="):
        check_density("w", torch.zeros(4, dtype=torch.bool))


def test_an_empty_tensor_is_refused_at_any_density():
    with pytest.raises(PrunedTooFar, match="0 of 4 weights left"):
        check_density("w", torch.zeros(4, dtype=torch.bool), min_density=0.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_packed_mask_comes_back(bits):
    keep = torch.tensor(bits)
    packed = pack(keep)
    assert packed.numel() == -(-len(bits) // 8)
    assert torch.equal(unpack(packed, keep.shape), keep)


def test_a_packed_mask_has_its_shape_and_refuses_another():
    keep = torch.rand(3, 5, 7) > 0.5
    assert torch.equal(unpack(pack(keep), (3, 5, 7)), keep)
    with pytest.raises(AsrError, match=r"needs 15 bytes of uint8, found \[14\]"):
        unpack(pack(keep), (3, 5, 8))


# Two processes of torch.distributed over gloo, each with the Pruner's own comparison.
RANK = """
import sys
import torch
from torch import distributed, nn
from asr.errors import AsrError
from asr.pruning import OneShot, Pruner, Rule

rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.GRU(5, 8)
pruner = Pruner(model, Rule(OneShot(1, 0.5)))
pruner.step()
print("equal", pruner.sparsity())
with torch.no_grad():
    model.weight_hh_l0[rank, 3] = 9.0
Pruner(model, Rule(OneShot(1, 0.9)), check_ranks=False).step()
try:
    Pruner(model, Rule(OneShot(1, 0.9))).step()
except AsrError as error:
    print(error)
distributed.destroy_process_group()
"""


def test_different_masks_stop_every_rank(tmp_path):
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    for process in ranks:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        first, second = output.splitlines()
        assert first == "equal 0.5"
        assert second.startswith("masks of rank 1 differ from those of rank 0")
