"""Timing: the machine must be idle, contestants take turns, records go on where they ended."""

import json
import time
from pathlib import Path

import pytest

from asr.benchmark import book as books
from asr.benchmark import load_monitor as idle
from asr.benchmark import timing as measure
from asr.benchmark.book import Book, read_book
from asr.benchmark.load_monitor import Watch
from asr.benchmark.script import start
from asr.benchmark.timing import interleave
from asr.errors import AsrError


class FakeWatch:
    """Other programs that use a given share in each round."""

    shares: list[float]

    def others(self) -> float:
        return FakeWatch.shares.pop(0)


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    FakeWatch.shares = []
    monkeypatch.setattr(idle, "Watch", FakeWatch)
    monkeypatch.setattr(measure, "WINDOW_SECONDS", 0.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return FakeWatch.shares


def test_what_other_programs_used_is_the_work_of_the_system_less_our_own(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    # user nice system idle iowait irq softirq steal guest: idle time and waiting are no work
    stat.write_text("cpu 100 0 100 5000 70 0 0 0 0 0\ncpu0 1 1 1 1\n")
    watch = Watch(stat)
    time.sleep(0.2)
    stat.write_text("cpu 200 50 200 9000 990 25 25 100 0 0\ncpu0 1 1 1 1\n")
    others = watch.others()
    assert others is not None
    assert others == pytest.approx(4.0 / 0.2, rel=0.2)  # 400 ticks of a hundredth second
    watch = Watch(stat)
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        pass
    assert watch.others() == 0.0  # our own work, which this file knows nothing of
    assert Watch(tmp_path / "none").others() is None


def test_contestants_take_turns_and_the_first_call_is_not_timed(shares: list[float]) -> None:
    shares += [0.0, 0.01, 0.02]
    order: list[str] = []
    found = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, 0.0)
    assert found.timings["a"].calls == found.timings["b"].calls == 3
    assert order == ["a", "b", *"ab", *"ba", *"ab"]
    assert found.others == 0.02
    assert not found.busy


def test_a_round_beside_other_programs_is_measured_again(shares: list[float]) -> None:
    shares += [0.5, 0.0, 0.9, 0.0]
    found = interleave({"a": lambda: None}, 2, 0.0)
    assert found.timings["a"].calls == 2
    assert found.others == 0.0


def test_a_busy_machine_gives_no_figures_unless_that_is_allowed(shares: list[float]) -> None:
    shares += [0.5] * measure.ATTEMPTS
    with pytest.raises(AsrError, match=r"other programs use 50% of a core.*--allow-busy"):
        interleave({"a": lambda: None}, 1, 0.0)
    shares += [0.5]
    assert interleave({"a": lambda: None}, 1, 0.0, allow_busy=True).busy


def test_a_hopeless_contestant_is_timed_once(
    shares: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares += [0.0] * 3
    monkeypatch.setattr(measure, "SLOW_SECONDS", 0.001)
    calls: list[int] = []

    def slow() -> None:
        calls.append(1)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass

    found = interleave({"quick": lambda: None, "slow": slow}, 3, 0.0)
    assert len(calls) == 2  # to warm up, and timed
    assert found.timings["slow"].calls == 1
    assert found.timings["slow"].seconds > 0.002
    assert found.timings["quick"].calls == 3
    shares += [0.0] * 3
    contestants = {"quick": lambda: None, "slow": slow}
    found = interleave(contestants, 3, 0.0, kinds={"quick": "sparse", "slow": "dense"})
    assert found.timings["slow"].calls == 3  # the quickest of its kind


def test_median_and_quartiles_are_those_of_the_calls() -> None:
    timing = measure._timing([(wall, 0.5) for wall in (4.0, 1.0, 2.0, 3.0, 5.0)])
    assert (timing.low, timing.seconds, timing.high) == (2.0, 3.0, 4.0)
    assert timing.cpu_seconds == 0.5


def test_a_record_goes_on_and_marks_what_was_measured_on_a_busy_machine(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    book = Book.open("x", path, "python x.py", quick=False, again=False)
    book.add("one", {"results": [{"name": "a", "seconds": 1 / 3}, {"name": "b"}]}, 0.01)
    book.add("two", {"results": [{"name": "a", "seconds": float("nan")}]}, 0.5)
    found = read_book(path)
    assert found.name == "x"
    assert [part["busy"] for part in found.parts.values()] == [False, True]
    assert found.parts["one"]["results"][0] == {"name": "a", "seconds": 0.33333}
    assert found.parts["two"]["results"][0]["seconds"] is None
    assert {"machine", "git", "versions", "date", "command"} <= set(found.parts["one"])
    lines = path.read_text().splitlines()
    assert sum(line.strip().startswith('{"name":') for line in lines) == 3
    assert set(Book.open("x", path, "", False, again=False).parts) == {"one", "two"}
    assert not Book.open("x", path, "", False, again=True).parts


def test_what_is_no_record_of_a_benchmark_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"schema": books.SCHEMA + 1, "benchmark": "x", "parts": {}}))
    with pytest.raises(AsrError, match="no benchmark's record of schema"):
        read_book(path)
    path.write_text("{")
    with pytest.raises(AsrError, match="cannot be read"):
        read_book(path)


def test_nothing_is_measured_without_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.benchmark.script.library", lambda: None)
    with pytest.raises(AsrError, match="C library of the sparse kernels is not built"):
        start("x", "", [])
    assert start("x", "", [], timed=False).book.path is not None


def test_a_busy_machine_is_refused_before_anything_is_prepared(
    shares: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.benchmark.script.library", object)
    shares += [0.3, 0.01]
    with pytest.raises(AsrError, match=r"other programs use 30% of a core: stop them"):
        start("x", "", [])
    assert not start("x", "", []).allow_busy
    assert start("x", "", ["--allow-busy"]).allow_busy


def test_quick_figures_are_written_only_where_one_asks_for_them(tmp_path: Path) -> None:
    assert start("x", "", ["--quick"], timed=False).book.path is None
    script = start("x", "", ["--quick", "--output", str(tmp_path)], timed=False)
    assert script.book.path == tmp_path / "x.json"
    assert str(tmp_path) not in script.book.command
