"""Timing: the machine must be idle, and the calls take turns."""

import time
from pathlib import Path

import pytest

from asr.benchmark import timing
from asr.benchmark.timing import LoadMonitor, interleave
from asr.errors import AsrError


class FakeLoadMonitor:
    """Other programs that use a given fraction of a core in each round."""

    loads: list[float]

    def other_load(self) -> float:
        return FakeLoadMonitor.loads.pop(0)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    FakeLoadMonitor.loads = []
    monkeypatch.setattr(timing, "LoadMonitor", FakeLoadMonitor)
    monkeypatch.setattr(timing, "WINDOW_SECONDS", 0.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return FakeLoadMonitor.loads


def test_load_of_other_programs_is_that_of_the_system_minus_our_own(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    # user nice system idle iowait irq softirq steal guest: idle and waiting time do not count
    stat.write_text("cpu 100 0 100 5000 70 0 0 0 0 0\ncpu0 1 1 1 1\n")
    monitor = LoadMonitor(stat)
    time.sleep(0.2)
    stat.write_text("cpu 200 50 200 9000 990 25 25 100 0 0\ncpu0 1 1 1 1\n")
    load = monitor.other_load()
    assert load is not None
    assert load == pytest.approx(4.0 / 0.2, rel=0.2)  # 400 ticks of a hundredth second
    monitor = LoadMonitor(stat)
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        pass
    assert monitor.other_load() == 0.0  # only our own work
    assert LoadMonitor(tmp_path / "none").other_load() is None


def test_calls_take_turns_and_the_first_call_is_not_timed(loads: list[float]) -> None:
    loads += [0.0, 0.01, 0.02]
    order: list[str] = []
    found = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, 0.0)
    assert found.timings["a"].calls == found.timings["b"].calls == 3
    assert order == ["a", "b", *"ab", *"ba", *"ab"]
    assert found.other_load == 0.02
    assert not found.busy


def test_a_round_beside_other_programs_is_measured_again(loads: list[float]) -> None:
    loads += [0.5, 0.0, 0.9, 0.0]
    found = interleave({"a": lambda: None}, 2, 0.0)
    assert found.timings["a"].calls == 2
    assert found.other_load == 0.0


def test_a_busy_machine_gives_no_figures_unless_that_is_allowed(loads: list[float]) -> None:
    loads += [0.5] * timing.ATTEMPTS
    with pytest.raises(AsrError, match=r"other programs use 50% of a core.*--allow-busy"):
        interleave({"a": lambda: None}, 1, 0.0)
    loads += [0.5]
    assert interleave({"a": lambda: None}, 1, 0.0, allow_busy=True).busy


def test_a_call_that_is_far_too_slow_is_timed_once(
    loads: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads += [0.0] * 3
    monkeypatch.setattr(timing, "SLOW_SECONDS", 0.001)
    calls: list[int] = []

    def slow() -> None:
        calls.append(1)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass

    found = interleave({"fast": lambda: None, "slow": slow}, 3, 0.0)
    assert len(calls) == 2  # to warm up, and timed
    assert found.timings["slow"].calls == 1
    assert found.timings["slow"].seconds > 0.002
    assert found.timings["fast"].calls == 3
    loads += [0.0] * 3
    calls_of = {"fast": lambda: None, "slow": slow}
    found = interleave(calls_of, 3, 0.0, kinds={"fast": "sparse", "slow": "dense"})
    assert found.timings["slow"].calls == 3  # the fastest of its kind


def test_median_and_quartiles_are_those_of_the_calls() -> None:
    found = timing._timing([(wall, 0.5) for wall in (4.0, 1.0, 2.0, 3.0, 5.0)])
    assert (found.low, found.seconds, found.high) == (2.0, 3.0, 4.0)
    assert found.cpu_seconds == 0.5
