"""The metadata of a model file, all but its weights: plain values, checked when read; no torch."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.sparse.formats import Values

KIND = "asr.model"
"""In every file, so that files of other programs are recognised; never renamed."""

T = TypeVar("T")


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
        rest = {key: value for key, value in plain.items() if key != "kind"}
        _check_fields(Metadata, rest, "metadata")
        metadata = Metadata(
            **rest
            | {
                "model": _settings(Model, rest["model"], "model"),
                "frontend": _settings(Frontend, rest["frontend"], "frontend"),
            }
        )
        if metadata.model.mels != metadata.frontend.mels:
            raise AsrError(
                f"its network takes {metadata.model.mels} mels, its frontend makes "
                f"{metadata.frontend.mels}"
            )
        if not isinstance(metadata.tokenizer.get("kind"), str):
            raise AsrError("its tokenizer has no kind")
        return metadata


def _settings(kind: type[T], plain: dict[str, Any], where: str) -> T:
    _check_fields(kind, plain, where)
    try:
        return kind(**plain)
    except (ArithmeticError, ValueError) as error:  # numbers beyond all reason
        raise AsrError(f"{where}: {error}") from None


def _check_fields(kind: type, plain: dict[str, Any], where: str) -> None:
    hints = get_type_hints(kind)
    differing = set(plain) ^ set(hints)
    if differing:
        names = ", ".join(repr(name)[:40] for name in sorted(differing)[:5])
        raise AsrError(
            f"{where}: settings missing or unknown to this version of asr: {names}; "
            "use the version that wrote the file, or save it again with this one"
        )
    for name, hint in hints.items():
        if not _fits(plain[name], hint):
            raise AsrError(f"{where}.{name}: a wrong type of value")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has the type that a field of the settings declares."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(v, get_args(hint)[0]) for v in value)
    if origin is dict or dataclasses.is_dataclass(hint):
        return isinstance(value, dict)
    if origin is not None:  # a union
        return any(_fits(value, option) for option in get_args(hint))
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
