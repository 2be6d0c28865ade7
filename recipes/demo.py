"""The whole story in a quarter of an hour: `make demo`, or `python recipes/demo.py`.

On an hour of the built-in spoken corpus (made on the spot, about 300 words) it trains a dense
network, prunes one of the same size to about a tenth of its weights while it trains, and trains
a small dense one with as many parameters as the sparse one has non-zeros. Then it prints the
table, times the dense and the packed file, and shows what the sparse one hears.
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

    console.rule("word error rate on held-out speakers and sentences")
    print_table(read_records(folder / "records"), console)
    report(folder / "records", folder / "report", title="Demo: sparse against dense")

    console.rule("the sparse network on disk and at work")
    for path, seconds in ((dense, speed["dense_seconds"]), (packed, speed["packed_seconds"])):
        console.print(
            f"  {path.name:10} {path.stat().st_size / 1024:7.0f} KiB   {seconds:.2f} s for "
            f"{speed['audio_seconds']:.0f} s of audio (real-time factor "
            f"{seconds / speed['audio_seconds']:.4f})",
            highlight=False,
        )
    console.print(
        f"  median of {speed['median_of']} in turn, {environment.threads_line(settings.threads)}\n"
        "  The dense file in torch, fp32; the packed one in the engine without torch, on sparse "
        "kernels.",
        highlight=False,
    )

    console.rule("what the packed sparse network hears")
    data = settings.data
    utterances = sources.resolve(data.test[0], data.root, data.spoken)
    speakers: dict[str, object] = {}
    for utterance in utterances:
        speakers.setdefault(utterance.speaker, utterance)
    chosen = list(speakers.values())[:3]
    recogniser = load_recogniser(packed)
    heard = recogniser.transcribe([Path(u.audio_filepath) for u in chosen])
    for utterance, transcript in zip(chosen, heard, strict=True):
        console.print(f"{utterance.speaker}\n  said   {utterance.text}\n  heard  {transcript.text}")
    console.print(
        f"\n{(time.monotonic() - began) / 60:.1f} minutes; table, plot, page: {folder / 'report'}\n"
        f"Your own recordings: asr transcribe FOLDER --model {packed}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def compare_speed(files: list[Path], settings: Run, rounds: int = 5) -> dict[str, Any]:
    """Seconds for the dev set with a dense and a packed file in turn, after one warm-up.

    The dense one runs in torch, the packed one in the engine of this package.
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
