"""The metadata of a model file, all but its weights: plain values, checked when read; no torch."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.plain import Reader
from asr.sparse.formats import Values

KIND = "asr.model"
"""In every file, so that files of other programs are recognised; never renamed."""


@dataclass(frozen=True)
class Metadata:
    """Everything that a network is rebuilt from, except its weights."""

    model: Model
    frontend: Frontend
    tokenizer: dict[str, Any]
    """As `Tokenizer.to_plain()` returns it; `kind` is always there."""
    training: dict[str, Any] = field(default_factory=dict)
    """Provenance of the training and the calibration of confidence; not needed to rebuild it."""
    buffers: list[str] = field(default_factory=list)
    """Names of the tensors that are not parameters, such as the running means of a norm."""
    packed: Values | None = None
    """Type of the packed weights; None: the file is dense."""
    folded: bool = False
    """The batch norms were multiplied into the weights."""

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON values; numbers in `training` that are not finite become null."""
        plain = {"kind": KIND} | dataclasses.asdict(self)
        return plain | {"training": _finite(self.training)}

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> "Metadata":
        """The metadata of a file. Raises AsrError if it is another program's or malformed."""
        if plain.get("kind") != KIND:
            raise AsrError("holds tensors, but not a model of asr")
        reader = Reader(missing="refuse")
        metadata = reader.read(Metadata, {k: v for k, v in plain.items() if k != "kind"})
        if metadata is None:
            listed = "; ".join(str(problem) for problem in reader.problems[:5])
            raise AsrError(
                f"its metadata do not fit this version of asr: {listed}. Use the version that "
                "wrote the file, or save it again with this one"
            )
        if metadata.model.mels != metadata.frontend.mels:
            raise AsrError(
                f"its network takes {metadata.model.mels} mels, its frontend makes "
                f"{metadata.frontend.mels}"
            )
        if not isinstance(metadata.tokenizer.get("kind"), str):
            raise AsrError("its tokenizer has no kind")
        return metadata


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
