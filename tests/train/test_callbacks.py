"""Callbacks of a training, called as the trainer calls them."""

from typing import Any, cast

import pytest

from asr.model.dimensions import Model
from asr.model.torch_network import DeepSpeech
from asr.pruning import Bank, Cubic, Pruner, Rule
from asr.sparse.kernels import library
from asr.train.callbacks import SparseSteps


@pytest.mark.skipif(library() is None, reason="sparse steps need the C library")
def test_sparse_steps_begin_with_the_last_mask_and_end_with_the_training() -> None:
    network = DeepSpeech(Model(hidden=32, layers=1, conv_channels=[2, 2]))
    pruner = Pruner(network, Rule(Cubic(1, 40, 1, 0.9375), ["rnn*"], Bank(32)))
    callback, nothing = SparseSteps(network, lambda: pruner), cast(Any, None)
    for _ in range(2):  # of two trainings with the same objects the second finds final masks
        begun = []
        for step in range(42):
            callback.on_train_batch_start(nothing, nothing, nothing, step)
            begun.append(network.rnn[0]._keeps is not None)
            pruner.step()
        assert begun[-1]
        assert begun == sorted(begun)
        callback.teardown(nothing, nothing, "fit")
        assert network.rnn[0]._keeps is None
    assert begun[0], "masks that are final at the start"
