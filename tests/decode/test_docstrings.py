"""The examples in docstrings run and print what is written there."""

import doctest

import pytest

from asr.decode import alignment, confidence, decoder
from asr.decode.lm import model


@pytest.mark.parametrize("module", [alignment, confidence, decoder, model])
def test_examples_run(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
