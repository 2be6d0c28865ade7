"""`asr transcribe --shard i/n`: one shard of a job, here and now."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from asr.bulk.job import BulkJob
from asr.bulk.shard import Shard, ShardFiles, ShardTotals
from asr.corpus.progress import fraction_bar
from asr.errors import AsrError, counted
from asr.transcribe.progress import times_real


def transcribe_shard(
    job: BulkJob,
    inputs: Sequence[str | Path],
    shard: str,
    accept_truncated: bool = False,
    overwrite: bool = False,
    bar: bool = True,
) -> int:
    """Transcribe the shard `i/n` of `inputs` into the folder of the job.

    Says on standard error which recordings failed and, unless `bar` is False, how far it is.
    Returns how many recordings failed or, unless `accept_truncated`, are not complete, those of a
    shard that was finished before too. Raises AsrError before any recording is read if the folder
    holds results of something else.
    """
    if overwrite:
        raise AsrError(
            "overwrite: to repeat a shard delete its file; to repeat all of them, the folder"
        )
    asked = Shard.read(shard)
    recogniser = job.load()  # first: a model that is none must not begin a folder
    plan = job.begin(inputs, asked.count)
    files = ShardFiles(job.folder, plan, asked.index, job.form)
    totals = files.totals()
    if totals is not None:
        job.say(f"shard {asked}: done before; {failures(totals, accept_truncated)}")
        return totals.unusable(accept_truncated)
    started, first = time.perf_counter(), None
    with ExitStack() as stack:
        update = stack.enter_context(fraction_bar(f"shard {asked}")) if bar else None

        def on_row(now: ShardTotals) -> None:
            nonlocal first
            first = now if first is None else first
            if update is not None:
                update(now.rows / max(files.size, 1))

        try:
            totals = job.run(plan, asked.index, recogniser, on_row)
        except KeyboardInterrupt:
            job.say(f"shard {asked}: stopped; run the same command to continue")
            raise
    before = first or ShardTotals()
    seconds = totals.seconds - before.seconds
    speed = times_real(seconds, time.perf_counter() - started)
    job.say(
        f"shard {asked}: {counted(totals.rows, 'recording')}, {totals.seconds:.1f} s of audio"
        + (f", {before.rows} done before" if before.rows else "")
        + f", {speed}; {failures(totals, accept_truncated)}"
    )
    return totals.unusable(accept_truncated)


def failures(totals: ShardTotals, accept_truncated: bool) -> str:
    """How many recordings failed, in words."""
    text = f"{totals.failed} failed"
    if totals.incomplete:
        how = "accepted" if accept_truncated else "--accept-truncated counts them as done"
        text = f"{totals.incomplete} not complete ({how}), {text}"
    return text
