"""Patterns cover a whole tensor: whole blocks, equal counts in banks, edges included."""

import json
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.pruning.patterns import Bank, Block, Element, pattern_from_plain
from asr.sparse.csr import pattern_of

sides = st.integers(1, 9)


def test_block_score_is_its_largest_element_or_its_norm():
    scores = torch.tensor([[1.0, 2.0, 5.0], [3.0, 4.0, 0.0], [6.0, 0.0, 0.5]])
    assert Block(2, 2).units(scores).tolist() == [4.0, 5.0, 6.0, 0.5]
    expected = torch.tensor([30.0, 25.0, 36.0, 0.25]).sqrt()
    torch.testing.assert_close(Block(2, 2, "l2").units(scores), expected)


def test_threshold_of_a_block_grows_with_the_fourth_root_of_its_size():
    assert Element().scale == 1.0
    assert [Block(n, n).scale for n in (4, 16)] == [2.0, 4.0]
    assert Block(16, 1).scale == 2.0
    assert Block(8, 8).scale == pytest.approx(2.8284, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, st.sampled_from(["max", "l2"]), st.integers(0, 2**31))
def test_blocks_cover_every_element_once_in_any_shape(rows, columns, r, c, score, seed):
    pattern = Block(r, c, score)
    torch.manual_seed(seed)
    scores = torch.rand(rows, columns) + 0.1
    units = pattern.units(scores)
    tiles = [
        scores[i : i + r, j : j + c] for i, j in product(range(0, rows, r), range(0, columns, c))
    ]
    expected = torch.stack([t.max() if score == "max" else t.norm() for t in tiles])
    torch.testing.assert_close(units, expected)
    sizes = pattern.sizes(scores.shape)
    counted = [t.numel() for t in tiles]
    assert counted == ([r * c] * len(tiles) if sizes is None else sizes.tolist())
    keep = torch.rand(len(tiles)) > 0.5
    mask = pattern.expand(keep, scores.shape)
    assert mask.shape == scores.shape
    again = [
        mask[i : i + r, j : j + c] for i, j in product(range(0, rows, r), range(0, columns, c))
    ]
    assert all(
        bool(part.all()) == kept == bool(part.any())
        for part, kept in zip(again, keep.tolist(), strict=True)
    )


@pytest.mark.parametrize("score", ["max", "l2"])
def test_dead_elements_do_not_count_and_dead_blocks_cannot_stay(score):
    scores = torch.tensor([[9.0, 2.0], [9.0, 9.0]])
    alive = torch.tensor([[False, True], [False, False]])
    units = Block(1, 2, score).units(scores, alive)
    assert units.tolist() == [2.0, float("-inf")]


def test_convolution_is_read_as_outputs_by_the_rest():
    weight = torch.arange(24.0).view(2, 3, 2, 2)
    assert Block(1, 4).units(weight).tolist() == [3.0, 7.0, 11.0, 15.0, 19.0, 23.0]
    keep = torch.tensor([True, False, False, False, False, True])
    mask = Block(1, 4).expand(keep, weight.shape)
    assert mask.shape == weight.shape
    assert mask[0, 0].all()
    assert mask[1, 2].all()
    assert int(mask.sum()) == 8
    banks = Bank(4).keep(weight, 0.5)
    assert banks.shape == weight.shape
    assert weight[banks].tolist() == [n for n in range(24) if n % 4 >= 2]


@pytest.mark.parametrize(
    ("sparsity", "count"),
    [(0.875, 4), (0.9, 3), (0.906, 3), (0.9375, 2), (0.95, 2), (0.99, 0), (0.0, 32)],
)
def test_fraction_is_rounded_to_the_nearest_count_of_a_bank(sparsity, count):
    bank = Bank(32)
    assert bank.count(sparsity) == count
    keep = bank.keep(torch.rand(5, 96), sparsity)
    assert (keep.view(5, 3, 32).sum(2) == count).all()


def test_a_shorter_bank_at_the_end_has_proportionally_many_weights():
    keep = Bank(32).keep(torch.rand(7, 40), 0.75)
    assert (keep[:, :32].sum(1) == 8).all()
    assert (keep[:, 32:].sum(1) == 2).all()
    narrow = Bank(32).keep(torch.rand(7, 10), 0.9)
    assert (narrow.sum(1) == 1).all()


@pytest.mark.parametrize("columns", [3, 33, 36, 100, 260])
def test_no_input_is_cut_off_because_the_last_bank_is_short(columns):
    torch.manual_seed(0)
    keep = Bank(32).keep(torch.rand(512, columns), 0.9)
    assert keep.any(0).all()
    assert (keep[:, columns // 32 * 32 :].sum(1) == 1).all()
    if columns > 32:
        assert pattern_of(keep.numpy()) == "bank"


def test_a_bank_that_keeps_none_keeps_none_at_the_end_either():
    assert not Bank(32).keep(torch.rand(7, 36), 0.99).any()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 30), st.integers(2, 9), st.floats(0, 0.95), st.integers(0, 9)
)
def test_in_banks_the_largest_remain_and_of_equal_ones_the_first(
    rows, columns, width, sparsity, seed
):
    bank = Bank(width)
    torch.manual_seed(seed)
    scores = torch.randint(0, 4, (rows, columns)).float()  # many ties
    keep = bank.keep(scores, sparsity)
    for row, kept in zip(scores, keep, strict=True):
        for part, mask in zip(row.split(width), kept.split(width), strict=True):
            count = bank.count(sparsity, None if len(part) == width else len(part))
            order = sorted(range(len(part)), key=lambda i: (-part[i].item(), i))
            assert sorted(order[:count]) == mask.nonzero().flatten().tolist()


def test_the_remaining_weights_are_counted_in_each_bank_and_block():
    mask = torch.tensor([[1, 1, 0, 1, 0], [0, 0, 0, 1, 1], [1, 0, 0, 0, 1]]).bool()
    assert Bank(2).counts(mask).tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 1]]
    assert Block(2, 3).count(mask).tolist() == [2, 3, 1, 1]


def test_banks_never_contain_weights_that_were_pruned_before():
    scores = torch.tensor([[float("-inf"), 1.0, float("-inf"), float("-inf")]])
    assert Bank(4).keep(scores, 0.25).tolist() == [[False, True, False, False]]


@pytest.mark.parametrize("pattern", [Element(), Block(16, 1, "l2"), Bank(8)], ids=str)
def test_plain_values_make_an_equal_pattern(pattern):
    assert pattern_from_plain(json.loads(json.dumps(pattern.to_plain()))) == pattern


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: Block(0, 1), "Block: rows=0: a whole number, at least 1"),
        (lambda: Block(4, 2.0), r"Block: columns=2\.0: a whole number"),
        (lambda: Block(True, 1), "Block: rows=True"),
        (lambda: Block(4, 4, "mean"), 'Block: score=\'mean\': "max" or "l2"'),
        (lambda: Bank(1), "Bank: columns=1: a whole number, at least 2"),
        (lambda: Bank("32"), "Bank: columns='32'"),
        (
            lambda: pattern_from_plain({"name": "tile"}),
            "unknown pruning pattern 'tile'; there are el",
        ),
        (
            lambda: pattern_from_plain({"name": "block", "rows": 4}),
            "pattern block: .*column",
        ),
        (lambda: pattern_from_plain({"name": "bank", "wide": 4}), "pruning pattern bank: .*'wide'"),
    ],
)
def test_what_is_not_a_pattern_is_refused(make, fragment):
    with pytest.raises(AsrError, match=fragment):
        make()
