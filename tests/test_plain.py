"""Plain values become dataclasses: every type, and all mistakes together with their keys."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from asr.errors import AsrError
from asr.plain import Reader, meanings, to_plain


@dataclass(frozen=True)
class Inner:
    size: int = 3
    """How many."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise AsrError(f"inner.size={self.size}: at least 1")


@dataclass(frozen=True)
class Outer:
    name: str
    """What it is
    called."""
    ratio: float = 0.5
    on: bool = False
    kind: Literal["a", "b"] = "a"
    sizes: list[int] = field(default_factory=list)
    pair: tuple[int, str] = (1, "x")
    words: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    either: int | str = 0
    table: dict[str, float] = field(default_factory=dict)
    rest: Any = None


FULL = {
    "name": "n", "ratio": 2, "on": True, "kind": "b", "sizes": [1, 2], "pair": [5, "y"],
    "words": ["v", "w"], "inner": {"size": 4}, "maybe": {"size": 5}, "either": "text",
    "table": {"q": 1}, "rest": {"any": [None, 1.5]},
}  # fmt: skip


def mistakes(value: Any, **options: Any) -> list[str]:
    reader = Reader(**options)
    assert reader.read(Outer, value) is None
    return [str(problem) for problem in reader.problems]


def test_every_type_is_read_and_written_back_the_same() -> None:
    reader = Reader(missing="refuse")
    read = reader.read(Outer, FULL)
    assert reader.problems == []
    assert (read.inner, read.maybe, read.pair) == (Inner(4), Inner(5), (5, "y"))
    assert type(read.ratio) is float
    assert type(read.table["q"]) is float
    assert Reader().read(Outer, to_plain(read)) == read


def test_values_that_are_not_given_get_their_defaults() -> None:
    assert Reader().read(Outer, {"name": "n"}) == Outer("n")
    assert mistakes({}) == ["name: missing"]
    assert mistakes({"name": "n"} | {k: FULL[k] for k in FULL if k != "on"}, missing="refuse") == [
        "on: missing"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "name: expected text, found 5; put it in quotes"),
        ({"ratio": "0.5"}, "ratio: expected a number, found '0.5'"),
        ({"ratio": True}, "ratio: expected a number, found True"),
        ({"ratio": math.nan}, "ratio: expected a number, found nan"),
        ({"ratio": 10**400}, "ratio: expected a number, found inf"),
        ({"on": 1}, "on: expected true or false, found 1"),
        ({"kind": "c"}, "kind: expected one of 'a', 'b', found 'c'"),
        ({"sizes": 3}, "sizes: expected a list, which is written as [a,b], found 3"),
        ({"sizes": [1, 2.0]}, "sizes[1]: expected a whole number, found 2.0"),
        ({"sizes": [True]}, "sizes[0]: expected a whole number, found True"),
        ({"pair": [1]}, "pair: expected a list of 2, found [1]"),
        ({"inner": 3}, "inner: expected a group of keys, found 3"),
        ({"inner": {"size": 0}}, "inner.size=0: at least 1"),
        ({"inner": {"sise": 4}}, "inner.sise: unknown. Did you mean: 'size'?"),
        ({"inner": {"zzz": 4}}, "inner.zzz: unknown. Known here: size"),
        ({"maybe": {"size": "x"}}, "maybe.size: expected a whole number, found 'x'"),
        ({"maybe": {"size": 0}}, "maybe: inner.size=0: at least 1"),
        ({"either": 1.5}, "either: expected a whole number or text, found 1.5"),
        ({"table": {"q": "x"}}, "table.q: expected a number, found 'x'"),
        ({"na\x1bme": 1}, r"'na\x1bme': unknown. Did you mean: 'name'?"),
    ],
)
def test_a_mistake_is_named_with_its_key(change: dict[str, Any], message: str) -> None:
    assert mistakes(FULL | change) == [message]


def test_all_mistakes_are_collected_those_of_ranges_too() -> None:
    broken = FULL | {"ratio": "x", "inner": {"size": 0}, "maybe": {"size": []}, "new": 1}
    assert [problem.split(":")[0] for problem in mistakes(broken)] == [
        "new", "ratio", "inner.size=0", "maybe.size",
    ]  # fmt: skip


def test_unknown_keys_can_be_ignored() -> None:
    assert Reader(unknown="ignore").read(Outer, FULL | {"new": 1}) == Reader().read(Outer, FULL)


def test_the_string_under_a_field_is_its_meaning() -> None:
    assert meanings(Outer) == {"name": "What it is called."}
    assert {f.name for f in dataclasses.fields(Inner)} == set(meanings(Inner))
