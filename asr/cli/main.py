"""The command `asr`: each subcommand imports its room inside the function and holds no logic."""

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from asr import __version__
from asr.cli import prune as cli_prune
from asr.cli import speech as cli_speech
from asr.cli.options import ModelFile, ModelOrName, Threads
from asr.errors import AsrError

app = typer.Typer(
    name="asr",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Speech recognition with CTC networks that are pruned while they train.",
)
manifest_app = typer.Typer(no_args_is_help=True, help="Make and check manifests of recordings.")
tokenizer_app = typer.Typer(no_args_is_help=True, help="The symbols that a network writes.")
app.add_typer(manifest_app, name="manifest")
app.add_typer(tokenizer_app, name="tokenizer")

cli_prune.add_to(app)
cli_speech.add_to(app)


def main() -> None:
    """Entry point: a person's mistake is a message and status 2, never a traceback."""
    try:
        app()
    except AsrError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _fail(f"this needs the package {error.name}: pip install 'asr[{extra}]'")


_EXTRAS = {
    "torch": "train", "torchaudio": "train", "lightning": "train", "jiwer": "evaluate",
    "yaml": "train", "matplotlib": "train", "espeakng_loader": "demo",
    "av": "media", "onnx": "onnx", "onnxruntime": "onnx",
}  # fmt: skip


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
def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file of settings.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings as key=value, such as model.hidden=64.")
    ] = None,
    show: Annotated[bool, typer.Option("--settings", help="Print all settings and stop.")] = False,
) -> None:
    """Train a network, or go on with an interrupted training; a finished one is left alone."""
    from asr.settings.run import Run
    from asr.settings.yaml import describe, load

    settings = load(Run, recipe, overrides or [])
    if show:
        _print_settings(settings, describe(Run))
        return
    from asr.train.run import train as run

    print(run(settings))


@app.command()
def info(model: ModelOrName) -> None:
    """Dimensions, parameters, non-zeros of each tensor and bytes of a model file; its card."""
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
        Literal["fp16", "fp32", "int8"], typer.Option(help="Kept weights as these.")
    ] = "fp16",
    fold: Annotated[
        bool, typer.Option("--fold", help="Fold batch normalisation into the weights.")
    ] = False,
) -> None:
    """Write a model so that its zeros take no room."""
    from asr.model.pack import pack as run

    print(run(model, output, values=values, fold=fold).table())


@app.command()
def export(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file.")],
) -> None:
    """Write a model as ONNX: the dense network, checked against ONNX Runtime."""
    from asr.model.export import export as run

    print(run(model, output).table())


@app.command()
def report(
    records: Annotated[Path, typer.Argument(help="Folder of record.json files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and plots.")],
    results: Annotated[
        Path | None,
        typer.Option(help="Markdown file whose part between this recipe's markers is rewritten."),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "",
) -> None:
    """Tables, plots and a page from records and nothing else."""
    from asr.report import report as run

    for path in run(records, output, results_markdown=results, title=title or records.name):
        print(path)


@app.command()
def benchmark(
    model: ModelOrName,
    seconds: Annotated[float, typer.Option(help="Seconds of audio.")] = 10.0,
    columns: Annotated[int, typer.Option("--utterances", help="How many at once.")] = 1,
    recording: Annotated[
        Path | None, typer.Option(help="Input from this recording; else noise.")
    ] = None,
    threads: Threads = 2,
) -> None:
    """Is a model quicker sparse than dense on this machine? Against every runtime installed."""
    from asr.benchmark.compare import benchmark as run

    print(run(model, seconds, columns, threads, recording).table())


@manifest_app.command("make")
def manifest_make(
    folder: Annotated[Path, typer.Argument(help="Where the recordings are.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest, .jsonl.")],
    layout: Annotated[
        Literal["auto", "librispeech", "folder"], typer.Option(help="How the folder is organised.")
    ] = "auto",
    texts: Annotated[
        Literal["auto", "tsv", "txt", "nemo"], typer.Option(help="Where a plain folder has texts.")
    ] = "auto",
    tsv: Annotated[
        Path | None, typer.Option(help="The TSV file, if not inside the folder.")
    ] = None,
) -> None:
    """List recordings and their texts as JSON lines."""
    from asr.corpus.commands import make_manifest

    make_manifest(layout, folder, output, texts=texts, tsv=tsv)


@manifest_app.command("spoken")
def manifest_spoken(
    folder: Annotated[Path, typer.Argument(help="Where to make the built-in spoken corpus.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as train_hours=2 vocabulary=large.")
    ] = None,
) -> None:
    """Make the built-in spoken corpus: train.jsonl, dev.jsonl, test.jsonl and their recordings."""
    from asr.corpus.spoken.build import ensure
    from asr.corpus.spoken.settings import Spoken
    from asr.settings.yaml import load

    settings = load(Spoken, None, [*(overrides or []), f"folder={folder}"])
    for part in ("train", "dev", "test"):
        print(ensure(part, settings))


@manifest_app.command("check")
def manifest_check(
    manifest: Annotated[Path, typer.Argument(help="A manifest.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="A SentencePiece model; without it, characters.")
    ] = None,
    exclude_to: Annotated[
        Path | None, typer.Option(help="Write a manifest of the usable utterances here.")
    ] = None,
    headers: Annotated[
        bool, typer.Option("--headers", help="Read headers only: quicker, misses cut files.")
    ] = False,
    speed: Annotated[
        float, typer.Option(min=0.5, max=2, help="Fastest speed perturbation that is planned.")
    ] = 1.1,
    max_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Longest utterance that is wanted.")
    ] = 20.0,
) -> None:
    """Find utterances that cannot be used: unreadable, empty, unknown symbols, too many for CTC."""
    from asr.corpus.check import Criteria
    from asr.corpus.commands import check_manifest
    from asr.features.settings import Frontend
    from asr.model.dimensions import Model
    from asr.text.tokenizer import CharacterTokenizer, load_tokenizer_file

    chosen = load_tokenizer_file(tokenizer) if tokenizer else CharacterTokenizer()
    frontend, model = Frontend(), Model()
    criteria = Criteria(
        frontend.sample_rate,
        frontend.frames,
        model.output_length,
        max_seconds=max_seconds,
        speed=speed,
        decode=not headers,
    )
    check_manifest(manifest, chosen, criteria, exclude_to)


@tokenizer_app.command("train")
def tokenizer_train(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests, or text files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The SentencePiece model.")],
    size: Annotated[int, typer.Option(min=30, help="Number of pieces.")] = 128,
) -> None:
    """Learn SentencePiece units from texts."""
    from asr.corpus.manifest import read_manifest
    from asr.text.normalise import normalise
    from asr.text.tokenizer import train_sentencepiece

    texts: list[str] = []
    for path in manifests:
        if path.suffix == ".jsonl":
            texts += [u.text for u in read_manifest(path)]
        elif path.is_file():
            texts += path.read_text().splitlines()
        else:
            raise AsrError(f"{path}: no such file")
    tokenizer = train_sentencepiece([normalise(t) for t in texts if t.strip()], size, output)
    print(f"{output}: {tokenizer.size - 1} pieces")


def _print_settings(settings: object, rows: list[tuple[str, str, str, str]]) -> None:
    import operator
    import textwrap

    for key, kind, _, meaning in rows:
        print(f"{key} = {operator.attrgetter(key)(settings)}  ({kind})")
        print(textwrap.indent(textwrap.fill(meaning, 92), "    "))


if __name__ == "__main__":
    main()
