"""The examples in docstrings run and print what is written there."""

import doctest

import pytest

from asr.text import normalise, tokenizer


@pytest.mark.parametrize("module", [normalise, tokenizer])
def test_examples_run(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
