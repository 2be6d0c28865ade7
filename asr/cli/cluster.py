"""Commands that run on a cluster."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from asr.cli.options import (
    CHUNKS,
    DECODING,
    SUBTITLES,
    TRANSCRIBING,
    Backend,
    Exact,
    FieldOptionsCommand,
    ModelOption,
    default_note,
    with_options,
)
from asr.cli.speech import AcceptTruncated, ProgressBar

cluster_app = typer.Typer(no_args_is_help=True, help="Transcribe on many machines, with Ray.")


Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Recordings, folders, manifests (.jsonl, .json), lists of paths (.txt, .lst, .list); "
        "all machines must see the files."
    ),
]
ResultFolder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the results, which all machines see.")
]
ShardCount = Annotated[
    int | None,
    typer.Option(
        help="Number of result files, each done by one worker."
        + default_note("one for 500 recordings, at least 16"),
        show_default=False,
    ),
]
WorkerCount = Annotated[
    int | None,
    typer.Option(
        help="Workers." + default_note("as many as there are CPUs for, or GPUs"),
        show_default=False,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="Of a Ray cluster, or auto; without it this machine alone.",
    ),
]
MoreFormats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        "-f",
        help="What is written of each recording beside its row: txt, srt, vtt, tsv; may be given "
        "several times.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add all commands of this module."""
    app.add_typer(cluster_app, name="cluster")


@cluster_app.command(cls=FieldOptionsCommand)
@with_options(decoding=DECODING, chunks=CHUNKS, subtitles=SUBTITLES, more=TRANSCRIBING)
def transcribe(
    paths: Inputs,
    decoding: Any,
    chunks: Any,
    subtitles: Any,
    more: Any,
    output: ResultFolder,
    model: ModelOption = None,
    shards: ShardCount = None,
    workers: WorkerCount = None,
    address: Address = None,
    format: MoreFormats = None,
    result: Annotated[
        Literal["jsonl", "parquet"], typer.Option(help="JSON lines, or Parquet.")
    ] = "jsonl",
    accept_truncated: AcceptTruncated = False,
    progress: ProgressBar = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads of each worker.")] = 1,
    backend: Backend = "auto",
    exact: Exact = False,
    device: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="Where a worker runs the network; cuda: a GPU.")
    ] = "cpu",
) -> None:
    """Transcribe many recordings on a Ray cluster, or on all cores of this machine.

    Run the same command to continue. Needs the extra cluster.
    """
    from asr.audio.chunk import ChunkOptions
    from asr.bulk.cluster import transcribe_on_cluster
    from asr.bulk.job import BulkJob
    from asr.pretrained import registry as models
    from asr.transcribe.options import TranscribeOptions
    from asr.transcribe.subtitles import SubtitleOptions

    options = TranscribeOptions(
        models.decoding(model, decoding),
        ChunkOptions(**chunks),
        SubtitleOptions(**subtitles),
        **more,
    )
    formats, running = tuple(format or ()), (threads, backend, exact, device)
    job = BulkJob(output, options, model, formats, result, *running)
    bar = progress is not False
    if transcribe_on_cluster(job, paths, shards, workers, address, accept_truncated, bar):
        raise typer.Exit(1)
