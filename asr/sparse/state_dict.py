"""The tensors of any torch model as one packed file, and back into a model, dense or sparse."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.sparse.csr import CsrMatrix
from asr.sparse.file import read_csr, write
from asr.sparse.formats import Array, Values
from asr.sparse.header import Header
from asr.sparse.torch_layers import SparseLayer

KIND = "torch.state_dict"


def save(
    model: nn.Module,
    path: str | Path,
    values: Values = "fp16",
    metadata: dict[str, Any] | None = None,
) -> Header:
    """Write a model's `state_dict()` to `path`, packed; tied tensors are stored once.

    `values` are those of `asr.sparse.write`; `metadata` (plain JSON values) is stored with them.
    Types that a file cannot hold are stored as the nearest one: bfloat16 as float32, bool as uint8.

    Raises AsrError, naming the tensor, for NaN and infinity, and for what is not a tensor.

    >>> model = torch.nn.Linear(64, 64)
    >>> header = save(model, "layer.asr", metadata={"author": "me"})
    >>> [entry.name for entry in header.tensors]
    ['weight', 'bias']
    """
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise AsrError(f"{path}: not written: {name!r} of the state is not a tensor")
    return write(path, to_arrays(model), {"kind": KIND, "metadata": metadata or {}}, values)


def to_arrays(model: nn.Module, floats: torch.dtype | None = None) -> dict[str, Array]:
    """The tensors of `model.state_dict()` by name; a tied one is one array under all its names.

    `floats` is the type that floating ones become; None: their own, but bfloat16, which numpy
    lacks, float32. bool becomes uint8. Those on the CPU that keep their type share the model's
    memory.
    """
    nearest = {torch.bfloat16: torch.float32, torch.bool: torch.uint8}
    arrays: dict[str, Array] = {}
    seen: dict[Any, tuple[Array, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        # By address and not by identity: a state_dict detaches each name's tensor anew.
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if not tensor.numel() or key not in seen:
            kind = floats if floats and tensor.is_floating_point() else tensor.dtype
            plain = tensor.to("cpu", nearest.get(kind, kind)).contiguous()
            seen[key] = (plain.numpy(), tensor)  # keeps the tensor alive, and so its address
        arrays[name] = seen[key][0]
    return arrays


def load_into(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Fill a model with the tensors of a file that `save` or `write` made; returns its metadata.

    Sparse layers take the kept elements without a dense copy.

    Raises AsrError for a file that is not a model file, and for tensors that are missing, unknown
    or of another shape; the model is then unchanged.

    >>> header = save(torch.nn.Linear(64, 64), "layer.asr", metadata={"author": "me"})
    >>> model = torch.nn.Linear(64, 64)
    >>> load_into(model, "layer.asr")
    {'author': 'me'}
    """
    tensors, metadata = read_csr(path)
    sparse = {
        f"{prefix}.{name}" if prefix else name: (layer, name, weight.shape)
        for prefix, layer in model.named_modules(remove_duplicate=False)
        if isinstance(layer, SparseLayer)
        for name, weight in layer.weights()
    }
    _compare(
        path, tensors, _shapes(model) | {name: shape for name, (_, _, shape) in sparse.items()}
    )
    dense: dict[str, Tensor] = {}
    for name, found in tensors.items():
        if name in sparse and isinstance(found, CsrMatrix):
            continue
        array = found.to_dense() if isinstance(found, CsrMatrix) else found
        dense[name] = torch.from_numpy(array)
    for name, (layer, own, _) in sparse.items():
        if isinstance(rows := tensors[name], CsrMatrix):
            layer.set_weight(own, rows)
        else:
            layer.set_dense(own, np.asarray(dense.pop(name)))
    model.load_state_dict(dense, strict=False)
    own_metadata = metadata.get("metadata")
    return own_metadata if metadata.get("kind") == KIND and own_metadata is not None else metadata


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters and buffers of `state_dict()`, under each of their names."""
    shapes = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        tensors: dict[str, Tensor] = dict(
            module.named_parameters(recurse=False, remove_duplicate=False)
        )
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            if name not in module._non_persistent_buffers_set:
                tensors[name] = buffer
        for name, tensor in tensors.items():
            shapes[f"{prefix}.{name}" if prefix else name] = tuple(tensor.shape)
    return shapes


def _compare(path: str | Path, found: dict[str, Any], expected: dict[str, tuple[int, ...]]) -> None:
    for name in expected | found:
        shapes = [
            f"{list(shape)}" if shape is not None else "nothing"
            for shape in (found[name].shape if name in found else None, expected.get(name))
        ]
        if shapes[0] != shapes[1]:
            raise AsrError(
                f"{path}: does not fit this model: {name!r} is {shapes[0]} in the file and "
                f"{shapes[1]} in the model"
            )
