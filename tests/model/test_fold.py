"""Folding batch norms in sparse and dense matrices: zeros stay, tied matrices stay tied."""

import numpy as np
import pytest
from pruned_networks import network

from asr.errors import AsrError
from asr.model.fold import fold_before, fold_tensors
from asr.model.shapes import check_shapes
from asr.sparse.csr import CsrMatrix, from_dense
from asr.sparse.state_dict import to_arrays


def test_a_sparse_matrix_and_its_dense_copy_fold_alike() -> None:
    random = np.random.default_rng(0)
    dense = random.standard_normal((24, 40)).astype(np.float32)
    dense[random.random(dense.shape) < 0.8] = 0
    bias, scale, shift = (random.standard_normal(n) for n in (24, 40, 40))
    norm = scale, shift
    rows, expected_bias = fold_before(from_dense(dense), bias, norm)
    matrix, found_bias = fold_before(dense, bias, norm)
    assert isinstance(rows, CsrMatrix)
    np.testing.assert_array_equal(rows.to_dense(), matrix)
    np.testing.assert_array_equal(matrix == 0, dense == 0)
    np.testing.assert_allclose(found_bias, expected_bias, rtol=1e-6)
    x = random.standard_normal(40)
    np.testing.assert_allclose(
        matrix @ x + found_bias, dense @ (scale * x + shift) + bias, atol=1e-5
    )


def test_a_folded_network_has_the_tensors_of_its_dimensions() -> None:
    for variant in ({}, {"shared_input": True}, {"bidirectional": False}, {"batch_norm": False}):
        model = network(variant)
        folded, dimensions = fold_tensors(to_arrays(model), model.dimensions)
        assert not dimensions.batch_norm
        check_shapes(folded, dimensions)
        if dimensions.shared_input:
            forward, backward = (f"rnn.1.{c}_cell.weight_ih_l0" for c in ("forward", "backward"))
            assert folded[forward] is folded[backward]


def test_a_variance_below_zero_is_refused() -> None:
    model = network({})
    tensors = to_arrays(model)
    tensors["rnn.1.norm.running_var"] = -tensors["rnn.1.norm.running_var"]
    with pytest.raises(AsrError, match=r"rnn\.1\.norm\.running_var: a variance below zero"):
        fold_tensors(tensors, model.dimensions)
