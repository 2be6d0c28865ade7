"""The recognisers in the package: their names, files and tuned decoder options.

A recogniser is four files beside this one: the packed network `NAME.asr`, its language model
`NAME.lm`, the card `NAME.md` for people and `NAME.json`, which is read here. They are written by
`recipes/shipped/package.py`. This module imports only the standard library until decoder options
are made.
"""

import functools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError
from asr.plain import Reader

if TYPE_CHECKING:
    from asr.decode import DecoderOptions

DEFAULT = "english"
"""The recogniser that is used when none is named."""
SCHEMA = 1
"""Version of `NAME.json`."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TUNED = ("lm_weight", "word_bonus", "unknown_score", "prior_weight")
"""Decoder options that were tuned for one language model."""


@dataclass(frozen=True)
class PackagedFile:
    """A file of the package, as `NAME.json` lists it."""

    file: str
    """Its name, in the folder of `NAME.json`."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class PretrainedFigures:
    """What was counted and measured of a recogniser."""

    parameters: int
    nonzeros: int
    wer: dict[str, dict[str, float]] = field(default_factory=dict)
    """Word error rates, fractions, by decoder and test set."""


@dataclass(frozen=True)
class PretrainedDescription:
    """The content of `NAME.json`."""

    schema: int
    name: str
    language: str
    """In words, such as `English`."""
    model: PackagedFile
    """The packed network."""
    lm: PackagedFile
    """Its word language model."""
    decoder: dict[str, Any]
    """Its tuned decoder options, all but `lm`."""
    figures: PretrainedFigures


@dataclass(frozen=True)
class Pretrained:
    """A recogniser of the package."""

    description: PretrainedDescription
    folder: Path
    """Where its files are."""

    @property
    def name(self) -> str:
        """The name that `asr transcribe -m NAME` takes."""
        return self.description.name

    @property
    def figures(self) -> PretrainedFigures:
        """What was counted and measured."""
        return self.description.figures

    @property
    def model(self) -> Path:
        """The packed network."""
        return self.folder / self.description.model.file

    @property
    def lm(self) -> Path:
        """Its word language model."""
        return self.folder / self.description.lm.file

    @property
    def card(self) -> Path:
        """The model card, in Markdown."""
        return self.folder / f"{self.name}.md"

    @property
    def bytes(self) -> int:
        """Size of the network and the language model."""
        return self.description.model.bytes + self.description.lm.bytes

    @property
    def options(self) -> dict[str, Any]:
        """Its tuned decoder options, by name."""
        return {**self.description.decoder, "lm": str(self.lm)}

    def decoding(self, given: Mapping[str, Any] | None = None) -> "DecoderOptions":
        """Decoder options, those of this recogniser but for what a person has `given`.

        Another decoder takes none of them; what was tuned for its language model is left at the
        usual values for another one. Raises AsrError for options that exclude each other.
        """
        from asr.decode import DecoderOptions

        given, own = given or {}, self.options
        if "decoder" in given and given["decoder"] != own.get("decoder"):
            return DecoderOptions(**given)
        if "lm" in given:
            own = {name: value for name, value in own.items() if name not in _TUNED}
        return DecoderOptions(**{**own, **given})

    def table(self) -> str:
        """A summary for a terminal; the card says more."""
        figures, model = self.figures, self.description.model
        zeros = 1 - figures.nonzeros / figures.parameters
        rows = [
            ("language", self.description.language),
            (
                "network",
                f"{model.bytes:,} bytes, {figures.nonzeros:,} of {figures.parameters:,} weights "
                f"are not zero ({zeros:.1%} zeros)",
            ),
            ("language model", f"{self.description.lm.bytes:,} bytes"),
            *(
                (f"WER, {decoder}", ", ".join(f"{s} {r:.1%}" for s, r in rates.items()))
                for decoder, rates in figures.wer.items()
            ),
            ("folder", str(self.folder)),
            ("card", f"asr info {self.name}"),
        ]
        width = max(len(key) for key, _ in rows) + 2
        return "\n".join([self.name, *(f"  {key:{width}}{value}" for key, value in rows)])


def names() -> list[str]:
    """Names of the recognisers in the package."""
    return sorted(path.stem for path in _folder().glob("*.json"))


@functools.cache
def find(name: str) -> Pretrained:
    """The recogniser of this name, whose files are read and checked once.

    Raises AsrError if there is none, with the names that exist, and if its files are not complete.
    """
    if name not in names():
        raise AsrError(f"{name}: no model of this name comes with asr; known: {_listed()}")
    return read(_folder() / f"{name}.json")


def read(path: Path) -> Pretrained:
    """The recogniser that a file `NAME.json` describes.

    Raises AsrError if the file is malformed, or if a file beside it is missing or of another size.
    """
    reader = Reader()
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(plain, dict) and plain.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {plain.get('schema')}, not {SCHEMA}")
        description: PretrainedDescription | None = reader.read(PretrainedDescription, plain)
        if description is None:
            raise ValueError("; ".join(map(str, reader.problems)))
        for listed in (description.model, description.lm):
            if path.with_name(listed.file).stat().st_size != listed.bytes:
                raise ValueError(f"{listed.file} is not of {listed.bytes} bytes")
    except (OSError, ValueError) as error:
        raise AsrError(f"{path}: damaged; install asr again ({error})") from None
    return Pretrained(description, path.parent)


def named(model: str | Path | None) -> Pretrained | None:
    """The recogniser of this name, `DEFAULT` for None; None if `model` is a path to a file.

    Where a file has the name of a recogniser, the file is meant. Raises AsrError for a word,
    without suffix or folder, that is neither.
    """
    if model is None:
        return find(DEFAULT)
    if not _NAME.fullmatch(str(model)) or os.path.isfile(model):
        return None
    if str(model) not in names():
        raise AsrError(
            f"{model}: neither a file nor the name of a model that comes with asr; known: "
            f"{_listed()}"
        )
    return find(str(model))


def resolve(model: str | Path | None) -> Path:
    """The model file of a path or a name. Raises AsrError as `named` does."""
    pretrained = named(model)
    return pretrained.model if pretrained else Path(str(model))


def decoding(model: str | Path | None, given: Mapping[str, Any]) -> "DecoderOptions":
    """Decoder options for a model file or name, of which a person gave those in `given`.

    A recogniser of the package brings its own (`Pretrained.decoding`); a model file is decoded
    greedily unless something else is given. Its name as `lm` means its language model and the
    options that were tuned for it; the prior weight is of its own network alone. Raises AsrError as
    `named` does.
    """
    from asr.decode import DecoderOptions

    lm = str(given.get("lm", ""))
    if lm in names() and not os.path.isfile(lm):
        known = find(lm)
        if given.get("decoder", "beam") == "beam":
            options = known.decoding({name: given[name] for name in given if name != "lm"})
            own = "prior_weight" in given or named(model) is known
            return options if own else replace(options, prior_weight=0.0)
        given = {**given, "lm": str(known.lm)}  # refused
    pretrained = named(model)
    return pretrained.decoding(given) if pretrained else DecoderOptions(**given)


def card(model: str | Path | None) -> str:
    """The card of a model: the file beside it with the same name and the suffix `.md`.

    Empty if there is none. Control characters of a stranger's file do not reach the terminal.
    """
    path = resolve(model).with_suffix(".md")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def table() -> str:
    """All recognisers of the package, for a terminal."""
    return "\n\n".join(find(name).table() for name in names())


def _folder() -> Path:
    # The network and its C code are opened by path, so an install is always a folder.
    return Path(str(resources.files("asr.pretrained")))


def _listed() -> str:
    return ", ".join(names()) or "none"
