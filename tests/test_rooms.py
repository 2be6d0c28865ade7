"""Which room of `asr` may import which: every import of the code against the table in DESIGN.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

BASE = ("errors", "files", "environment", "plain")
DOORS = ("__init__", "__main__")
"""`asr/__init__.py` fetches lazily from every room, `asr/__main__.py` is the command line."""


def table() -> dict[str, set[str]]:
    """Room -> rooms and root modules that it may import, as DESIGN.md prints it."""
    text = (ROOT / "recipes" / "DESIGN.md").read_text()
    rows = re.search(r"<!-- rooms -->(.*)<!-- /rooms -->", text, re.DOTALL)
    assert rows is not None
    allowed: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (\w+) \| (.+) \|$", rows[1], re.MULTILINE)[1:]:
        names = {name.strip() for name in row[1].split(",")}
        allowed[row[0]] = names - {"base"} | (set(BASE) if "base" in names else set())
    return allowed


def files() -> list[Path]:
    return sorted((ROOT / "asr").rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "asr").with_suffix("").parts
    return parts[0]


def modules() -> dict[str, Path]:
    named = {}
    for path in files():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        named[name.removesuffix(".__init__")] = path
    return named


def imports(path: Path, known: dict[str, Path], typing: bool = True) -> Iterator[str]:
    """Modules of `asr` that a file imports, at its top or inside a function."""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not typing:
            skipped |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in known:
                    yield full
                elif node.module in known:
                    yield str(node.module)


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(path) for path in files()} - set(DOORS) - set(BASE)
    assert rooms == set(table()) - {"base"}


@pytest.mark.parametrize("room", [*table()])
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    known, allowed = modules(), table()[room]
    wrong = []
    for path in files():
        here = room_of(path)
        if here != room and not (room == "base" and here in BASE):
            continue
        for module in imports(path, known):
            target = module.split(".")[1] if "." in module else "asr"
            if target not in (allowed | {here, "asr"}):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_through_others() -> None:
    known = modules()
    graph = {
        name: {m for m in imports(path, known, typing=False) if m != name and m != "asr"}
        for name, path in known.items()
        if name != "asr"
    }
    finished: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in finished:
            return
        for target in sorted(graph[name]):
            # A package's own door imports its modules; they may name the door's neighbours.
            if not name.startswith(target + "."):
                visit(target, (*trail, name))
        finished.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_the_tree_keeps_its_limits() -> None:
    assert len(list((ROOT / "asr").glob("*.py"))) <= 8
    classes: dict[str, list[str]] = {}
    for path in files():
        source = path.read_text()
        assert source.count("\n") <= 400, f"{path}: over 400 lines"
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= 60, f"{path}: {node.name} has {lines} lines"
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, []).append(str(path))
    twice = {name: places for name, places in classes.items() if len(places) > 1}
    assert not twice
