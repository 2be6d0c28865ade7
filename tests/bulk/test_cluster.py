"""`asr cluster transcribe`: nothing is lost or doubled when workers and drivers are killed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from fake_ray import Death, FakeRay
from tone_network import RATE, save_tone_model, speak

from asr import audio
from asr.bulk.cluster import transcribe_on_cluster
from asr.bulk.job import BulkJob
from asr.bulk.plan import STATE
from asr.bulk.rows import read_rows
from asr.bulk.run import transcribe_shard
from asr.bulk.shard import ShardFiles, ShardTotals
from asr.bulk.worker import ShardWorker
from asr.corpus.manifest import read_manifest
from asr.errors import AsrError
from asr.files import CannotWrite, locked
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser

TEXTS = ["BAD", "CAFE", "EGG", "FACE", "AGE", "BEE", "DAD", "FED", "CAGE"]
COUNT, SHARDS = 200, 16
PIPES = (50, 120)
"""Recordings that nobody writes to: a worker waits there until the test goes on."""


def recording(number: int) -> str:
    return f"{number:03}.wav"


@pytest.fixture
def recordings(corpus: Path, tmp_path: Path) -> Path:
    """200 short recordings: parts of the corpus, all different, one of them not sound."""
    spoken = [audio.load(u.audio_filepath, 16000) for u in read_manifest(corpus / "test.jsonl")]
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(COUNT):
        samples = spoken[number % len(spoken)].samples
        first = 1600 * (number // len(spoken))
        soundfile.write(folder / recording(number), samples[first : first + 24000], 16000)
    (folder / recording(7)).write_text("not sound")
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("shard-*")) for row in read_rows(path)]


def process_table() -> dict[int, tuple[int, str]]:
    """Parent and name of every process."""
    table = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            name = (path / "cmdline").read_text().replace("\0", " ")
            table[int(path.name)] = parent, name
        except OSError:
            continue
    return table


def below(process: int) -> dict[int, str]:
    """All that a process started, and what these started."""
    table, found = process_table(), {process: ""}
    while more := {p: n for p, (parent, n) in table.items() if parent in found and p not in found}:
        found |= more
    del found[process]
    return found


def busy(driver: int) -> list[int]:
    """Workers that have a shard."""
    return [p for p, name in below(driver).items() if name.startswith("ray::ShardWorker.run")]


def wait_for(
    what: Callable[[], Any], process: "subprocess.Popen[str]", seconds: float = 120
) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        if found := what():
            return found
        time.sleep(0.1)
    return pytest.fail("waited too long")


@pytest.mark.distributed
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_killed_worker_and_a_killed_driver_lose_nothing_and_double_nothing(
    recordings: Path, trained: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    job = BulkJob(whole, TranscribeOptions(), str(trained), say=lambda message: None)
    assert transcribe_shard(job, [recordings], "1/1", bar=False) == 1
    sounds = {name: (recordings / recording(name)).read_bytes() for name in PIPES}
    for name in PIPES:
        (recordings / recording(name)).unlink()
        os.mkfifo(recordings / recording(name))

    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    command = [
        sys.executable, "-W", "ignore", "-m", "asr", "cluster", "transcribe", recordings, "-m",
        trained, "-o", out, "--workers", "2", "--shards", SHARDS,
    ]  # fmt: skip
    words = list(map(str, command))
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True, "env": environment}
    driver = subprocess.Popen(words, **pipes)
    started: set[int] = set()

    def finished() -> int:
        return len(list(out.glob("shard-*.jsonl")))

    try:
        # Both workers wait at a pipe, one in the third and one in the ninth shard.
        wait_for(lambda: finished() == 7 and len(busy(driver.pid)) == 2, driver)
        killed = busy(driver.pid)[0]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: finished() == SHARDS - len(PIPES), driver)
        wait_for(lambda: len(set(busy(driver.pid)) - {killed}) == 2, driver)
        # Ray's agents wait for a minute before they end too.
        started = {p for p, name in below(driver.pid).items() if "Agent" not in name}
    finally:
        driver.kill()
        said = driver.communicate()[1]
    assert "a worker ended in shard" in said
    end = time.monotonic() + 30
    while (left := started & set(process_table())) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left, "the workers of this machine's own cluster end with their driver"
    before = {path: path.stat().st_mtime_ns for path in out.glob("shard-*")}

    for name, sound in sounds.items():
        (recordings / recording(name)).unlink()
        (recordings / recording(name)).write_bytes(sound)
    again = subprocess.run(words, timeout=200, **pipes)
    assert again.returncode == 1, again.stderr
    assert f"{COUNT} recordings in {SHARDS} shards" in again.stderr
    assert "1 failed" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found, expected = rows(out), rows(whole)
    assert len(found) == COUNT
    assert sorted(found, key=lambda row: row["id"]) == expected
    assert len({json.dumps(row["words"]) for row in expected}) > COUNT / 2, "they differ"


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Nine recordings of the tone network, and it."""
    (tmp_path / "in").mkdir()
    for number, text in enumerate(TEXTS):
        soundfile.write(tmp_path / "in" / f"{number}.wav", speak(text), RATE)
    save_tone_model(tmp_path / "tone.asr")
    return tmp_path


