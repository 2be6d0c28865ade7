"""`asr average`: the mean of the weights of several networks of one training; no torch.

The last or best checkpoints of a training lie around one minimum, and their mean is often better
than each (Izmailov et al. 2018). Networks that were trained from different weights have no mean
that is a network.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import AsrError
from asr.files import check_writable
from asr.model.file import ModelFile, read_model
from asr.sparse import write
from asr.sparse.formats import Array

_SAME = ("model", "frontend", "tokenizer", "buffers")
"""Of the metadata: what networks must have in common."""


def average(models: Sequence[str | Path], output: str | Path) -> str:
    """Write the mean of the weights of at least two model files to `output`; a line to print.

    Weights that are zero in all of them are zero in the mean; of files with other zeros the mean
    has fewer, which is said. Running statistics of batch norms are averaged as the weights are, so
    nothing has to be run; counters are those of the first file. Packed files may be given; the
    output is dense, with the metadata of the first file but its confidence map and priors. Raises
    AsrError for networks that differ in dimensions, features or tokenizer, or whose batch norms
    were folded into the weights.
    """
    check_writable(output)
    if len(models) < 2:
        raise AsrError("name at least two model files to average")
    if len({Path(path).resolve() for path in models}) < len(models):
        raise AsrError("a model file is named twice; the mean would lean to it")
    first = read_model(models[0])
    total = {name: array.astype(np.float64) for name, array in _floats(first).items()}
    counts = [_nonzeros(first.dense())]
    for path in models[1:]:
        other = read_model(path)
        _check_same(first, other)
        for name, array in _floats(other).items():
            total[name] += array
        counts.append(_nonzeros(other.dense()))
    tensors = _with_mean(first, total, len(models))
    plain = first.metadata.to_plain() | {"packed": None}
    measured = ("confidence", "priors")
    plain["training"] = {k: v for k, v in plain["training"].items() if k not in measured}
    plain["training"]["averaged"] = [Path(path).name for path in models]
    write(output, tensors, plain, compress=False)
    return _report(output, counts, _nonzeros(tensors))


def _floats(file: ModelFile) -> dict[str, Array]:
    """The tensors that have a mean: not counters."""
    return {n: a for n, a in file.dense().items() if np.issubdtype(a.dtype, np.floating)}


def _with_mean(first: ModelFile, total: Mapping[str, Array], count: int) -> dict[str, Array]:
    """The tensors of the first file with the mean in their place; tied ones stay one array."""
    made: dict[int, Array] = {}
    tensors = {}
    for name, array in first.dense().items():
        if name in total:
            mean = made.setdefault(id(array), (total[name] / count).astype(array.dtype))
            tensors[name] = mean
        else:
            tensors[name] = array
    return tensors


def _check_same(first: ModelFile, other: ModelFile) -> None:
    for file in (first, other):
        if file.metadata.folded:
            raise AsrError(
                f"{file.path}: its batch norms are folded into the weights; give the file that it "
                "was packed from"
            )
    mine, theirs = first.metadata.to_plain(), other.metadata.to_plain()
    for part in _SAME:
        if mine[part] != theirs[part]:
            raise AsrError(
                f"{first.path} and {other.path} have no mean: they differ in "
                f"{_difference(part, mine[part], theirs[part])}"
            )
    shapes = [{n: np.shape(a) for n, a in file.dense().items()} for file in (first, other)]
    if shapes[0] != shapes[1]:
        raise AsrError(f"{first.path} and {other.path} have no mean: their tensors differ")


def _difference(part: str, mine: Any, theirs: Any) -> str:
    """The first setting that differs, with both values."""
    if part == "tokenizer":
        return "their tokenizers"
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in mine:
            if mine[key] != theirs.get(key):
                return f"{part}.{key}: {mine[key]!r:.60} and {theirs.get(key)!r:.60}"
    return part


def _nonzeros(tensors: Mapping[str, Array]) -> int:
    distinct = {id(array): array for array in tensors.values()}
    return sum(int(np.count_nonzero(array)) for array in distinct.values())


def _report(output: str | Path, counts: Sequence[int], found: int) -> str:
    line = f"{output}: the mean of {len(counts)} networks, {found:,} non-zeros"
    if found > 1.01 * max(counts):
        line += (
            f"; each of them has at most {max(counts):,}: their zeros are in different places, so "
            "the mean is less sparse"
        )
    return line
