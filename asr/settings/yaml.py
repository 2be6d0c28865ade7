"""YAML files and `key=value` overrides to settings, and settings back to plain values.

OmegaConf checks keys and types; every mistake of a file is collected before one error is raised.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from asr.errors import AsrError

T = TypeVar("T")


def load(kind: type[T], path: str | Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Settings of dataclass `kind` from a YAML file and `key=value` overrides, later ones winning.

    Raises:
        AsrError: with every unknown key (and the nearest known one), wrong type and range.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    problems: list[str] = []
    given: list[tuple[str, str, Any]] = []
    if path is not None:
        given += [(str(path), key, value) for key, value in _flatten(read_yaml(Path(path)))]
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            problems.append(f"{override!r}: settings are given as key=value, as in model.hidden=64")
            continue
        if _field_type(kind, key) is str:  # as it stands: it may be empty, or look like YAML
            given.append(("command line", key, text))
            continue
        try:
            value = OmegaConf.select(OmegaConf.from_dotlist([override]), key)
        except OmegaConfBaseException as error:
            problems.append(f"{override!r}: {_first_line(error)}")
            continue
        except yaml.YAMLError:
            problems.append(
                f"{override!r}: not YAML; a text with *, : or brackets needs quotes, "
                """as in 'pruning.tensors=["*weight_hh*"]'"""
            )
            continue
        given.append(("command line", key, value))

    return _settings(kind, given, problems)


def from_mapping(kind: type[T], mapping: dict[str, Any], where: str) -> T:
    """Settings of dataclass `kind` from plain nested dictionaries; `where` names their origin.

    Raises:
        AsrError: as `load` does.
    """
    return _settings(kind, [(where, key, value) for key, value in _flatten(mapping)], [])


def _settings(kind: type[T], given: list[tuple[str, str, Any]], problems: list[str]) -> T:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    config = OmegaConf.structured(kind)
    OmegaConf.set_readonly(config, False)
    for where, key, value in given:
        try:
            _open(config, key)
            OmegaConf.update(config, key, value, merge=False)
        except OmegaConfBaseException as error:
            problems.append(f"{where}: {key}: {_first_line(error)}")
    if not problems:
        settings, problems = _build(kind, OmegaConf.to_container(config))
    if problems:
        raise AsrError("\n".join(problems))
    return settings


def to_plain(settings: Any) -> dict[str, Any]:
    """Settings as nested dictionaries of plain values, ready for YAML or JSON."""
    return dataclasses.asdict(settings)


def write_yaml(path: str | Path, settings: Any) -> None:
    """Write settings, all of them, to a YAML file that `load` reads back."""
    import yaml

    from asr.files import atomic_write_text

    atomic_write_text(path, yaml.safe_dump(to_plain(settings), sort_keys=False))


def describe(kind: type, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Rows (key, type, default, meaning) of a settings dataclass, for help texts.

    The meaning is the string that stands under the field in the source.
    """
    meanings = _field_strings(kind)
    rows = []
    for field in dataclasses.fields(kind):
        default = _default(field)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            rows += describe(type(default), f"{prefix}{field.name}.")
            continue
        name = field.type if isinstance(field.type, str) else _type_name(field.type)
        rows.append((prefix + field.name, name, repr(default), meanings.get(field.name, "")))
    return rows


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; AsrError if there is none."""
    import yaml

    if not path.is_file():
        raise AsrError(f"{path}: no such settings file")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AsrError(f"{path}: not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise AsrError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def _flatten(content: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            leaves += _flatten(value, f"{prefix}{key}.")
        else:
            leaves.append((f"{prefix}{key}", value))
    return leaves


def _open(config: Any, key: str) -> None:
    """Frozen dataclasses become read-only nodes: open those on the way to `key`."""
    from omegaconf import OmegaConf

    node = config
    for part in key.split(".")[:-1]:
        node = OmegaConf.select(node, part)
        if not OmegaConf.is_config(node):
            return
        OmegaConf.set_readonly(node, False)


def _build(kind: type[T], plain: Any) -> tuple[T, list[str]]:
    """Make the dataclass from the inside out, so that every section reports its mistakes."""
    problems: list[str] = []
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = plain[field.name]
        default = _default(field)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            value, found = _build(type(default), value)
            problems += found
        values[field.name] = value
    if problems:
        return None, problems  # type: ignore[return-value]
    try:
        return kind(**values), []
    except AsrError as error:
        return None, [str(error)]  # type: ignore[return-value]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _field_type(kind: Any, key: str) -> Any:
    """Type of the setting `key` of dataclass `kind`; None if there is no such setting."""
    for part in key.split("."):
        fields = {f.name: f.type for f in dataclasses.fields(kind)} if _is_settings(kind) else {}
        kind = fields.get(part)
    return kind


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _first_line(error: Exception) -> str:
    line = str(error).splitlines()[0]
    return "a list is written as [a,b]" if "is not a ListConfig" in line else line


def _type_name(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    return text.replace("typing.", "")


def _field_strings(kind: type) -> dict[str, str]:
    import ast
    import inspect
    import textwrap

    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, text in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found
