"""Plain values, as JSON and YAML give them, to dataclasses and back: the one typed reader.

Settings, the metadata of model files, records of runs and the descriptions of pretrained
recognisers are all read here. A reader collects every mistake before it stops, each under its
key: a wrong type, a missing key, an unknown key with the nearest known one, and what the
dataclass itself refuses when it is made.
"""

import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from asr.errors import AsrError, Check

T = TypeVar("T")
Number = TypeVar("Number", int, float)

_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}

_TOO_LARGE = 2**63


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with plain values."""

    key: str
    """Where: names joined by dots, indices in brackets; empty for the whole."""
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text


@dataclass
class Reader:
    """Reads plain values as the types that dataclasses declare.

    Understands nested dataclasses, `Literal`, unions, `list[X]`, `tuple[X, ...]`, `tuple[X, Y]`,
    `dict[str, X]`, `Any`, and str, int, float, bool. A whole number is accepted where a float is
    declared; true and false are never numbers; NaN, infinity and whole numbers beyond 64 bits are
    never read.
    """

    missing: Literal["default", "refuse"] = "default"
    """A key that is not there: the field's default, an error if it has none; or always an error."""
    unknown: Literal["refuse", "ignore"] = "refuse"
    """A key that the dataclass does not have: an error, or left alone."""
    problems: list[Problem] = dataclasses.field(default_factory=list)
    """What was found wrong so far."""

    def read(self, kind: Any, value: Any, key: str = "") -> Any:
        """`value` as `kind`; what does not fit is added to `problems`, and None takes its place."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any:
            return value
        if origin in (typing.Union, types.UnionType):
            return self._union(arguments, value, key)
        if origin is Literal:
            if any(type(value) is type(known) and value == known for known in arguments):
                return value
            return self._refuse(f"expected one of {', '.join(map(repr, arguments))}", value, key)
        if dataclasses.is_dataclass(kind):
            return self._dataclass(typing.cast(type, kind), value, key)
        if origin is dict:
            if isinstance(value, dict):
                return {k: self.read(arguments[1], v, _join(key, k)) for k, v in value.items()}
            return self._refuse("expected a group of keys", value, key)
        if origin in (list, tuple):
            return self._sequence(origin, arguments, value, key)
        return self._scalar(kind, value, key)

    def _scalar(self, kind: Any, value: Any, key: str) -> Any:
        if kind is float and type(value) is int:
            value = _to_float(value)
        if kind is int and type(value) is int and abs(value) >= _TOO_LARGE:
            return self._refuse("expected a whole number of at most 64 bits", value, key)
        if type(value) is kind and (kind is not float or math.isfinite(value)):
            return value
        quotes = "; put it in quotes" if kind is str and type(value) in (int, float, bool) else ""
        return self._refuse(f"expected {_NAMES.get(kind, kind)}", value, key, quotes)

    def _sequence(self, origin: Any, arguments: tuple[Any, ...], value: Any, key: str) -> Any:
        if not isinstance(value, list | tuple):
            return self._refuse("expected a list, which is written as [a,b]", value, key)
        if origin is list or arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        if len(arguments) != len(value):
            return self._refuse(f"expected a list of {len(arguments)}", value, key)
        pairs = enumerate(zip(arguments, value, strict=True))
        return origin([self.read(kind, item, f"{key}[{i}]") for i, (kind, item) in pairs])

    def _union(self, options: tuple[Any, ...], value: Any, key: str) -> Any:
        """The first option that fits; if only one is not None, its mistakes are the mistakes."""
        real = [option for option in options if option is not type(None)]
        if value is None and len(real) < len(options):
            return None
        if len(real) == 1:
            return self.read(real[0], value, key)
        for option in real:
            trial = Reader(self.missing, self.unknown)
            result = trial.read(option, value, key)
            if not trial.problems:
                return result
        return self._refuse(f"expected {' or '.join(map(_name_of, real))}", value, key)

    def _dataclass(self, kind: type[T], value: Any, key: str) -> T | None:
        if not isinstance(value, dict):
            return self._refuse("expected a group of keys", value, key)
        before = len(self.problems)
        hints = typing.get_type_hints(kind)
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]
        known = [field.name for field in fields if field.init]
        if self.unknown == "refuse":
            for name in value:
                if name not in known:
                    self.problems.append(Problem(_join(key, name), _unknown(name, known)))
        values = {}
        for field in fields:
            if field.name in value:
                values[field.name] = self.read(
                    hints[field.name], value[field.name], _join(key, field.name)
                )
            elif self.missing == "refuse" or not _has_default(field):
                self.problems.append(Problem(_join(key, field.name), "missing"))
        if len(self.problems) > before:
            return None
        try:
            return kind(**values)
        except AsrError as error:
            self.problems += [_from_line(key, line) for line in str(error).splitlines()]
        except (ArithmeticError, ValueError) as error:  # numbers too large to compute with
            self.problems.append(Problem(key, str(error)))
        return None

    def _refuse(self, expected: str, value: Any, key: str, advice: str = "") -> Any:
        self.problems.append(Problem(key, f"{expected}, found {value!r:.60}{advice}"))


def to_plain(value: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries of plain values, ready for YAML or JSON."""
    return dataclasses.asdict(value)


