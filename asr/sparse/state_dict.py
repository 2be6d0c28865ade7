"""The tensors of any torch model as one packed file, and back into a model, dense or sparse."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

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

    `values` are those of `asr.sparse.write`, here for matrices of float16 and float64 too;
    `metadata` (plain JSON values) is stored with them.
    Types that a file cannot hold are stored as the nearest one: bfloat16 and float8 as float32,
    bool as uint8. Tensors of torch's sparse layouts are stored as dense ones: zeros take no room.

    Raises AsrError, naming the tensor, for NaN and infinity, for what is not a tensor, and for one
    without values (meta, lazy) or of a kind that has no ordinary ones (complex, quantised, nested).

    >>> model = torch.nn.Linear(64, 64)
    >>> header = save(model, "layer.asr", metadata={"author": "me"})
    >>> [entry.name for entry in header.tensors]
    ['weight', 'bias']
    """
    try:
        arrays = to_arrays(model, values=values)
    except AsrError as error:
        raise AsrError(f"{path}: not written: {error}") from None
    return write(path, arrays, {"kind": KIND, "metadata": metadata or {}}, values)


def to_arrays(
    model: nn.Module, floats: torch.dtype | None = None, values: Values = "fp32"
) -> dict[str, Array]:
    """The tensors of `model.state_dict()` by name; a tied one is one array under all its names.

    `floats` is the type that floating ones become; None: their own, but bfloat16 and float8, which
    numpy lacks, float32; and where `values` asks for fewer bits than a type has, float32 too, of
    which `write` makes them. bool becomes uint8. Those on the CPU that keep their type share the
    model's memory. Raises AsrError for a tensor of which there is no array.
    """
    arrays: dict[str, Array] = {}
    seen: dict[Any, tuple[Array, Tensor]] = {}
    # A sparse layer makes a new dense tensor each time.
    sparse = {name: id(layer._weights[own]) for name, (layer, own, _) in _sparse(model).items()}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise AsrError(f"{name!r} of the state is not a tensor")
        # By address and not by identity: a state_dict detaches each name's tensor anew.
        key = sparse.get(name) or _address(tensor)
        if key is None or key not in seen:
            # With the tensor, which lives on, and so its address does.
            seen[key] = (_to_array(name, tensor, floats, values), tensor)
        arrays[name] = seen[key][0]
    return arrays


def _address(tensor: Tensor) -> Any:
    """Equal for tensors that are one in memory; None where that cannot be known."""
    if is_lazy(tensor) or tensor.is_nested or tensor.layout != torch.strided or tensor.is_meta:
        return None
    if not tensor.numel():
        return None
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _to_array(name: str, tensor: Tensor, floats: torch.dtype | None, values: Values) -> Array:
    """A tensor's values on the CPU, dense, in a type that numpy has."""
    if is_lazy(tensor):
        raise AsrError(f"tensor {name!r} has no shape yet: run one batch through the model first")
    if tensor.is_meta:
        raise AsrError(
            f"tensor {name!r} is on the meta device, without values: load weights into the model "
            "first"
        )
    kind = floats if floats and tensor.is_floating_point() else tensor.dtype
    if kind == torch.bool:
        kind = torch.uint8
    if kind.is_floating_point and (kind == torch.bfloat16 or kind.itemsize == 1):  # float8
        kind = torch.float32
    wider = {"fp32": (), "fp16": (torch.float64,), "int8": (torch.float64, torch.float16)}
    if tensor.dim() >= 2 and kind in wider[values]:
        kind = torch.float32
    try:
        dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
        array: Array = dense.to("cpu", kind).resolve_conj().resolve_neg().contiguous().numpy()
    except (TypeError, ValueError, RuntimeError):  # torch's messages name neither tensor nor remedy
        raise AsrError(
            f"tensor {name!r} is {_kind(tensor)}, which a model file cannot hold: make it an "
            "ordinary dense tensor first"
        ) from None
    return array


def _kind(tensor: Tensor) -> str:
    kind = "nested" if tensor.is_nested else "quantised" if tensor.is_quantized else tensor.layout
    return f"{str(kind).removeprefix('torch.')} of {tensor.dtype}"


def load_into(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Fill a model with the tensors of a file that `save` or `write` made; returns its metadata.

    Sparse layers take the kept elements without a dense copy.

    Raises AsrError for a file that is not a model file, for tensors that are missing, unknown or of
    another shape, and for a model whose tensors cannot be filled (meta device, torch's sparse
    layouts); the model is then unchanged.

    >>> header = save(torch.nn.Linear(64, 64), "layer.asr", metadata={"author": "me"})
    >>> model = torch.nn.Linear(64, 64)
    >>> load_into(model, "layer.asr")
    {'author': 'me'}
    """
    tensors, metadata = read_csr(path)
    sparse = _sparse(model)
    _compare(
        path, tensors, _shapes(model) | {name: shape for name, (_, _, shape) in sparse.items()}
    )
    _check_memory(path, model)
    dense: dict[str, Tensor] = {}
    for name, found in tensors.items():
        if name in sparse and isinstance(found, CsrMatrix):
            continue
        array = found.to_dense() if isinstance(found, CsrMatrix) else found
        dense[name] = torch.from_numpy(array)
    made = {}  # all of them before the first is replaced: one may be refused
    for name, (layer, own, _) in sparse.items():
        rows = tensors[name]
        values = rows if isinstance(rows, CsrMatrix) else np.asarray(dense.pop(name))
        made[name] = layer.made(own, values)
    for name, (layer, own, _) in sparse.items():
        layer.replace_weight(own, made[name])
    model.load_state_dict(dense, strict=False)
    own_metadata = metadata.get("metadata")
    return own_metadata if metadata.get("kind") == KIND and own_metadata is not None else metadata


def _sparse(model: nn.Module) -> dict[str, tuple[SparseLayer, str, tuple[int, ...]]]:
    """Layer, its own name and shape of each weight of the sparse layers, by its name."""
    return {
        f"{prefix}.{name}" if prefix else name: (layer, name, weight.shape)
        for prefix, layer in model.named_modules(remove_duplicate=False)
        if isinstance(layer, SparseLayer)
        for name, weight in layer.weights()
    }


def _check_memory(path: str | Path, model: nn.Module) -> None:
    """Raise AsrError for a tensor of the model that values cannot be copied into."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise AsrError(
                f"{path}: not loaded: {name!r} of the model is on the meta device, without memory: "
                'call model.to_empty(device="cpu") first'
            )
        if tensor.layout != torch.strided:
            raise AsrError(
                f"{path}: not loaded: {name!r} of the model is {_kind(tensor)}: make it an "
                "ordinary dense tensor first"
            )


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
