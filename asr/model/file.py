"""The model file: weights, dimensions, tokenizer and frontend in one safe file, dense or packed.

Both are the container of `asr.sparse.file` with the same metadata. Only how the tensors are stored
differs, so every reader here takes either kind. Torch is imported only by what builds a network
of it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.metadata import Metadata
from asr.model.shapes import check_layers, check_tensor, parameter_shapes
from asr.sparse import read, write
from asr.sparse.csr import CsrMatrix
from asr.sparse.file import read_csr_and_header, read_header
from asr.sparse.formats import Array

if TYPE_CHECKING:
    import torch

    from asr.model.torch_network import DeepSpeech
    from asr.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class ModelFile:
    """All that a model file holds, checked but for the shapes of its tensors."""

    path: str
    metadata: Metadata
    tokenizer: "Tokenizer"
    tensors: Mapping[str, CsrMatrix | Array]
    """By their names in `state_dict()`; a tied tensor is one object under each of its names."""
    digest: str = ""
    """Of its header (`asr.sparse.Header`), by which the file is recognised again."""

    def dense(self) -> dict[str, Array]:
        """The tensors with their zeros; tied ones are one array under each of their names."""
        made = {
            id(tensor): tensor.to_dense() if isinstance(tensor, CsrMatrix) else tensor
            for tensor in self.tensors.values()
        }
        return {name: made[id(tensor)] for name, tensor in self.tensors.items()}


@dataclass(frozen=True)
class TorchModel:
    """The torch network of a model file with what belongs to it."""

    model: "DeepSpeech"
    """In evaluation mode, on the CPU."""
    tokenizer: "Tokenizer"
    frontend: Frontend
    metadata: Metadata


def save_model(
    path: str | Path,
    model: "DeepSpeech",
    tokenizer: "Tokenizer",
    frontend: Frontend,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write a model file: all tensors dense in fp32, tied ones once, the file whole or not at all.

    `extra` (plain values) becomes `metadata.training`; `asr info` prints it.
    Raises AsrError, naming the tensor, for a weight that is NaN or infinite.

    >>> from asr.features.settings import Frontend
    >>> from asr.model.dimensions import Model
    >>> from asr.model.torch_network import DeepSpeech
    >>> from asr.text.tokenizer import CharacterTokenizer
    >>> network = DeepSpeech(Model(hidden=16, layers=1))
    >>> save_model("model.asr", network, CharacterTokenizer(), Frontend())
    >>> load_model("model.asr").model.dimensions.hidden
    16
    """
    import torch

    from asr.sparse.state_dict import to_arrays

    metadata = Metadata(
        model=model.dimensions,
        frontend=frontend,
        tokenizer=tokenizer.to_plain(),
        training=extra or {},
        buffers=[name for name, _ in model.named_buffers()],
    )
    write(path, to_arrays(model, torch.float32), metadata.to_plain(), compress=False)


def read_model(path: str | Path) -> ModelFile:
    """A model file in one pass, its sparse matrices as `CsrMatrix` without a dense copy; no torch.

    Raises AsrError for what is not a model file (a training checkpoint too), for a damaged file,
    and for a tokenizer that does not fit the network.
    """
    tensors, header = read_csr_and_header(path)
    return replace(_checked(path, tensors, header.metadata), digest=header.digest)


def read_without_tensors(path: str | Path) -> ModelFile:
    """A model file but for its tensors, whose bytes are not read. Raises as `read_model`."""
    header = read_header(path)
    return replace(_checked(path, {}, header.metadata), digest=header.digest)


def load_model(path: str | Path) -> TorchModel:
    """The torch network of a model file, dense or packed, with its tokenizer and frontend.

    Raises AsrError as `read_model` does, and for weights that do not fit the dimensions.
    """
    return build_torch(_checked(path, *read(path)))


def build_torch(file: ModelFile) -> TorchModel:
    """The torch network of a model file that has been read, on the CPU, in evaluation mode.

    Raises AsrError for weights that do not fit the dimensions.
    """
    with naming(file.path):
        model = _build(file.metadata.model, file.dense())
    return TorchModel(model, file.tokenizer, file.metadata.frontend, file.metadata)


def load_weights(path: str | Path) -> "dict[str, torch.Tensor]":
    """All tensors of a model file, dense or packed, by their names in `state_dict()`.

    Tied tensors share memory under each of their names. Names and shapes are not compared with
    any network: that is the caller's part. Raises AsrError.
    """
    tensors, plain = read(path)
    with naming(path):
        Metadata.from_plain(plain)
    return _to_torch(tensors)


def copy_with_training(source: str | Path, target: str | Path, extra: dict[str, Any]) -> None:
    """Write a model file again, `extra` added to `metadata.training`, the weights bit by bit.

    `source` and `target` may be the same file. Raises AsrError if `source` is not a model.
    """
    tensors, plain = read(source)
    with naming(source):
        packed = Metadata.from_plain(plain).packed
    plain["training"] |= extra
    if packed is None:
        write(target, tensors, plain, compress=False)
    else:
        write(target, tensors, plain, packed)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """An AsrError from within begins with the file's name."""
    try:
        yield
    except AsrError as error:
        raise AsrError(f"{path}: {error}") from None


def _checked(
    path: str | Path, tensors: Mapping[str, CsrMatrix | Array], plain: dict[str, Any]
) -> ModelFile:
    from asr.text.tokenizer import Tokenizer

    with naming(path):
        metadata = Metadata.from_plain(plain)
        tokenizer = Tokenizer.from_plain(metadata.tokenizer)
        if tokenizer.size != metadata.model.outputs:
            raise AsrError(
                f"its tokenizer has {tokenizer.size} tokens, its network {metadata.model.outputs} "
                "outputs"
            )
    return ModelFile(str(path), metadata, tokenizer, tensors)


def _to_torch(tensors: Mapping[str, Array]) -> "dict[str, torch.Tensor]":
    import torch

    made = {id(array): torch.from_numpy(array) for array in tensors.values()}
    return {name: made[id(array)] for name, array in tensors.items()}


def _build(dimensions: Model, tensors: dict[str, Array]) -> "DeepSpeech":
    """A network around the arrays, which become its parameters without a copy."""
    import torch

    from asr.model.torch_network import DeepSpeech

    # The file may come from a stranger: nothing is built until its tensors have the shapes that
    # its dimensions ask for.
    check_layers(dimensions, tensors)
    found = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
    for name, shape in parameter_shapes(dimensions).items():
        check_tensor(name, found.get(name), (shape, "float32"))
    with torch.device("meta"):
        model = DeepSpeech(dimensions)
    expected = {
        name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in model.state_dict().items()
    }
    for name in expected | found:
        check_tensor(name, found.get(name), expected.get(name))
    model.load_state_dict(_to_torch(tensors), assign=True)
    return model.eval()
