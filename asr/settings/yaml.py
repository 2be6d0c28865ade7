"""YAML files and `key=value` overrides to settings, and settings back to YAML.

Every mistake is collected before one error is raised, each with the file or the command line
that it comes from.
"""

import dataclasses
import functools
import operator
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.plain import UNUSED, Problem, Reader, default_of, meanings, to_plain

T = TypeVar("T")

_OVERRIDE = "command line"
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""What YAML raises: the others for a date such as 2026-99-99, other encodings, deep brackets."""


def load(
    kind: type[T],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    rest: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
) -> T:
    """Settings of dataclass `kind` from a YAML file and `key=value` overrides, later ones winning.

    An override may switch off what the file sets details of (`augment.noise_probability=0`); those
    details then fall back to their defaults. `rest` is called with all values that were given, and
    returns those to take in the place of defaults.

    Raises:
        AsrError: with every unknown key (and the nearest known one), wrong type and range.
    """
    source = _Source()
    if path is not None:
        source.add(read_yaml(Path(path)), str(path))
    of_file = Reader()
    if overrides:
        of_file.read(kind, source.values)
    mistakes: list[str] = []
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            mistakes.append(f"{override!r}: settings are given as key=value, as in model.hidden=64")
            continue
        try:
            # A text is taken as it is: it may be empty, or look like YAML.
            value = text if _field_type(kind, key) is str else yaml.load(text, _Loader)
        except _NOT_YAML:
            mistakes.append(
                f"{override!r}: not YAML; a text with *, : or brackets needs quotes, "
                """as in 'pruning.tensors=["*weight_hh*"]'"""
            )
            continue
        source.assign(key, value, _OVERRIDE)
    if overrides:
        source.drop_what_overrides_switch_off(kind, of_file.problems)
    if rest is not None:
        _complete(source.values, rest(source.values))
    return _read(kind, source, mistakes)


def from_mapping(kind: type[T], mapping: Any, where: str) -> T:
    """Settings of dataclass `kind` from plain nested dictionaries; `where` names their origin.

    Raises:
        AsrError: as `load` does.
    """
    if not isinstance(mapping, dict):
        raise AsrError(f"{where}: expected `key: value` lines, found {mapping!r:.60}")
    source = _Source()
    source.add(mapping, where)
    return _read(kind, source, [])


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; AsrError if there is none."""
    if not path.is_file():
        raise AsrError(f"{path}: no such settings file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise AsrError(f"{path}: cannot read the settings: {error.strerror}") from None
    except _NOT_YAML as error:
        raise AsrError(f"{path}: cannot be read as YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise AsrError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def write_yaml(path: str | Path, settings: Any) -> None:
    """Write settings, all of them, to a YAML file that `load` reads back."""
    atomic_write_text(path, yaml.safe_dump(to_plain(settings), sort_keys=False))


def describe(kind: type, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Rows (key, type, default, meaning) of a settings dataclass, for help texts.

    The meaning is the string under the field in the source.
    """
    texts, rows = meanings(kind), []
    for field in dataclasses.fields(kind):
        default = default_of(field)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            rows += describe(type(default), f"{prefix}{field.name}.")
            continue
        rows.append(
            (prefix + field.name, _type_name(field.type), repr(default), texts.get(field.name, ""))
        )
    return rows


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in YAML 1.2, and a key may not be listed twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        assert node is not None
        seen: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.composer.ComposerError(
                    None, None, f"{key.value!r} is listed twice", key.start_mark
                )
            seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class _Source:
    """Plain values from several places, and where each comes from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.first = ""
        """Where most values come from: named for mistakes of several keys together."""

    def add(self, mapping: dict[str, Any], origin: str, prefix: str = "") -> None:
        self.first = self.first or f"{origin}: "
        for key, value in mapping.items():
            if isinstance(value, dict) and value:
                self.add(value, origin, f"{prefix}{key}.")
            else:
                self.assign(f"{prefix}{key}", value, origin)

    def assign(self, key: str, value: Any, origin: str) -> None:
        self.origins[key] = origin
        node = self.values
        *sections, name = key.split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):  # a value where a section belongs: the reader says so
                return
        node[name] = value

    def locate(self, problem: Problem) -> str:
        """The problem, with the place where its key was given."""
        key = self._key(problem)
        return f"{self.origins[key]}: {problem}" if key else f"{self.first}{problem}"

    def drop_what_overrides_switch_off(self, kind: type, before: list[Problem]) -> None:
        """Drop values of a file that do nothing only since overrides were added."""
        reader = Reader()
        reader.read(kind, self.values)
        for problem in reader.problems:
            key = self._key(problem)
            caused = UNUSED in problem.text and problem not in before
            if key and caused and self.origins[key] != _OVERRIDE:
                *sections, name = key.split(".")
                functools.reduce(operator.getitem, sections, self.values).pop(name)

    def _key(self, problem: Problem) -> str:
        """The key that was given and is to blame; empty if there is none."""
        match = re.match(r"[\w.]+", problem.key or problem.text)
        key = match.group() if match else ""
        while key and key not in self.origins:
            key = key.rpartition(".")[0]
        return key


def _complete(values: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add what is not in nested `values` yet."""
    for key, value in more.items():
        there = values.setdefault(key, value)
        if isinstance(there, dict) and isinstance(value, Mapping):
            _complete(there, value)


def _read(kind: type[T], source: _Source, mistakes: list[str]) -> T:
    reader = Reader()
    settings = reader.read(kind, source.values)
    mistakes += [source.locate(problem) for problem in reader.problems]
    if mistakes:
        raise AsrError("\n".join(mistakes))
    return settings


def _field_type(kind: Any, key: str) -> Any:
    """Type of the setting `key` of dataclass `kind`; None if there is no such setting."""
    for part in key.split("."):
        if not dataclasses.is_dataclass(kind):
            return None
        kind = typing.get_type_hints(kind).get(part)
    return kind


def _type_name(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    return text.replace("typing.", "")
