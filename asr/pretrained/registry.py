"""The recognisers that come with the package: what there is, where it lies, how it reads best.

Four files a recogniser, beside this one: the packed network `NAME.asr`, its language model
`NAME.lm`, the card `NAME.md` for people and `NAME.json` for this module. `recipes/ship.py` writes
them. Nothing here imports more than the standard library until decoder options are asked for.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError

if TYPE_CHECKING:
    from asr.decode import DecoderOptions

DEFAULT = "english"
"""The recogniser of those who ask for none."""
SCHEMA = 1
"""Version of `NAME.json`."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TUNED = ("lm_weight", "word_bonus", "unknown_score")
"""Decoder options that hold for one language model only."""


@dataclass(frozen=True)
class Shipped:
    """A recogniser of the package."""

    name: str
    language: str
    """As people call it, such as `English`."""
    model: Path
    """The packed network."""
    lm: Path
    """Its word language model."""
    card: Path
    """What people should know before they use it, in Markdown."""
    decoder: Mapping[str, Any]
    """The decoder options that it reads best with, but for `lm`."""
    figures: Mapping[str, Any]
    """`parameters`, `nonzeros`, and what was measured: `wer` by decoder and test set, fractions."""

    @property
    def bytes(self) -> int:
        """Of the network and the language model."""
        return self.model.stat().st_size + self.lm.stat().st_size

    def decoding(self) -> "DecoderOptions":
        """The decoder options that it reads best with."""
        return decoding(self.name, {})

    def table(self) -> str:
        """What there is to know before one opens the card."""
        parameters, nonzeros = (self.figures[n] for n in ("parameters", "nonzeros"))
        rows = [
            ("language", self.language),
            (
                "network",
                f"{self.model.stat().st_size:,} bytes, {nonzeros:,} of {parameters:,} weights not "
                f"zero ({1 - nonzeros / parameters:.1%} zeros)",
            ),
            ("language model", f"{self.lm.stat().st_size:,} bytes"),
            *(
                (f"word errors, {decoder}", ", ".join(f"{s} {r:.1%}" for s, r in rates.items()))
                for decoder, rates in self.figures.get("wer", {}).items()
            ),
            ("lies in", str(self.model.parent)),
            ("card", f"asr info {self.name}"),
        ]
        width = max(len(key) for key, _ in rows) + 2
        return "\n".join([self.name, *(f"  {key:{width}}{value}" for key, value in rows)])


def names() -> list[str]:
    """Names of the recognisers that come with the package."""
    return sorted(path.stem for path in _folder().glob("*.json"))


def find(name: str) -> Shipped:
    """The recogniser of this name.

    Raises AsrError if there is none, which lists what there is, and if its files are not whole.
    """
    if name not in names():
        raise AsrError(f"{name}: no model of this name comes with asr; there is {_listed()}")
    return read(_folder() / f"{name}.json")


def read(description: Path) -> Shipped:
    """The recogniser that a file `NAME.json` describes.

    Raises AsrError if it is no such file, or a file beside it is missing or not of its size.
    """
    try:
        plain = json.loads(description.read_text(encoding="utf-8"))
        if plain["schema"] != SCHEMA:
            raise ValueError(f"its schema is {plain['schema']}, not {SCHEMA}")
        files = {kind: description.with_name(plain[kind]["file"]) for kind in ("model", "lm")}
        shipped = Shipped(
            name=plain["name"],
            language=plain["language"],
            card=description.with_suffix(".md"),
            decoder=plain["decoder"],
            figures=plain["figures"],
            **files,
        )
        for kind, path in files.items():
            if path.stat().st_size != plain[kind]["bytes"]:
                raise ValueError(f"{path.name} is not of the size that it says")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AsrError(f"{description}: damaged; install asr again ({error})") from None
    return shipped


def named(model: str | Path | None) -> Shipped | None:
    """The recogniser that is meant, `DEFAULT` for None; None if it is a file of somebody's own.

    A file goes before a name. Raises AsrError for a name, without suffix or folder, of neither.
    """
    if model is None:
        return find(DEFAULT)
    if not _NAME.fullmatch(str(model)) or os.path.isfile(model):  # which takes any name
        return None
    if str(model) not in names():
        raise AsrError(
            f"{model}: neither a file nor the name of a model that comes with asr; there is "
            f"{_listed()}"
        )
    return find(str(model))


def resolve(model: str | Path | None) -> Path:
    """The model file that is meant. Raises AsrError as `named` does."""
    shipped = named(model)
    return shipped.model if shipped else Path(str(model))


def decoding(model: str | Path | None, given: Mapping[str, Any]) -> "DecoderOptions":
    """Decoder options for a model file or name, of which a person gave those in `given`.

    A recogniser of the package brings its own, where no other decoder is asked for; what was tuned
    for its language model falls to another one's usual values. Raises AsrError for what does not
    go together.
    """
    from asr.decode import DecoderOptions

    shipped = named(model)
    if shipped is None or given.get("decoder", "beam") != "beam":
        return DecoderOptions(**given)
    own = {**shipped.decoder, "lm": str(shipped.lm)}
    if "lm" in given:
        own = {name: value for name, value in own.items() if name not in _TUNED}
    return DecoderOptions(**{**own, **given})


def card(model: str | Path | None) -> str:
    """The card of a model, which lies beside it in a file of the same name and suffix `.md`.

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
