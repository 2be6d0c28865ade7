"""Trains, prunes, packs and transcribes in ten minutes.

    make demo    # or: python recipes/demo.py [key=value for every run ...]

On an hour of the built-in spoken corpus (synthesised first, about 300 words) it trains a dense
network; one that is twice as wide and pruned, while it trains, to half as many weights; and a
small dense one with as many parameters as the pruned one has non-zeros. Then it prints their word
error rates, times the model files, transcribes three test recordings, and a real recording with the
recogniser that comes with the package.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from rich.console import Console

from asr import environment
from asr.corpus import sources
from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from asr.evaluate.dataset import evaluate
from asr.report import print_table, read_records, report
from asr.report.records import write_record
from asr.report.schema import RunRecord
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train.grid import folder_of, overrides_of, read_grid, records_of, run_grid
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import load as load_recogniser

HERE = Path(__file__).parent
ROUNDS = 5
RECORDING = HERE.parent / "tests" / "data" / "austen-1.flac"


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", help="key=value for every run")
    console = Console(markup=False, highlight=False)
    plan = read_grid(HERE / "demo.yaml", parser.parse_args(words).settings)
    settings = load(Run, plan.base, overrides_of(plan, plan.run("dense")))
    folder = folder_of(plan, "dense").parent
    began = time.monotonic()
    failed = run_grid(plan, folder / "records", console)
    if failed:
        console.print(f"failed: {', '.join(failed)}")
        return 1
    packed = folder / "wide-sparse/packed.asr"
    files = [folder / "wide-sparse/model.asr", packed]
    seconds = time_files(files, settings)
    record = folder / "records" / "wide-sparse.json"
    speed = {
        "dense_seconds": seconds[0],
        "packed_seconds": seconds[1],
        "audio_seconds": dev_seconds(settings),
        "threads": settings.threads,
        "median_of": ROUNDS,
    }
    write_record(record, {**json.loads(record.read_text()), "speed": speed})

    console.rule("word error rate on speakers and sentences that are not in the training")
    paths = records_of(plan, folder / "records")
    records = read_records(paths)
    print_table(records, console)
    print_claim({record.name: record for record in records}, console)
    report(paths, folder / "report", title="Demo: sparse against dense")
    print_speed(dict(zip(files, seconds, strict=True)), settings, console)
    print_transcripts(packed, settings, console)
    console.rule("a real recording, by the recogniser that comes with the package")
    text = next(load_recogniser().transcribe(RECORDING)).text
    reference = RECORDING.with_name("austen.txt").read_text().splitlines()[0].split(" ", 1)[1]
    console.print(
        f"$ asr transcribe tests/data/{RECORDING.name}\n  reference   {reference}\n"
        f"  hypothesis  {text}",
        soft_wrap=True,
    )
    minutes = (time.monotonic() - began) / 60
    console.print(
        f"\n{minutes:.1f} minutes; table, plot and page: {folder / 'report'}\n"
        f"To transcribe your recordings: asr transcribe FOLDER",
        soft_wrap=True,
    )
    return 0


def print_claim(records: dict[str, RunRecord], console: Console) -> None:
    """The wide sparse network beside the dense one of more non-zeros."""
    wide, dense = records["wide-sparse"], records["dense"]
    part = wide.model.nonzeros / dense.model.nonzeros
    rates = [next(iter(record.evaluation.values())).wer for record in (wide, dense)]
    console.print(
        f"With {part:.0%} of the dense network's non-zeros the wide sparse one has a word error "
        f"rate of {rates[0]:.1%}, the dense one {rates[1]:.1%}.",
    )


def print_speed(times: dict[Path, float], settings: Run, console: Console) -> None:
    """Bytes, seconds and real-time factor of each model file."""
    console.rule("size and speed")
    audio = dev_seconds(settings)
    for path, seconds in times.items():
        console.print(
            f"  {f'{path.parent.name}/{path.name}':24} {path.stat().st_size / 1024:7.0f} KiB   "
            f"{seconds:.2f} s for {audio:.0f} s of audio (real-time factor {seconds / audio:.4f})",
            soft_wrap=True,
        )
    console.print(
        f"  median of {ROUNDS} runs in turn, {environment.threads_line(settings.threads)}\n"
        "  model.asr runs in torch in fp32, packed.asr on sparse kernels without torch.",
    )


def print_transcripts(model: Path, settings: Run, console: Console) -> None:
    """References and transcripts of a recording of each of three test speakers."""
    console.rule("transcripts of the sparse network")
    data = settings.data
    speakers: dict[str, Utterance] = {}
    for utterance in sources.resolve(data.test[0], data.root, data.spoken):
        speakers.setdefault(utterance.speaker, utterance)
    chosen = list(speakers.values())[:3]
    transcripts = load_recogniser(model).transcribe([Path(u.audio_filepath) for u in chosen])
    for utterance, transcript in zip(chosen, transcripts, strict=True):
        console.print(utterance.speaker)
        console.print(f"  reference   {utterance.text}\n  hypothesis  {transcript.text}")


def dev_set(settings: Run) -> list[Utterance]:
    """The utterances that are timed."""
    data = settings.data
    return sources.resolve(data.dev[0], data.root, data.spoken)


def dev_seconds(settings: Run) -> float:
    """Seconds of audio in them."""
    return sum(u.duration for u in dev_set(settings))


def time_files(files: list[Path], settings: Run) -> list[float]:
    """Median seconds for the dev set with each model file in turn, after one warm-up.

    Dense files run in torch, packed ones in the native backend.
    """
    utterances = dev_set(settings)
    recognisers = [load_recogniser(path, settings.threads) for path in files]
    options = TranscribeOptions(batch_seconds=settings.data.batch_limit)
    times: list[list[float]] = [[] for _ in files]
    for _ in range(ROUNDS + 1):
        for recogniser, row in zip(recognisers, times, strict=True):
            row.append(evaluate(recogniser, utterances, options)[2])
    return [statistics.median(row[1:]) for row in times]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"demo: {error}")
