"""The command `asr` and its subcommands for model files.

Every subcommand, here and in the modules beside this one, imports what it needs inside its function
and holds no logic: `asr --help` is fast, and all that a command does can be called from Python.
"""

import contextlib
import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from asr import __version__
from asr.cli import cluster, corpus, data, lm, prune, serve, speech, train
from asr.cli.options import ModelFile, ModelOrName, Threads
from asr.errors import AsrError, install
from asr.files import CannotWrite

app = typer.Typer(
    name="asr",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Speech recognition with CTC networks that are pruned while they train.",
)
for module in (speech, cluster, serve, train, corpus, data, lm, prune):
    module.add_to(app)


def main() -> None:
    """Entry point: a person's mistake is a message and status 2, never a traceback.

    So is what the system refuses, such as a disk that is full. Characters that standard output
    cannot encode are written as escapes: one odd name must not end the work on all others.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            _flush()
    except AsrError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _fail(f"this needs the package {error.name}: {install(extra)}")


_EXTRAS = {
    "torch": "train", "torchaudio": "train", "lightning": "train", "jiwer": "evaluate",
    "yaml": "train", "matplotlib": "train", "espeakng_loader": "demo",
    "av": "media", "onnx": "onnx", "onnxruntime": "onnx", "fastapi": "serve", "uvicorn": "serve",
    "python_multipart": "serve", "websockets": "serve", "prometheus_client": "serve",
    "requests": "download", "lhotse": "corpora", "ray": "cluster", "pyarrow": "cluster",
}  # fmt: skip


def _flush() -> None:
    """Write what standard output still holds: at exit nobody could report that it fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # or Python tries again, and complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:  # a reader that has enough, such as `head`
            sys.exit(1)
        raise CannotWrite(f"standard output: {error.strerror}", error.errno or 0) from None


def _fail(message: str) -> NoReturn:
    print(f"asr: {message}", file=sys.stderr)
    sys.exit(2)


def _version(asked: bool) -> None:
    if asked:
        print(f"asr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def info(model: ModelOrName) -> None:
    """Show a model: dimensions, parameters, non-zeros of each tensor, bytes, and its model card."""
    from asr.decode.library import native
    from asr.model.info import describe
    from asr.pretrained import registry as models

    print(describe(models.resolve(model)).table([("beam search", f"in {native()}")]))
    if card := models.card(model):
        print(f"\n{card}")


@app.command()
def models() -> None:
    """List the models that come with asr."""
    from asr.pretrained import registry as models

    print(models.table())


@app.command()
def pack(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The packed file.")],
    values: Annotated[
        Literal["fp16", "fp32", "int8"], typer.Option(help="Data type of the non-zero weights.")
    ] = "fp16",
    fold: Annotated[
        bool, typer.Option("--fold", help="Fold batch normalisation into the weights.")
    ] = False,
) -> None:
    """Write a packed model file, in which zeros take no space."""
    from asr.model.pack import pack as run

    print(run(model, output, values=values, fold=fold).table())


@app.command()
def average(
    models: Annotated[list[Path], typer.Argument(help="Model files of one training, at least 2.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model file to write.")],
) -> None:
    """Write the mean of the weights of several model files; what is zero in all stays zero."""
    from asr.model.average import average as run

    print(run(models, output))


@app.command()
def export(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file.")],
) -> None:
    """Write a model as a dense ONNX network, checked against ONNX Runtime."""
    from asr.model.export import export as run

    print(run(model, output).table())


@app.command()
def benchmark(
    model: ModelOrName,
    seconds: Annotated[float, typer.Option(help="Seconds of audio.")] = 10.0,
    utterances: Annotated[int, typer.Option(help="Utterances in a batch.")] = 1,
    recording: Annotated[
        Path | None, typer.Option(help="Recording to run on; without it, noise.")
    ] = None,
    threads: Threads = 2,
    every_set: Annotated[
        bool,
        typer.Option(
            "--every-set",
            help="Repeat for each instruction set; both sides are limited to it.",
        ),
    ] = False,
) -> None:
    """Time a sparse model on this machine, against the same network in dense runtimes."""
    from asr.benchmark.compare import benchmark as run
    from asr.benchmark.instruction_sets import benchmark_sets, table

    if every_set:
        print(table(benchmark_sets(model, seconds, utterances, threads, recording)))
    else:
        print(run(model, seconds, utterances, threads, recording).table())


if __name__ == "__main__":
    main()
