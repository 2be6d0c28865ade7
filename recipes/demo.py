"""Trains, prunes, packs and transcribes in a quarter of an hour.

    make demo    # or: python recipes/demo.py [key=value for every run ...]

On an hour of the built-in spoken corpus (synthesised first, about 300 words) it trains a dense
network, another one that is pruned to about a tenth of its weights while it trains, and a small
dense one with as many parameters as the pruned one has non-zeros. Then it prints their word error
rates, times the dense and the packed model file, and transcribes three test recordings.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from asr import environment
from asr.corpus import sources
from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from asr.evaluate.dataset import evaluate
from asr.report import print_table, read_records, report
from asr.report.records import write_record
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.train.grid import folder_of, overrides_of, read_grid, run_grid
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import load as load_recogniser

HERE = Path(__file__).parent


def main(overrides: list[str]) -> int:
    console = Console()
    plan = read_grid(HERE / "demo.yaml", overrides)
    settings = load(Run, plan.base, overrides_of(plan, plan.run("large-dense")))
    folder = folder_of(plan, "large-dense").parent
    began = time.monotonic()
    failed = run_grid(plan, folder / "records", console)
    if failed:
        console.print(f"failed: {', '.join(failed)}")
        return 1
    dense, packed = folder / "large-sparse/model.asr", folder / "large-sparse/packed.asr"
    speed = compare_speed([dense, packed], settings)
    record = folder / "records" / "large-sparse.json"
    write_record(record, {**json.loads(record.read_text()), "speed": speed})

    console.rule("word error rate on speakers and sentences that are not in the training")
    print_table(read_records(folder / "records"), console)
    report(folder / "records", folder / "report", title="Demo: sparse against dense")

    console.rule("size and speed of the sparse network")
    for path, seconds in ((dense, speed["dense_seconds"]), (packed, speed["packed_seconds"])):
        console.print(
            f"  {path.name:10} {path.stat().st_size / 1024:7.0f} KiB   {seconds:.2f} s for "
            f"{speed['audio_seconds']:.0f} s of audio (real-time factor "
            f"{seconds / speed['audio_seconds']:.4f})",
            highlight=False,
        )
    console.print(
        f"  median of {speed['median_of']} runs in turn, "
        f"{environment.threads_line(settings.threads)}\n"
        "  The dense file runs in torch in fp32, the packed file on sparse kernels without torch.",
        highlight=False,
    )

    console.rule("transcripts of the sparse network")
    data = settings.data
    utterances = sources.resolve(data.test[0], data.root, data.spoken)
    speakers: dict[str, Utterance] = {}
    for utterance in utterances:
        speakers.setdefault(utterance.speaker, utterance)
    chosen = list(speakers.values())[:3]
    recogniser = load_recogniser(packed)
    transcripts = recogniser.transcribe([Path(u.audio_filepath) for u in chosen])
    for utterance, transcript in zip(chosen, transcripts, strict=True):
        console.print(utterance.speaker)
        console.print(f"  reference   {utterance.text}\n  hypothesis  {transcript.text}")
    minutes = (time.monotonic() - began) / 60
    console.print(
        f"\n{minutes:.1f} minutes; table, plot and page: {folder / 'report'}\n"
        f"To transcribe your recordings: asr transcribe FOLDER --model {packed}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def compare_speed(files: list[Path], settings: Run, rounds: int = 5) -> dict[str, Any]:
    """Seconds for the dev set with a dense and a packed model file in turn, after one warm-up.

    The dense file runs in torch, the packed one in the native backend.
    """
    data = settings.data
    utterances = sources.resolve(data.dev[0], data.root, data.spoken)
    recognisers = [load_recogniser(path, settings.threads) for path in files]
    options = TranscribeOptions(batch_seconds=data.batch_seconds)
    times: list[list[float]] = [[] for _ in files]
    for _ in range(rounds + 1):
        for recogniser, row in zip(recognisers, times, strict=True):
            row.append(evaluate(recogniser, utterances, options)[2])
    dense, packed = (statistics.median(row[1:]) for row in times)
    return {
        "dense_seconds": dense,
        "packed_seconds": packed,
        "audio_seconds": sum(u.duration for u in utterances),
        "threads": settings.threads,
        "median_of": rounds,
    }


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"demo: {error}")
