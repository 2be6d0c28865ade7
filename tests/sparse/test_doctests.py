"""The examples in the docstrings of public functions run as written."""

import doctest
from importlib import import_module

import pytest
import torch

EXAMPLES = {
    "sparsify": "asr.sparse.convert",
    "save": "asr.sparse.state_dict",
    "load_into": "asr.sparse.state_dict",
    "read": "asr.sparse.file",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = import_module(EXAMPLES[name])
    (test,) = doctest.DocTestFinder(recurse=False).find(
        getattr(module, name), name, module, vars(module)
    )
    assert len(test.examples) >= 3
    with torch.random.fork_rng():
        assert doctest.DocTestRunner().run(test).failed == 0
