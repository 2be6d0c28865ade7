"""Shards: whole whatever ends them, continued, refused where results would mix."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import soundfile
from tone_network import RATE, save_tone_model, speak

from asr.bulk import job as jobs
from asr.bulk import run
from asr.bulk.job import BulkJob
from asr.bulk.rows import read_rows
from asr.bulk.run import transcribe_shard
from asr.bulk.shard import Shard, ShardFiles, ShardTotals
from asr.corpus.manifest import read_manifest
from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.files import CannotWrite
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser
from asr.transcribe.subtitles import SubtitleOptions

TEXTS = ["BAD", "CAFE", "EGG", "FACE", "AGE", "BEE", "DAD"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr"))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        soundfile.write(folder / f"{number}.wav", speak(text), RATE)
    return folder


def a_job(folder: Path, model: str, said: list[str] | None = None, **more: Any) -> BulkJob:
    options = more.pop("options", TranscribeOptions())
    return BulkJob(folder, options, model, say=(said or []).append, **more)


def rows(path: Path) -> list[dict[str, Any]]:
    return list(read_rows(path))


def results(folder: Path) -> dict[str, str]:
    """Text or error of every row of all finished shards."""
    found = [row for path in sorted(folder.glob("shard-*")) for row in rows(path)]
    assert len({row["id"] for row in found}) == len(found), "none twice"
    return {row["id"]: row.get("error") or row["text"] for row in found}


@pytest.mark.parametrize("text", ["3", "0/4", "5/4", "a/b", "-1/4", "1/0", "1/100000", ""])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(AsrError, match="shard"):
        Shard.read(text)


def test_the_shards_of_a_folder_hold_every_recording_once(
    model: str, recordings: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    for index in (2, 1, 3):
        assert transcribe_shard(a_job(tmp_path / "out", model), [recordings], f"{index}/3") == 0
    assert results(tmp_path / "out") == {str(i): text for i, text in enumerate(TEXTS)}
    first = tmp_path / "out" / "shard-00001-of-00003.jsonl"
    assert [row["id"] for row in rows(first)] == ["0", "3", "6"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".asr-bulk", *(f"shard-0000{i}-of-00003.jsonl" for i in (1, 2, 3)),
    ]  # fmt: skip
    # A result is a manifest; a finished shard is left alone.
    assert [u.text for u in read_manifest(first)] == ["BAD", "FACE", "DAD"]
    first.write_bytes(b"")
    job = BulkJob(tmp_path / "out", TranscribeOptions(), model, say=said.append)
    assert transcribe_shard(job, [recordings], "1/3") == 0
    assert first.read_bytes() == b""
    assert "done before; 0 failed" in said[-1]


def test_a_shard_that_begins_has_nothing_done_before(
    model: str, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    job = BulkJob(tmp_path / "out", TranscribeOptions(), model, say=said.append)
    seconds: list[float] = []
    monkeypatch.setattr(run, "times_real", lambda done, elapsed: seconds.append(done) or "fast")
    assert transcribe_shard(job, [recordings], "1/1") == 0
    whole = sum(soundfile.info(path).duration for path in recordings.iterdir())
    assert seconds == [pytest.approx(whole, abs=0.01)]
    assert said[-1] == f"shard 1/1: 7 recordings, {whole:.1f} s of audio, fast; 0 failed"


def test_more_shards_than_recordings_leave_empty_results(
    model: str, recordings: Path, tmp_path: Path
) -> None:
    assert transcribe_shard(a_job(tmp_path / "out", model), [recordings], "9/9") == 0
    assert (tmp_path / "out" / "shard-00009-of-00009.jsonl").read_bytes() == b""


def test_a_recording_that_fails_is_a_row_with_its_error_and_the_status_says_so_each_time(
    model: str, recordings: Path, tmp_path: Path
) -> None:
    (recordings / "1.wav").write_text("not sound")
    (recordings / "2.wav").write_bytes((recordings / "2.wav").read_bytes()[:-4000])
    (recordings / "list.txt").write_text("0.wav\n1.wav\n2.wav\ngone.wav\n")
    said: list[str] = []
    job = BulkJob(tmp_path / "out", TranscribeOptions(), model, say=said.append)
    for _ in range(2):
        assert transcribe_shard(job, [recordings / "list.txt"], "1/1") == 3
        assert transcribe_shard(job, [recordings / "list.txt"], "1/1", True) == 2
    found = rows(tmp_path / "out" / "shard-00001-of-00001.jsonl")
    assert [("error" in row, row["complete"]) for row in found[:3:2]] == [
        (False, True), (False, False),
    ]  # fmt: skip
    assert "1.wav" in found[1]["error"]
    assert "gone.wav" in found[3]["error"]
    assert sum("1.wav" in text for text in said) == 1
    assert "1 not complete (--accept-truncated counts them as done), 2 failed" in said[-3]
    assert "1 not complete (accepted), 2 failed" in said[-1]


def test_segments_of_a_manifest_have_their_own_words(model: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", speak("BAD CAFE"), RATE)
    half = 4.5 * 0.16 - 0.10
    lines = [
        {"audio_filepath": "long.wav", "offset": 0, "duration": half, "id": "first"},
        {"audio_filepath": "long.wav", "offset": half, "duration": 0.7, "id": "second"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    job = a_job(tmp_path / "out", model, formats=("srt",))
    assert transcribe_shard(job, [tmp_path / "m.jsonl"], "1/1") == 0
    first, second = rows(tmp_path / "out" / "shard-00001-of-00001.jsonl")
    assert (first["text"].strip(), second["text"].strip()) == ("BAD", "CAFE")
    assert (second["offset"], second["duration"]) == (half, 0.7)
    assert "CAFE" in (tmp_path / "out" / "second.srt").read_text()


def test_other_formats_are_written_beside_the_rows_and_corrected_ones_stay(
    model: str, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "3.txt").write_text("corrected")
    options = TranscribeOptions(subtitles=SubtitleOptions(lines=1))
    job = a_job(out, model, formats=("srt", "txt"), options=options)
    assert transcribe_shard(job, [recordings], "1/3") == 0
    assert sorted(p.name for p in out.glob("?.*")) == [
        "0.srt", "0.txt", "3.srt", "3.txt", "6.srt", "6.txt",
    ]  # fmt: skip
    assert (out / "3.txt").read_text() == "corrected"
    assert (out / "6.txt").read_text() == "DAD\n"


@pytest.mark.parametrize("torn", [b"", b'{"id": "6", "te', b"\0\0\0\0\n", b'{"id": 1}\n', b"[]\n"])
def test_an_unfinished_shard_goes_on_behind_its_last_whole_row(
    model: str, recordings: Path, tmp_path: Path, torn: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert transcribe_shard(a_job(whole, model), [recordings], "1/3") == 0
    written = (whole / "shard-00001-of-00003.jsonl").read_bytes()
    assert transcribe_shard(a_job(out, model), [recordings], "2/3") == 0
    two = b"".join(written.splitlines(keepends=True)[:2])
    (out / ".asr-bulk" / "shard-00001-of-00003.jsonl").write_bytes(two + torn)
    asked: list[str] = []
    transcribe = Recogniser.transcribe

    def spy(self: Recogniser, sources: Any, *more: Any) -> Any:
        return transcribe(self, (asked.append(s) or s for s in sources), *more)

    monkeypatch.setattr(Recogniser, "transcribe", spy)
    said: list[str] = []
    job = BulkJob(out, TranscribeOptions(), model, say=said.append)
    assert transcribe_shard(job, [recordings], "1/3") == 0
    assert asked == [str(recordings / "6.wav")]
    assert ", 2 done before, " in said[-1]
    assert (out / "shard-00001-of-00003.jsonl").read_bytes() == written
    assert not list((out / ".asr-bulk").glob("shard-00001*.jsonl"))


def test_a_disk_that_is_full_ends_the_shard_and_the_same_command_goes_on(
    model: str, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    line_of = jobs.ShardRows.add.__globals__["line_of"]
    written = []

    def full(row: dict[str, Any]) -> bytes:
        written.append(row["id"])
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        return line_of(row)

    with monkeypatch.context() as patch:
        patch.setitem(jobs.ShardRows.add.__globals__, "line_of", full)
        with pytest.raises(CannotWrite, match="No space left"):
            transcribe_shard(a_job(out, model), [recordings], "1/1")
    assert results(out) == {}
    assert transcribe_shard(a_job(out, model), [recordings], "1/1") == 0
    assert list(results(out).values()) == TEXTS


def test_a_shard_that_is_killed_repeats_nothing_that_was_written(
    model: str, recordings: Path, tmp_path: Path
) -> None:
    """The third recording is a pipe that nobody writes to: the process waits there."""
    out, lines = tmp_path / "out", [f"{i}.wav" for i in range(7)]
    os.mkfifo(recordings / "pipe.wav")
    (recordings / "list.txt").write_text("\n".join([*lines[:2], "pipe.wav", *lines[2:]]))
    command = [
        sys.executable, "-m", "asr", "transcribe", recordings / "list.txt", "-m", model, "-o", out,
        "--shard", "1/1", "--batch-seconds", "0.01", "--threads", "1",
    ]  # fmt: skip
    unfinished = out / ".asr-bulk" / "shard-00001-of-00001.jsonl"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if unfinished.exists() and unfinished.read_bytes().count(b"\n") == 1:
                break
            time.sleep(0.05)
        else:
            pytest.fail("no rows within 30 s")
        with pytest.raises(AsrError, match="another process"):
            transcribe_shard(a_job(out, model), [recordings / "list.txt"], "1/1")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert results(out) == {}
    before = unfinished.read_bytes()
    os.unlink(recordings / "pipe.wav")
    soundfile.write(recordings / "pipe.wav", speak("FED"), RATE)
    assert transcribe_shard(a_job(out, model), [recordings / "list.txt"], "1/1") == 0
    assert (out / "shard-00001-of-00001.jsonl").read_bytes().startswith(before)
    assert list(results(out).values()) == [*TEXTS[:2], "FED", *TEXTS[2:]]


def test_what_would_mix_results_is_refused_and_nothing_is_changed(
    model: str, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert transcribe_shard(a_job(out, model), [recordings], "1/3") == 0
    other = str(save_tone_model(tmp_path / "other.asr"))
    beam = TranscribeOptions(DecoderOptions("beam"))
    before = {path: path.read_bytes() for path in out.rglob("*.json*")}
    cases: list[tuple[BulkJob, Path, str, str]] = [
        (a_job(out, model), recordings, "1/4", "3 shards, and 4 are asked"),
        (a_job(out, model), recordings / "0.wav", "1/3", "another folder"),
        (a_job(out, other), recordings, "1/3", r"model=tone\.asr"),
        (a_job(out, model, options=beam), recordings, "1/3", "decoding.decoder=greedy"),
        (a_job(out, model, formats=("srt",)), recordings, "1/3", "formats="),
    ]
    for job, given, shard, message in cases:
        with pytest.raises(AsrError, match=message):
            transcribe_shard(job, [given], shard)
    assert {path: path.read_bytes() for path in out.rglob("*.json*")} == before


def test_recordings_that_come_later_do_not_move_others(
    model: str, recordings: Path, tmp_path: Path
) -> None:
    out, said = tmp_path / "out", []  # type: ignore[var-annotated]
    assert transcribe_shard(a_job(out, model), [recordings], "1/2") == 0
    soundfile.write(recordings / "00.wav", speak("FED"), RATE)
    job = BulkJob(out, TranscribeOptions(), model, say=said.append)
    assert transcribe_shard(job, [recordings], "2/2") == 0
    assert results(out).keys() == {str(i) for i in range(7)}
    assert "what was added" in said[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"formats": ("json",)}, "rows of a shard hold that"),
        ({"formats": ("docx",)}, "docx"),
        ({"options": TranscribeOptions(subtitles=SubtitleOptions(lines=1))}, "srt and vtt"),
    ],
)
def test_options_without_effect_are_refused(
    model: str, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(AsrError, match=message):
        a_job(tmp_path, model, **given)


def test_a_bug_in_one_recording_costs_that_recording_only(
    model: str, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcribe = Recogniser.transcribe

    def faulty(self: Recogniser, sources: Any, *more: Any) -> Any:
        def checked() -> Any:
            for source in sources:
                if source.endswith("2.wav"):
                    raise MemoryError("too large")
                yield source

        return transcribe(self, checked(), *more)

    monkeypatch.setattr(Recogniser, "transcribe", faulty)
    said: list[str] = []
    job = BulkJob(tmp_path / "out", TranscribeOptions(), model, say=said.append)
    assert transcribe_shard(job, [recordings], "1/1") == 1
    found = results(tmp_path / "out")
    assert found.pop("2").endswith("2.wav: MemoryError: too large")
    assert list(found.values()) == [*TEXTS[:2], *TEXTS[3:]]
    assert "Traceback" in said[0]


def test_alone_and_with_a_fatal_recording_the_other_rows_are_the_same(
    model: str, recordings: Path, tmp_path: Path
) -> None:
    job = a_job(tmp_path / "out", model)
    recogniser = job.load()
    plan = job.begin([recordings], 1)
    totals = job.run(plan, 1, recogniser, alone=True, fatal=0)
    assert (totals.rows, totals.failed) == (7, 1)
    found = results(tmp_path / "out")
    assert "was ended twice" in found.pop("0")
    assert list(found.values()) == TEXTS[1:]


@pytest.mark.distributed
@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is missing")
def test_parquet_holds_the_rows_of_json_lines(model: str, recordings: Path, tmp_path: Path) -> None:
    (recordings / "1.wav").write_text("not sound")
    options = TranscribeOptions(DecoderOptions("beam", nbest=2))
    for form in ("jsonl", "parquet"):
        job = a_job(tmp_path / form, model, form=form, options=options)
        assert transcribe_shard(job, [recordings], "1/1") == 1
    lines = rows(tmp_path / "jsonl" / "shard-00001-of-00001.jsonl")
    table = rows(tmp_path / "parquet" / "shard-00001-of-00001.parquet")
    assert [{k: v for k, v in row.items() if v is not None} for row in table] == [
        {k: v for k, v in row.items() if v is not None} for row in lines
    ]
    assert any(row.get("nbest") for row in table)
    job = a_job(tmp_path / "jsonl", model, form="parquet", options=options)
    with pytest.raises(AsrError, match="result=jsonl"):
        transcribe_shard(job, [recordings], "1/1")


def test_counts_that_are_lost_are_missed(model: str, recordings: Path, tmp_path: Path) -> None:
    job = a_job(tmp_path, model)
    plan = job.begin([recordings], 2)
    job.run(plan, 1, job.load())
    files = ShardFiles(tmp_path, plan, 1, "jsonl")
    assert files.totals() == ShardTotals(4, 0, 0, pytest.approx(4 * (3 * 0.16 + 0.06)))
    (tmp_path / ".asr-bulk" / "shard-00001-of-00002.json").unlink()
    with pytest.raises(AsrError, match=r"delete .*jsonl to transcribe"):
        files.totals()