def a_job(folder: Path, said: list[str], **more: Any) -> BulkJob:
    options = TranscribeOptions()
    return BulkJob(folder / "out", options, str(folder / "tone.asr"), say=said.append, **more)


def texts(folder: Path) -> dict[str, str]:
    return {row["id"]: row.get("error") or row["text"] for row in rows(folder / "out")}


def deadly(monkeypatch: pytest.MonkeyPatch, source: str, times: int) -> None:
    """A recording that ends the first so many processes that read it."""
    transcribe, left = Recogniser.transcribe, [times]

    def run(self: Recogniser, sources: Any, *more: Any) -> Any:
        def checked() -> Any:
            for each in sources:
                if each.endswith(source) and left[0]:
                    left[0] -= 1
                    raise Death("SIGKILL")
                yield each

        return transcribe(self, checked(), *more)

    monkeypatch.setattr(Recogniser, "transcribe", run)


def test_all_shards_become_files_and_a_second_command_starts_no_cluster(
    ray: FakeRay, few: Path
) -> None:
    said: list[str] = []
    assert transcribe_on_cluster(a_job(few, said), [few / "in"], 4, bar=False) == 0
    assert texts(few) == {str(i): text for i, text in enumerate(TEXTS)}
    assert ray.connected[0]["address"] == "local"
    assert ray.connected[0]["include_dashboard"] is False
    assert [name for name, _ in ray.calls].count("prepare") == 2
    assert transcribe_on_cluster(a_job(few, said), [few / "in"], bar=False) == 0
    assert len(ray.connected) == 1
    assert "9 recordings in 4 shards, 9 done before" in said[-1]


