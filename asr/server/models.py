"""The models that are served, by name: each file loaded once and shared by all threads."""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.model.info import describe
from asr.pretrained import registry
from asr.server.errors import ApiError
from asr.server.options import ServerOptions
from asr.transcribe.recogniser import Recogniser, load_for_command

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})=(.+)")
_NAMES = (("english", "en", "eng"),)
"""Name and codes of ISO 639 of the languages of the recognisers in the package."""


@dataclass(frozen=True)
class ServedModel:
    """A recogniser and what clients are told of it."""

    name: str
    recogniser: Recogniser
    language: str
    """In lower case; empty if it is not known."""
    bytes: int
    parameters: int
    nonzeros: int
    created: int
    """When its file was written, in seconds since 1970."""
    default: bool
    exact: bool
    """Whether a stream of it ends with the text of the whole recording."""

    @property
    def sparse(self) -> bool:
        """Whether most of its weights are zero."""
        return self.nonzeros < self.parameters / 2

    def speaks(self, language: str) -> bool:
        """Whether a request may name this language: by its name or code, with a region or not."""
        own = _without_region(self.language)
        same = next((names for names in _NAMES if own in names), (own,))
        return _without_region(language) in same

    def to_plain(self) -> dict[str, Any]:
        """An entry of OpenAI's list of models, and what is ours."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "asr",
            "bytes": self.bytes,
            "parameters": self.parameters,
            "nonzeros": self.nonzeros,
            "sparse": self.sparse,
            "streaming": "exact" if self.exact else "windows",
            "default": self.default,
        }


class Models:
    """All models that are served. Raises AsrError as `load` does, and for a name given twice."""

    def __init__(self, options: ServerOptions) -> None:
        self.by_name: dict[str, ServedModel] = {}
        loaded: dict[Path, Recogniser] = {}
        for given in options.models or (registry.DEFAULT,):
            name, model = _named(given)
            if name in self.by_name:
                raise AsrError(f"{given}: there is a model {name} already; give it as NAME={model}")
            served = _served(name, model, options, loaded, default=not self.by_name)
            self.by_name[name] = served
        self.default = next(iter(self.by_name.values()))

    def find(self, name: str | None) -> ServedModel:
        """The model of this name, the default for None. Raises ApiError."""
        if not name:
            return self.default
        if name not in self.by_name:
            known = ", ".join(self.by_name)
            message = f"The model {name[:64]!r} does not exist; this server has {known}"
            raise ApiError(404, message, "model", "model_not_found")
        return self.by_name[name]


def _named(given: str) -> tuple[str, str]:
    """Name and model of `NAME=MODEL`, of a name, or of a file, whose name is that of the file."""
    found = None if Path(given).is_file() else _NAMED.fullmatch(given)
    if found:
        return found[1], found[2]
    known = registry.named(given)
    return (known.name if known else Path(given).stem), given


def _without_region(language: str) -> str:
    """`en` for `en-US` and `EN_us`."""
    return re.split("[-_]", language.lower(), maxsplit=1)[0]


def _served(
    name: str, model: str, options: ServerOptions, loaded: dict[Path, Recogniser], default: bool
) -> ServedModel:
    pretrained = registry.named(model)
    path = registry.resolve(model)
    key = path.resolve()
    if key not in loaded:
        decoding = registry.decoding(model, options.decoding)
        loaded[key] = load_for_command(model, options.threads, decoding=decoding)
    described = describe(path)
    language = pretrained.description.language if pretrained else options.language
    created = path.stat().st_mtime if path.exists() else time.time()
    return ServedModel(
        name,
        loaded[key],
        language.lower(),
        described.bytes,
        described.parameters.elements,
        described.parameters.nonzeros,
        int(created),
        default,
        loaded[key].stream().exact,
    )
