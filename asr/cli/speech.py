"""Commands for people with recordings: transcribe, align, evaluate, compare, calibrate, lm.

`cli.py` adds them to the command `asr`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from asr.cli.options import (
    Backend,
    Exact,
    ModelOption,
    ModelOrName,
    Threads,
    best_given,
    cutting,
    decoding_given,
    named,
    sharing,
    subtitling,
)

FORMATS = ("txt", "json", "srt", "vtt", "tsv")

lm_app = typer.Typer(no_args_is_help=True, help="Make and tune language models.")

Side = Annotated[
    str,
    typer.Argument(
        help="A model file or name, or what `asr evaluate -o` wrote.", autocompletion=named
    ),
]
Source = Annotated[str, typer.Argument(help="A manifest, or a folder of recordings with texts.")]


def add_to(app: typer.Typer) -> None:
    """Add all commands of this module."""
    for command in (transcribe, align, evaluate, compare, calibrate):
        app.command()(command)
    app.add_typer(lm_app, name="lm")


def _formats(incomplete: str) -> list[str]:
    return [name for name in FORMATS if name.startswith(incomplete)]


@sharing(decoding=decoding_given, cutting=cutting, subtitles=subtitling)
def transcribe(
    paths: Annotated[
        list[str], typer.Argument(help="Recordings, folders of them, - for standard input.")
    ],
    decoding: Any,
    cutting: Any,
    subtitles: Any,
    model: ModelOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for one file a recording; else print."),
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help=f"{', '.join(FORMATS)}; may be given several times.",
            autocompletion=_formats,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also do what is done already.")
    ] = False,
    case: Annotated[
        Literal["lower", "upper"] | None,
        typer.Option(help="Letters of the text. [default: the model's]", show_default=False),
    ] = None,
    batch_seconds: Annotated[float, typer.Option(help="Seconds of audio of a batch.")] = 120.0,
    progress: Annotated[
        bool | None, typer.Option(help="Show a bar. [default: on a terminal]", show_default=False)
    ] = None,
    threads: Threads = 2,
    backend: Backend = "auto",
    exact: Exact = False,
) -> None:
    """Write down what is said in recordings.

    A model that comes with asr is read with its own decoder, a beam search with its language model
    (--decoder greedy: without); a model file of yours greedily, unless you ask for more.
    """
    import sys

    from asr.pretrained import registry as models
    from asr.transcribe.batch import transcribe_to
    from asr.transcribe.options import TranscribeOptions
    from asr.transcribe.recogniser import load_for_command

    reading = models.decoding(model, decoding)
    options = TranscribeOptions(reading, cutting, subtitles, batch_seconds, case=case)
    bar = sys.stderr.isatty() if progress is None else progress
    failed = transcribe_to(
        load_for_command(model, threads, backend, exact, reading),
        paths,
        output,
        format or ["txt"],
        options,
        overwrite,
        bar,
    )
    if failed:
        raise typer.Exit(1)


@sharing(cutting=cutting)
def align(
    recording: Annotated[Path, typer.Argument(help="A recording.")],
    text: Annotated[str, typer.Argument(help="What is said in it: a text file, or the words.")],
    cutting: Any,
    model: ModelOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; else print.")
    ] = None,
    format: Annotated[
        str, typer.Option("--format", "-f", help=", ".join(FORMATS), autocompletion=_formats)
    ] = "json",
    threads: Threads = 2,
) -> None:
    """Find when each word of a known text is said."""
    from asr.decode import DecoderOptions
    from asr.transcribe.align import align_to
    from asr.transcribe.recogniser import load_for_command

    # Nothing is decoded: greedy is the decoder that opens no language model.
    align_to(
        load_for_command(model, threads, decoding=DecoderOptions()),
        recording,
        text,
        output,
        format,
        cutting,
    )


@sharing(decoding=best_given)
def evaluate(
    model: ModelOrName,
    manifest: Source,
    decoding: Any,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for reference and hypothesis.")
    ] = None,
    threads: Threads = 2,
    backend: Backend = "auto",
    exact: Exact = False,
) -> None:
    """Word and character error rate of a model on recordings with known text.

    The decoder is chosen as in `asr transcribe`.
    """
    from asr.evaluate.dataset import evaluate_to
    from asr.pretrained import registry as models

    options = models.decoding(model, decoding)
    print(evaluate_to(model, manifest, output, threads, options, backend, exact))


@sharing(decoding=best_given)
def compare(
    a: Side,
    b: Side,
    decoding: Any,
    manifest: Annotated[
        str | None, typer.Argument(help="What models are run on: a manifest, or a folder.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for all utterances that differ.")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Utterances that differ to print.")] = 10,
    threads: Threads = 2,
) -> None:
    """Is one of two results better, by how much, and where do they differ?

    Each is a file that `asr evaluate -o` wrote, or a model: its decoder is chosen as in
    `asr transcribe`.
    """
    from asr.evaluate.compare import compare_to

    print(compare_to(a, b, manifest, output, show, threads, decoding))


@sharing(decoding=best_given)
def calibrate(
    model: ModelOrName,
    manifest: Source,
    decoding: Any,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Model file to write; else the same.")
    ] = None,
    threads: Threads = 2,
) -> None:
    """Make word confidences say how often such words are right, from a dev set."""
    from asr.evaluate.calibrate import calibrate_to
    from asr.pretrained import registry as models

    options = models.decoding(model, decoding)
    print(calibrate_to(model, manifest, output, options, threads))


@lm_app.command("train")
def lm_train(
    texts: Annotated[list[Path], typer.Argument(help="Text files, plain or .gz, or manifests.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="x.arpa, x.arpa.gz, or another name: binary.")
    ],
    order: Annotated[int, typer.Option(min=1, max=6, help="Longest run of words.")] = 3,
    cutoffs: Annotated[
        str, typer.Option(help="Least counts of 1-, 2-, 3-grams ..., such as 1,1,2.")
    ] = "",
    prune: Annotated[float, typer.Option(help="Entropy threshold, such as 1e-8; 0: none.")] = 0.0,
    heldout: Annotated[Path | None, typer.Option(help="Text whose perplexity is printed.")] = None,
    min_count: Annotated[int, typer.Option(min=1, help="Words seen less often are unknown.")] = 1,
    normalisation: Annotated[str, typer.Option(help="Normal form of the texts.")] = "en-v1",
) -> None:
    """Train a word n-gram model (modified Kneser-Ney)."""
    from asr.decode.lm.commands import lm_train as run

    print(run(texts, output, order, cutoffs, prune, heldout, min_count, normalisation))


@lm_app.command("convert")
def lm_convert(
    source: Annotated[Path, typer.Argument(help="A language model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="In which form, by its name.")],
) -> None:
    """Convert ARPA to the binary form, which is small and opens fast, or to ARPA again."""
    from asr.decode.lm.commands import lm_convert as run

    print(run(source, output))


@lm_app.command("info")
def lm_info(source: Annotated[Path, typer.Argument(help="A language model.")]) -> None:
    """Order, n-grams and vocabulary of a language model."""
    from asr.decode.lm.commands import lm_info as run

    print(run(source))


@lm_app.command("tune")
def lm_tune(
    model: ModelOrName,
    manifest: Annotated[str, typer.Argument(help="A dev set; never a test set.")],
    lm: Annotated[Path, typer.Option("--lm", help="The language model.")],
    weights: Annotated[str, typer.Option(help="Weights to try.")] = "0.2,0.4,0.6,0.8,1.0",
    bonuses: Annotated[str, typer.Option(help="Word bonuses to try.")] = "0,0.5,1,2",
    beam: Annotated[int, typer.Option(min=1, help="Prefixes kept.")] = 32,
    unknown_score: Annotated[float, typer.Option(help="For words it lacks.")] = 0.0,
    threads: Threads = 2,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the whole table.")
    ] = None,
) -> None:
    """Find the weight and the word bonus of a language model on a dev set."""
    from asr.evaluate.tune import lm_tune as run

    print(run(model, manifest, lm, weights, bonuses, beam, unknown_score, threads, output))
