"""The model file: weights, dimensions, units and frontend in one safe file, dense or packed.

Both are the container of `asr.sparse.file` with the same metadata; only how the tensors are stored
differs, so every reader here takes either without being told which. Torch is imported only by what
builds a network: `describe` and packing do without.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.backend import check_tokenizer
from asr.model.dimensions import Model
from asr.model.info import Description, PackReport, describe, description, pack_report
from asr.model.metadata import Metadata
from asr.model.shapes import check_layers, compare, parameter_shapes
from asr.sparse import Header, read, read_header, write
from asr.sparse.formats import Array, Values

if TYPE_CHECKING:
    import torch

    from asr.model.torch_network import DeepSpeech
    from asr.text.tokenizer import Tokenizer

__all__ = [
    "Description",
    "Loaded",
    "PackReport",
    "describe",
    "load_model",
    "load_weights",
    "pack",
    "save_model",
]


@dataclass(frozen=True)
class Loaded:
    """A model file in memory."""

    model: "DeepSpeech"
    """In evaluation mode, on the CPU."""
    tokenizer: "Tokenizer"
    frontend: Frontend
    metadata: Metadata
    header: Header


def save_model(
    path: str | Path,
    model: "DeepSpeech",
    tokenizer: "Tokenizer",
    frontend: Frontend,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write a model file: all tensors dense in fp32, tied ones once, the file whole or not at all.

    `extra` (plain values) is carried along as `metadata.training` and shown by `asr info`.
    Raises AsrError, naming the tensor, for a weight that is NaN or infinite.
    """
    metadata = Metadata(
        model=model.dimensions,
        frontend=frontend,
        tokenizer=tokenizer.to_plain(),
        training=extra or {},
        buffers=[name for name, _ in model.named_buffers()],
    )
    write(path, _to_arrays(model), metadata.to_plain(), compress=False)


def pack(
    model_path: str | Path, out_path: str | Path, values: Values = "fp16", fold: bool = False
) -> PackReport:
    """Write the same model to `out_path` with each tensor as small as its zeros allow.

    `values="fp32"` is exact; `"fp16"` halves all tensors but vectors, `"int8"` quarters them with
    one scale for each row. `fold` multiplies the batch
    norms into the weights (this needs torch): a little smaller and quicker to run, but not meant
    to be trained further. Raises AsrError.
    """
    if os.path.exists(out_path) and os.path.realpath(model_path) == os.path.realpath(out_path):
        raise AsrError(f"{out_path}: is the model itself; give the packed file another name")
    if fold:
        from asr.model.torch_network import fold_batch_norm

        loaded = load_model(model_path)
        model = fold_batch_norm(loaded.model)
        tensors = _to_arrays(model)
        metadata = dataclasses.replace(
            loaded.metadata, model=model.dimensions, buffers=[], folded=True
        )
    else:
        tensors, metadata = _read(model_path)
    metadata = dataclasses.replace(metadata, packed=values)
    header = write(out_path, tensors, metadata.to_plain(), values)
    return pack_report(description(out_path, header, metadata))


def load_model(path: str | Path) -> Loaded:
    """The network of a model file, dense or packed, ready to run, with its units and frontend.

    Raises AsrError for what is no model file (a training checkpoint too), for a damaged file, and
    for one whose weights or units do not fit its dimensions.
    """
    from asr.text.tokenizer import Tokenizer

    tensors, metadata = _read(path)
    try:
        tokenizer = Tokenizer.from_plain(metadata.tokenizer)
        check_tokenizer(tokenizer, metadata.model)
        model = _build(metadata.model, tensors)
    except AsrError as error:
        raise AsrError(f"{path}: {error}") from None
    return Loaded(model, tokenizer, metadata.frontend, metadata, read_header(path))


def load_weights(path: str | Path) -> "dict[str, torch.Tensor]":
    """All tensors of a model file, dense or packed, by their names in `state_dict()`.

    Tied tensors share memory under each of their names. To compare names and shapes with a
    network is the caller's part. Raises AsrError.
    """
    tensors, _ = _read(path)
    return _to_torch(tensors)


def _read(path: str | Path) -> tuple[dict[str, Array], Metadata]:
    tensors, plain = read(path)
    try:
        return tensors, Metadata.from_plain(plain)
    except AsrError as error:
        raise AsrError(f"{path}: {error}") from None


def _to_arrays(model: "DeepSpeech") -> dict[str, Array]:
    """The tensors of a network; one array under several names where a tensor is tied."""
    arrays: dict[str, Array] = {}
    seen: dict[Any, Array] = {}
    for name, tensor in model.state_dict().items():
        # By address and not by identity: a state_dict detaches each name's tensor anew.
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in seen:
            plain = tensor.float() if tensor.is_floating_point() else tensor
            seen[key] = plain.cpu().contiguous().numpy()
        arrays[name] = seen[key]
    return arrays


def _to_torch(tensors: dict[str, Array]) -> "dict[str, torch.Tensor]":
    import torch

    made = {id(array): torch.from_numpy(array) for array in tensors.values()}
    return {name: made[id(array)] for name, array in tensors.items()}


def _build(dimensions: Model, tensors: dict[str, Array]) -> "DeepSpeech":
    """A network around the arrays, which become its parameters without a copy."""
    import torch

    from asr.model.torch_network import DeepSpeech

    # The dimensions are a stranger's numbers: nothing is built until the tensors bear them out.
    check_layers(dimensions, tensors)
    found = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
    for name, shape in parameter_shapes(dimensions).items():
        compare(name, found.get(name), (shape, "float32"))
    with torch.device("meta"):
        model = DeepSpeech(dimensions)
    expected = {
        name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in model.state_dict().items()
    }
    for name in expected | found:
        compare(name, found.get(name), expected.get(name))
    model.load_state_dict(_to_torch(tensors), assign=True)
    return model.eval()
