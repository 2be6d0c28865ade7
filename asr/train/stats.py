"""How sparse the tensors of a file are, and a picture of where its weights lie."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import AsrError
from asr.files import atomic_path, check_writable, print_if_lost
from asr.sparse import read
from asr.train.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

PICTURES = (".png", ".svg", ".pdf")


def stats_to(path: Path, patterns: list[str] | None = None, plot: Path | None = None) -> str:
    """The table of `asr.pruning.statistics` for a file, and its picture if `plot` names one.

    path: a model file, dense or packed; any file that `asr.sparse.write` wrote; or a checkpoint
    of torch or Lightning, which is read with `weights_only`. patterns: which tensors count as
    prunable; None takes all weights of two or more dimensions. Raises AsrError for another file,
    for one without such weights, and for a picture in another format than PICTURES.
    """
    from asr.pruning import statistics

    check_picture(plot)
    check_writable(plot)
    weights = read_weights(path)
    try:
        table = statistics(weights, patterns).table()
    except AsrError as error:
        raise AsrError(f"{path}: {error}") from None
    if plot is None:
        return table
    from asr.pruning.picture import draw

    with print_if_lost(table), atomic_path(plot) as temporary:
        draw(weights, patterns, path.name).savefig(temporary, dpi=160)
    return f"{table}\nwritten to {plot}"


def check_picture(path: Path | None) -> None:
    """Raise AsrError unless the name is that of a picture that can be drawn."""
    if path is not None and path.suffix.lower() not in PICTURES:
        raise AsrError(f"{path}: a picture's name ends with {', '.join(PICTURES)}")


def read_weights(path: Path) -> "dict[str, Tensor]":
    """Parameters of a file by name, without buffers where the file distinguishes them."""
    import torch

    if zipfile.is_zipfile(path):
        return _of_checkpoint(path)
    arrays, metadata = read(path)
    buffers = metadata.get("buffers", [])
    once: dict[int, Tensor] = {}
    return {
        name: once.setdefault(id(array), torch.from_numpy(array))
        for name, array in arrays.items()
        if name not in buffers
    }


def _of_checkpoint(path: Path) -> "dict[str, Tensor]":
    import torch

    content = read_checkpoint(path)
    if isinstance(content, Mapping):
        content = content.get("state_dict", content)
    if not isinstance(content, Mapping) or not all(isinstance(n, str) for n in content):
        raise AsrError(f"{path}: holds no weights by name; save model.state_dict()")
    weights = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not weights:
        raise AsrError(f"{path}: holds no tensor at its top level; save model.state_dict()")
    return weights
