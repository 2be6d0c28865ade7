"""Matrices with zeros in each pattern, for the tests of files."""

import numpy as np

from asr.sparse.csr import BANK, BLOCK


def pruned(shape: tuple[int, ...], sparsity: float, seed: int = 0) -> np.ndarray:
    """Gaussian weights with the smallest ones set to zero."""
    weights = np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32)
    weights[np.abs(weights) < np.quantile(np.abs(weights), sparsity)] = 0
    return weights


def in_blocks(shape: tuple[int, int], sparsity: float, seed: int = 0) -> np.ndarray:
    """Gaussian weights in blocks of 16 rows and one column."""
    generator = np.random.default_rng(seed)
    keep = generator.random((shape[0] // BLOCK, shape[1])) >= sparsity
    weights = generator.normal(0, 0.05, shape).astype(np.float32)
    return np.where(keep.repeat(BLOCK, axis=0), weights, np.float32(0))


def in_banks(shape: tuple[int, int], kept: int, seed: int = 0) -> np.ndarray:
    """Gaussian weights: `kept` in each bank of 32 columns, none in the remaining columns."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(0, 0.05, shape).astype(np.float32)
    banks = weights[:, : shape[1] // BANK * BANK].reshape(shape[0], -1, BANK)
    order = np.argsort(np.abs(banks), axis=2)
    np.put_along_axis(banks, order[:, :, : BANK - kept], 0, axis=2)
    weights[:, shape[1] // BANK * BANK :] = 0
    weights[:, : shape[1] // BANK * BANK] = banks.reshape(shape[0], -1)
    return weights


def zeros_and_weights(pattern: str, shape: tuple[int, int], keep: float, seed: int = 0):
    """A matrix with zeros in this pattern, as far as its shape allows."""
    generator = np.random.default_rng(seed)
    rows, columns = shape
    if pattern == "block":
        mask = generator.random((-(-rows // BLOCK), columns)) < keep
        mask = mask.repeat(BLOCK, axis=0)[:rows]
    elif pattern == "bank":
        mask = np.zeros(shape, bool)
        for first in range(0, columns, BANK):
            width = min(BANK, columns - first)
            count = max(1, round(keep * width))
            order = np.argsort(generator.random((rows, width)), axis=1)[:, :count]
            np.put_along_axis(mask[:, first : first + width], order, True, axis=1)
    else:
        mask = generator.random(shape) < keep
    return (generator.normal(0, 0.3, shape) * mask).astype(np.float32)
