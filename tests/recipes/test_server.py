"""The benchmark of the server: nothing lost, damaged files counted, a record that can be read."""

import asyncio
import random
from pathlib import Path

import pytest
from benchmark_scripts import script
from lib import server_faults as faults
from lib.server_process import ServerProcess

from asr.report.measurements import read_measurements


def test_damaged_files_differ_and_are_the_same_every_time() -> None:
    whole = faults.encode("wav", script("server").speech(0.5))
    chance = random.Random(1)
    files = [faults.damaged(whole, chance) for _ in range(50)]
    assert len(set(files)) == 50
    assert whole not in files
    chance = random.Random(1)
    assert [faults.damaged(whole, chance) for _ in range(50)] == files


def test_a_crowd_loses_nothing_and_hostile_clients_change_nothing(trained: Path) -> None:
    server = script("server")
    with ServerProcess("-m", str(trained), "--queue", "1") as process:
        rows, memory = asyncio.run(server.crowd(process, clients=6, seconds=1.0))
        assert sum(row["answered"] for row in rows) >= 6
        assert sum(row["waited"] for row in rows) >= 1
        assert sum(row["lost"] for row in rows) == 0
        assert min(memory) > 20
        recording = faults.encode("wav", server.speech(10))
        assert "all places free again" in faults.leave(process, recording, 2)
        assert faults.flood(process, promise=True).startswith("413 after")
        for row in faults.fuzz(process, server.speech(0.5), 2):
            assert row["transcribed"] + row["refused"] == row["sent"] == 2
            assert row["failed"] == 0
        assert process.tracebacks() == 0
        assert process.files() == []


@pytest.mark.slow
def test_the_whole_benchmark_writes_a_record(tmp_path: Path) -> None:
    words = ["--seconds", "2", "--clients", "3", "--fuzz", "1", "-o", str(tmp_path / "load.json")]
    assert script("server").main(words) == 0
    [record] = read_measurements(tmp_path)
    assert [row["audio_seconds"] for row in record.rows] == [2, 10, 60]
    outcomes = {row["client"]: row["outcome"] for row in record.tables[0].rows or ()}
    assert outcomes["a byte a second"].startswith("408")
    assert outcomes["wrong tokens"] == "200 times 401"
    assert outcomes["kill -9"].startswith("0 files left")
