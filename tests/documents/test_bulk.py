"""The commands of the guide to bulk transcription run as written; its figures are the record's."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from paths import ROOT

from asr.cli.main import app
from asr.corpus.manifest import read_manifest
from asr.report.measurements import read_measurement

TEXT = (ROOT / "recipes" / "BULK.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
RECORD = ROOT / "recipes" / "results" / "bulk" / "english.json"
SBATCH = """#!/bin/bash
# `sbatch --array=1-N SCRIPT ...` as far as a program sees it.
last="${1#--array=1-}"
shift
for task in $(seq "$last"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$last PYTHON=asr-python bash "$@"
done
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, trained: Path, corpus: Path) -> Path:
    """The files that the guide assumes, and the commands of this source tree."""
    folder = tmp_path_factory.mktemp("bulk")
    (folder / "recordings" / "sub").mkdir(parents=True)
    for number, utterance in enumerate(read_manifest(corpus / "test.jsonl")[:5]):
        place = folder / "recordings" / ("sub" if number % 2 else "")
        shutil.copy(utterance.audio_filepath, place / f"{number}.flac")
    part = {"audio_filepath": "recordings/0.flac", "offset": 0.5, "duration": 1.0}
    lines = [part, part | {"offset": 1.5, "id": "second"}]
    (folder / "long.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.copy(trained, folder / "model.asr")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "bin").mkdir()
    start = f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -W ignore'
    scripts = {"asr": f'{start} -m asr "$@"\n', "asr-python": f'{start} "$@"\n', "sbatch": SBATCH}
    for name, script in scripts.items():
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    return folder


def run(folder: Path, script: str) -> str:
    environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script.replace('/shared', str(folder))}"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, script + done.stdout + done.stderr
    return done.stderr


