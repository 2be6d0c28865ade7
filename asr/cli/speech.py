"""Commands for people with recordings: transcribe, listen, align, evaluate, compare, calibrate."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from asr.cli.options import (
    CHUNKS,
    DECODING,
    LISTENING,
    ONE_BEST,
    SUBTITLES,
    TRANSCRIBING,
    WINDOWS,
    Backend,
    Device,
    Exact,
    FieldOptionsCommand,
    ModelOption,
    ModelOrName,
    Threads,
    complete_model,
    default_note,
    with_options,
)
from asr.errors import AsrError

FORMATS = ("txt", "json", "srt", "vtt", "tsv")

Side = Annotated[
    str,
    typer.Argument(
        help="A model file or name, or what `asr evaluate -o` wrote.", autocompletion=complete_model
    ),
]
Source = Annotated[str, typer.Argument(help="A manifest, or a folder of recordings with texts.")]


def add_to(app: typer.Typer) -> None:
    """Add all commands of this module."""
    for command in (transcribe, listen, align, evaluate, compare, calibrate):
        app.command(cls=FieldOptionsCommand)(command)


def _formats(incomplete: str) -> list[str]:
    return [name for name in FORMATS if name.startswith(incomplete)]


Recordings = Annotated[
    list[str], typer.Argument(help="Recordings, folders of them, - for standard input.")
]
TextFolder = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder for one file per recording; without it, print."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Overwrite outputs that exist.")]
Shards = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Transcribe every N-th recording, from the I-th on, into one file of rows in the "
        "output folder; PATHS may then be manifests (.jsonl, .json) and lists of paths (.txt, "
        ".lst, .list) too.",
        show_default=False,
    ),
]
ResultFile = Annotated[
    Literal["jsonl", "parquet"] | None,
    typer.Option(
        help="With --shard: JSON lines, or Parquet (extra cluster)." + default_note("jsonl"),
        show_default=False,
    ),
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        "-f",
        help=f"{', '.join(FORMATS)}; may be given several times. With --shard: what is written of "
        "each recording beside its row." + default_note("txt; with --shard none"),
        autocompletion=_formats,
        show_default=False,
    ),
]
AcceptTruncated = Annotated[
    bool,
    typer.Option(
        "--accept-truncated",
        help="Count truncated or damaged recordings as done; else the exit status is 1. What is "
        "there is transcribed either way.",
    ),
]
ProgressBar = Annotated[
    bool | None,
    typer.Option(help="Show a progress bar." + default_note("on a terminal"), show_default=False),
]


@with_options(decoding=DECODING, chunks=CHUNKS, subtitles=SUBTITLES, more=TRANSCRIBING)
def transcribe(
    paths: Recordings,
    decoding: Any,
    chunks: Any,
    subtitles: Any,
    more: Any,
    model: ModelOption = None,
    output: TextFolder = None,
    format: Formats = None,
    shard: Shards = None,
    result: ResultFile = None,
    overwrite: Overwrite = False,
    accept_truncated: AcceptTruncated = False,
    progress: ProgressBar = None,
    threads: Threads = 2,
    backend: Backend = "auto",
    exact: Exact = False,
    device: Device = "cpu",
) -> None:
    """Transcribe recordings.

    The recogniser that comes with asr uses a beam search with its own language model;
    --decoder greedy uses neither. A model file of your own is decoded greedily unless you choose
    another decoder. With another --lm, options that were tuned for the built-in one go back to
    their defaults.
    """
    import sys

    from asr.audio.chunk import ChunkOptions
    from asr.pretrained import registry as models
    from asr.transcribe.batch import transcribe_to
    from asr.transcribe.options import TranscribeOptions
    from asr.transcribe.recogniser import load_for_command
    from asr.transcribe.subtitles import SubtitleOptions

    decoder_options, limits = models.decoding(model, decoding), SubtitleOptions(**subtitles)
    options = TranscribeOptions(decoder_options, ChunkOptions(**chunks), limits, **more)
    running: Any = {"threads": threads, "backend": backend, "exact": exact, "device": device}
    if result is not None and shard is None:
        raise AsrError("--result: only shards have a result file; ask for one with --shard i/n")
    if shard is not None:
        from asr.bulk.job import BulkJob
        from asr.bulk.run import transcribe_shard

        job = BulkJob(output, options, model, tuple(format or ()), result or "jsonl", **running)
        words = (paths, shard, accept_truncated, overwrite, progress is not False)
        raise typer.Exit(min(transcribe_shard(job, *words), 1))
    bar = sys.stderr.isatty() if progress is None else progress
    failed = transcribe_to(
        load_for_command(model, decoding=decoder_options, **running),
        paths,
        output,
        format or ["txt"],
        options,
        overwrite,
        bar,
        accept_truncated,
    )
    if failed:
        raise typer.Exit(1)


@with_options(decoding=ONE_BEST, windows=WINDOWS, more=LISTENING)
def listen(
    decoding: Any,
    windows: Any,
    more: Any,
    source: Annotated[
        str | None,
        typer.Argument(
            help="- for standard input (WAV, or 16-bit mono PCM), or a recording; without it, the "
            "microphone."
        ),
    ] = None,
    model: ModelOption = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(
            help="Samples per second of standard input without a WAV header."
            + default_note("16000"),
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", "-f", help="txt, or json: an event a line.")
    ] = "txt",
    doubt_seconds: Annotated[
        float | None,
        typer.Option(
            help="An undecided word is fixed after this many seconds; for networks that run "
            "forward only." + default_note("20"),
            show_default=False,
        ),
    ] = None,
    threads: Threads = 1,
    backend: Backend = "auto",
    exact: Exact = False,
) -> None:
    """Transcribe live speech.

    A network that runs forward only gives the words of the whole recording; any other one is run on
    the last seconds again and again. On a terminal words that may still change are dim.
    """
    from asr.audio.chunk import ChunkOptions
    from asr.pretrained import registry as models
    from asr.transcribe.listen import listen_to
    from asr.transcribe.options import TranscribeOptions
    from asr.transcribe.recogniser import load_for_command
    from asr.transcribe.windows import WindowOptions

    decoder_options = models.decoding(model, decoding)
    recogniser = load_for_command(model, threads, backend, exact, decoder_options)
    chunks = ChunkOptions(*(() if doubt_seconds is None else (doubt_seconds, 0.0)))
    options = TranscribeOptions(decoder_options, chunks, **more)
    stream = recogniser.stream(options, WindowOptions(**windows) if windows else None)
    listen_to(recogniser, stream, source, sample_rate, format)


@with_options(chunks=CHUNKS)
def align(
    recording: Annotated[Path, typer.Argument(help="A recording.")],
    text: Annotated[str, typer.Argument(help="Its text: a text file, or the words themselves.")],
    chunks: Any,
    model: ModelOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; without it, print.")
    ] = None,
    format: Annotated[
        str, typer.Option("--format", "-f", help=", ".join(FORMATS), autocompletion=_formats)
    ] = "json",
    threads: Threads = 2,
) -> None:
    """Align a known text with its recording: when is each word said?"""
    from asr.audio.chunk import ChunkOptions
    from asr.decode import DecoderOptions
    from asr.transcribe.align import align_to
    from asr.transcribe.recogniser import load_for_command

    # Nothing is decoded: greedy is the decoder that opens no language model.
    recogniser = load_for_command(model, threads, decoding=DecoderOptions())
    align_to(recogniser, recording, text, output, format, ChunkOptions(**chunks))


@with_options(decoding=ONE_BEST)
def evaluate(
    model: ModelOrName,
    manifest: Source,
    decoding: Any,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for references and hypotheses.")
    ] = None,
    threads: Threads = 2,
    backend: Backend = "auto",
    exact: Exact = False,
    device: Device = "cpu",
) -> None:
    """Measure the word and character error rate of a model on recordings with texts.

    The decoder is chosen as in `asr transcribe`.
    """
    from asr.evaluate.dataset import evaluate_to
    from asr.pretrained import registry as models

    options = models.decoding(model, decoding)
    print(evaluate_to(model, manifest, output, threads, options, backend, exact, device))


@with_options(decoding=ONE_BEST)
def compare(
    a: Side,
    b: Side,
    decoding: Any,
    manifest: Annotated[
        str | None, typer.Argument(help="A manifest or folder to run the models on.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for all utterances that differ.")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Number of differing utterances to print.")] = 10,
    threads: Threads = 2,
) -> None:
    """Compare two results: is one better, by how much, and where do they differ?

    Each is a file that `asr evaluate -o` wrote, or a model: its decoder is chosen as in
    `asr transcribe`.
    """
    from asr.evaluate.compare import compare_to

    print(compare_to(a, b, manifest, output, show, threads, decoding))


@with_options(decoding=ONE_BEST)
def calibrate(
    model: ModelOrName,
    manifest: Source,
    decoding: Any,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Model file to write; without it, MODEL is changed."),
    ] = None,
    threads: Threads = 2,
) -> None:
    """Calibrate word confidences on a dev set: they become the probability of being right.

    Measures the priors of the tokens too, which --prior-weight of a beam search needs.
    """
    from asr.evaluate.calibrate import calibrate_to
    from asr.pretrained import registry as models

    options = models.decoding(model, decoding)
    print(calibrate_to(model, manifest, output, options, threads))