def read_numbers(name: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    """The numbers of a text such as `1,1,2`. Raises AsrError naming the option `name`."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise AsrError(f"{name}={text!r}: numbers with commas between them") from None


def _name_of(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


UNUSED = "does nothing without"
"""How a message of `refuse_unused` goes on after the field and its value."""
Unused = tuple[tuple[str, ...], bool, str]
"""Fields, whether they do something, and what makes them do something."""


def refuse_unused(check: Check, section: str, values: Any, *table: Unused) -> None:
    """Refuse fields of the dataclass `values` that were changed and would be ignored.

    For use in `__post_init__`, with one row for each condition:
    `(("noise_folder",), self.noise_probability > 0, "augment.noise_probability above 0")`.
    """
    defaults = {field.name: default_of(field) for field in dataclasses.fields(values)}
    for names, used, needed in table:
        for name in names:
            value, default = getattr(values, name), defaults[name]
            check(
                used or value == default,
                f"{section}.{name}={value} {UNUSED} {needed}: set that, or leave "
                f"{name} at {default!r}",
            )


def at_most(check: Check, section: str, values: Any, **limits: float) -> None:
    """Refuse fields of the dataclass `values` above their limit, and NaN; of a list, any item.

    For use in `__post_init__`: `at_most(check, "training", self, epochs=1_000_000)`. The limits
    are beyond all use: a number above them is a mistake, and would end in a full memory, an
    overflow or no end at all.
    """
    for name, limit in limits.items():
        value = getattr(values, name)
        check(_below(value, limit), f"{_join(section, name)}={value}: at most {limit:,}")


def _below(value: Any, limit: float) -> bool:
    if isinstance(value, list):
        return all(_below(item, limit) for item in value)
    return bool(value <= limit)


def meanings(kind: type) -> dict[str, str]:
    """What each field of a dataclass means: the string under it in the source, on one line."""
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


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field; `dataclasses.MISSING` if it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _join(key: str, name: Any) -> str:
    """`key.name`; an unprintable name is written with escapes."""
    word = name if isinstance(name, str) and name.isprintable() else repr(name)
    return f"{key}.{word:.60}" if key else f"{word:.60}"


def _unknown(name: Any, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(str(name), known, n=1)
    if close:
        return f"unknown. Did you mean: {close[0]!r}?"
    return f"unknown. Known here: {', '.join(known)}"


def _from_line(key: str, line: str) -> Problem:
    """A problem at `key`, unless the line names that key itself (`model.hidden=0: at least 1`)."""
    if not key or line.startswith((f"{key}.", f"{key}:", f"{key}=")):
        return Problem("", line)
    return Problem(key, line)


def _to_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