def test_shards_of_a_slurm_array_and_of_a_cluster_are_the_same(ray: FakeRay, few: Path) -> None:
    said: list[str] = []
    assert transcribe_shard(a_job(few, said), [few / "in"], "2/4", bar=False) == 0
    assert transcribe_on_cluster(a_job(few, said), [few / "in"], bar=False) == 0
    assert sorted(arguments[0] for name, arguments in ray.calls if name == "run") == [1, 3, 4]
    assert "2 done before" in said[-1]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_worker_that_dies_is_replaced_and_no_recording_is_blamed(
    ray: FakeRay, few: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    deadly(monkeypatch, "4.wav", times)
    said: list[str] = []
    assert transcribe_on_cluster(a_job(few, said), [few / "in"], 2, bar=False) == 0
    assert list(texts(few).values()) == [*TEXTS[::2], *TEXTS[1::2]]
    assert sum("a worker ended in shard 1/2" in line for line in said) == times
    assert ("1 worker replaced" if times == 1 else f"{times} workers replaced") in said[-1]


def test_a_recording_that_ends_every_process_is_a_row_with_its_error(
    ray: FakeRay, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly(monkeypatch, "4.wav", 1000)
    said: list[str] = []
    assert transcribe_on_cluster(a_job(few, said), [few / "in"], 2, bar=False) == 1
    found = texts(few)
    assert "the process that read it was ended twice" in found.pop("4")
    assert sorted(found.values()) == sorted([*TEXTS[:4], *TEXTS[5:]])
    assert "4 workers replaced" in said[-1]


def test_a_machine_on_which_all_workers_die_gives_no_recording_up_for_it(
    ray: FakeRay, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: ShardWorker, *shard: Any) -> None:
        raise Death("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(ShardWorker, "run", die)
        with pytest.raises(AsrError, match=r"17 workers ended, .*out of memory"):
            transcribe_on_cluster(a_job(few, []), [few / "in"], 9, bar=False)
    assert transcribe_on_cluster(a_job(few, []), [few / "in"], bar=False) == 0
    assert sorted(texts(few).values()) == sorted(TEXTS)


def test_workers_that_cannot_start_end_the_command(
    ray: FakeRay, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: ShardWorker, probes: list[str]) -> str:
        raise Death("No module named 'asr'")

    monkeypatch.setattr(ShardWorker, "prepare", die)
    with pytest.raises(AsrError, match=r"before they are ready: .*No module named 'asr'"):
        transcribe_on_cluster(a_job(few, []), [few / "in"], bar=False)


def test_a_machine_that_lacks_files_or_has_others_is_named(few: Path) -> None:
    job = a_job(few, [])
    plan = job.begin([few / "in"], 2)
    good = str(few / "in" / "0.wav")
    assert ShardWorker(job, plan).prepare([good]) == ""
    assert "/gone.wav is not there; it must lie on" in ShardWorker(job, plan).prepare(["/gone.wav"])
    other = replace(plan, token="another")
    assert "the output folder" in ShardWorker(job, other).prepare([good])
    (few / "tone.asr").write_bytes(b"another")
    assert "model is tone.asr (sha256" in ShardWorker(job, plan).prepare([good])
    (few / "tone.asr").unlink()
    assert "tone.asr: cannot be read" in ShardWorker(job, plan).prepare([good])


def test_a_machine_that_lacks_files_ends_the_command(
    ray: FakeRay, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = ShardWorker.prepare
    elsewhere = lambda self, probes: prepare(self, [f"/elsewhere{path}" for path in probes])  # noqa: E731
    monkeypatch.setattr(ShardWorker, "prepare", elsewhere)
    with pytest.raises(AsrError, match=r"a worker on .*/elsewhere.*0\.wav is not there"):
        transcribe_on_cluster(a_job(few, []), [few / "in"], bar=False)


def test_a_shard_that_another_process_holds_is_waited_for(
    ray: FakeRay, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    job = a_job(few, said)
    plan = job.begin([few / "in"], 2)
    holding = locked(few / "out" / STATE / "shard-00002-of-00002.lock", wait=False)
    assert holding.__enter__()
    returned = ray.get

    def get(call: Any) -> Any:
        if len(ray.calls) == 6:
            holding.__exit__(None, None, None)
        return returned(call)

    monkeypatch.setattr(ray, "get", get)
    assert transcribe_on_cluster(job, [few / "in"], bar=False) == 0
    assert len(texts(few)) == plan.recordings
    assert [arguments[0] for name, arguments in ray.calls if name == "run"].count(2) > 2


def test_what_ends_all_recordings_ends_the_command(
    ray: FakeRay, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: ShardFiles, totals: ShardTotals) -> None:
        raise CannotWrite("disk: No space left on device", 28)

    monkeypatch.setattr(ShardFiles, "finish", full)
    with pytest.raises(AsrError, match=r"a worker on .*No space left"):
        transcribe_on_cluster(a_job(few, []), [few / "in"], bar=False)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert transcribe_on_cluster(a_job(few, []), [few / "in"], bar=False) == 0
    assert len(texts(few)) == len(TEXTS)


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        ({"workers": 0}, {}, "workers=0"),
        ({"shards": 0}, {}, "shards=0"),
        ({}, {"threads": 3}, "needs 3 CPU, and no machine of the cluster has more than 2"),
        ({}, {"device": "auto"}, "device=auto"),
        ({}, {"device": "cuda"}, "needs 1 GPU"),
    ],
)
def test_what_cannot_be_is_refused(
    ray: FakeRay, few: Path, given: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(AsrError, match=message):
        transcribe_on_cluster(a_job(few, [], **more), [few / "in"], bar=False, **given)


def test_without_the_extra_the_command_says_what_to_install(few: Path) -> None:
    script = "import sys; sys.modules['ray'] = None; from asr.cli.main import main; main()"
    words = ["cluster", "transcribe", few / "in", "-o", few / "out", "-m", few / "tone.asr"]
    command = [sys.executable, "-c", script, *map(str, words)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2
    assert "pip install '.[cluster]' in the checkout of asr" in run.stderr
    assert not (few / "out").exists()
