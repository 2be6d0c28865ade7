"""A model with indices outside its arrays is refused."""

from dataclasses import replace

import numpy as np
import pytest
from decoding_data import small_model

from asr.decode.lm.check import check_model


def test_a_trained_model_passes():
    check_model(small_model())


@pytest.mark.parametrize(
    ("name", "place", "value", "fragment"),
    [
        ("nexts", 3, 10_000, "out of range"),
        ("words", -1, 10_000, "out of range"),
        ("words", 0, 1, "every word has an arc"),
        ("first", 2, 4_000_000_000, "not rising"),
        ("lowers", 1, 1, "not falling"),
        ("hash_words", 0, 10_000, "out of range"),
        ("hashes", 0, 2**64 - 1, "not rising"),
        ("prefixes", 0, 2**64 - 1, "not rising"),
        ("logs", 0, np.nan, "not finite"),
        ("backoffs", 1, -np.inf, "not finite"),
        ("prefix_logs", 0, np.inf, "not finite"),
    ],
)
def test_a_hostile_number_is_refused(name, place, value, fragment):
    array = getattr(small_model(), name).copy()
    array[place] = value
    with pytest.raises(ValueError, match=fragment):
        check_model(replace(small_model(), **{name: array}))


@pytest.mark.parametrize("name", ["backoffs", "logs", "hash_words", "prefix_logs", "first"])
def test_arrays_that_do_not_fit_together_are_refused(name):
    model = small_model()
    with pytest.raises(ValueError, match="do not fit together"):
        check_model(replace(model, **{name: getattr(model, name)[:-1]}))


def test_special_words_out_of_range_are_refused():
    with pytest.raises(ValueError, match="special word"):
        check_model(replace(small_model(), unknown=10**6))