def rows(folder: Path) -> dict[str, str]:
    found = [
        json.loads(line)
        for path in sorted(folder.glob("shard-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row["text"] for row in found}


def test_the_commands_of_the_guide_run_as_written(folder: Path) -> None:
    one, several, parts, slurm, _ = BLOCKS
    for block in (one, several, parts):
        run(folder, block)
    texts = rows(folder / "results")
    assert texts.keys() == {"0", "2", "4", "sub/1", "sub/3"}
    assert all(texts.values())
    assert rows(folder / "four") == texts
    assert len((folder / "all.jsonl").read_text().splitlines()) == 5
    assert rows(folder / "parts").keys() == {"recordings/0-00000500", "second"}
    assert (folder / "parts" / "second.srt").is_file()
    listed = rows(folder / "listed")
    assert listed.keys() == {f"recordings/{name}" for name in texts}
    shutil.rmtree(folder / "results")  # the guide's /shared is this folder
    run(folder, slurm)
    assert rows(folder / "results").keys() == listed.keys()
    again = run(folder, slurm)
    assert again.count("done before; 0 failed") == 4


@pytest.mark.distributed
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_the_commands_with_ray_run_as_written(folder: Path) -> None:
    run(folder, BLOCKS[4])
    assert rows(folder / "by-ray").keys() == {"0", "2", "4", "sub/1", "sub/3"}
    assert len(list((folder / "by-ray-parquet").glob("*.parquet"))) == 5
    assert (folder / "by-ray-parquet" / "sub" / "1.vtt").read_text().startswith("WEBVTT")


def test_every_option_that_the_guide_names_exists() -> None:
    root: Any = typer.main.get_command(app)
    both = [root.commands["transcribe"], root.commands["cluster"].commands["transcribe"]]
    known = {
        o
        for command in both
        for parameter in command.get_params(typer.Context(command))
        for o in parameter.opts
    }
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert {"--shard", "--address", "--result"} <= named <= known


def test_the_repetition_of_shards_with_failures_is_what_the_guide_says(folder: Path) -> None:
    place = folder / "failures" / "results"
    place.mkdir(parents=True)
    (place / "shard-00001-of-00002.jsonl").write_text('{"id": "a", "error": "b"}\n')
    (place / "shard-00002-of-00002.jsonl").write_text('{"id": "a", "text": "error"}\n')
    [line] = re.findall(r"`(grep -l .*?)` and", TEXT)
    run(folder, f"cd failures; {line}")
    assert [path.name for path in place.iterdir()] == ["shard-00002-of-00002.jsonl"]


def test_every_file_that_the_guide_links_to_exists() -> None:
    for path in re.findall(r"\]\(([^)#:]+)[)#]", TEXT):
        assert (ROOT / "recipes" / path).exists(), path


HOURS, RECORDINGS = 100_000, 10_000_000


def figures() -> list[str]:
    """The lines of the guide's table and what its text says, from the record."""
    record = read_measurement(RECORD)
    costs = {row["decoder"]: row for row in record.rows if row["length"] == 60}
    reading, [listing] = ({row["what"]: row for row in record.tables[0].rows or ()},
                          record.tables[1].rows or ())  # fmt: skip
    flac = reading["FLAC, 16 kHz"]["bytes"]
    seconds = HOURS * 3600 / RECORDINGS

    def row(name: str, value: Any) -> str:
        greedy, beam = (value(costs[decoder]["factor"]) for decoder in ("greedy", "beam, LM"))
        return f"| {name} | {greedy} | {beam} |"

    lines = [
        row("Processor seconds for a second of audio", lambda f: f"{f:.4f}"),
        row("Core hours", lambda f: f"{HOURS * f:,.0f}"),
        row("Hours on 16 cores", lambda f: f"{HOURS * f / 16:.0f}"),
        row("Minutes on 1,000 cores", lambda f: f"{60 * HOURS * f / 1000:.0f}"),
        row("Hours of audio that a core does in an hour", lambda f: f"{1 / f:.0f}"),
        row("MB that it reads in a second (FLAC)", lambda f: f"{flac / 3600 / f / 1e6:.1f}"),
        row("Recordings that it opens in a second", lambda f: f"{1 / f / seconds:.1f}"),
        row(
            "Cores that a 10 Gbit/s link keeps busy", lambda f: f"{1.25e9 / (flac / 3600 / f):.0f}"
        ),
    ]
    texts = [
        f"{HOURS * reading[name]['bytes'] / 1e12:.1f} TB as {short}"
        for name, short in (
            ("FLAC, 16 kHz", "FLAC"), ("WAV, 16 kHz, 16 bit", "WAV"), ("Opus, 48 kHz", "Opus"),
        )
    ]  # fmt: skip
    texts.append(f"{HOURS * costs['beam, LM']['lines'] / 1e9:.0f} GB of rows")
    size = RECORDINGS / listing["recordings"] * listing["bytes"]
    texts.append(f"{size / 1e9:.1f} GB for the list")
    greedy = 3600 * costs["greedy"]["factor"]
    for name, short in (("FLAC, 16 kHz", "FLAC"), ("MP3, 44.1 kHz, stereo", "MP3"),
                        ("Opus, 48 kHz", "Opus")):  # fmt: skip
        texts.append(f"{short} {reading[name]['seconds']:.1f} s")
    opus = greedy - reading["FLAC, 16 kHz"]["seconds"] + reading["Opus, 48 kHz"]["seconds"]
    texts.append(f"{opus / greedy:.1f} times the processor time of one of FLAC")
    texts.append(f"took {record.details['memory']:.0f} MiB at most")
    shard = [f"{500 * seconds * costs[decoder]['factor']:.0f} s" for decoder in costs]
    texts.append(f"take a core {shard[0]} greedily and {shard[1]} with the beam")
    texts.append(f"{greedy:.1f} s of processor time for an hour")
    short_ones = {r["decoder"]: r["factor"] for r in record.rows if r["length"] == 1}
    ten = {r["decoder"]: r["factor"] for r in record.rows if r["length"] == 10}
    for decoder in ("greedy", "beam, LM"):
        texts.append(f"{short_ones[decoder] / ten[decoder]:.1f} times")
    texts.append(f"{listing['made']:.0f} s of one core for a million paths")
    texts.append(f"{listing['memory']:.0f} MiB")
    texts.append(f"{listing['read']:.2f} s for a million")
    return [*lines, *texts]


@pytest.mark.parametrize("figure", figures())
def test_the_figures_of_the_guide_are_those_of_the_record(figure: str) -> None:
    assert figure in TEXT
