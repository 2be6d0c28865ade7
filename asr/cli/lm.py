"""Commands that make and tune word language models."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from asr.cli.options import (
    DECODING,
    FieldOptionsCommand,
    ModelOrName,
    Threads,
    with_options,
)
from asr.text.normalise import NORMALISATION

lm_app = typer.Typer(no_args_is_help=True, help="Make and tune language models.")

_FORM = "File to write: ARPA if it is called x.arpa or x.arpa.gz, else binary."
TUNED = dataclasses.replace(DECODING, panel=None, only=("beam", "unknown_score"), pretrained=False)


def add_to(app: typer.Typer) -> None:
    """Add all commands of this module."""
    app.add_typer(lm_app, name="lm")


@lm_app.command("train")
def lm_train(
    texts: Annotated[
        list[Path], typer.Argument(help="Text files, plain, .gz or .xz, or manifests.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help=_FORM)],
    order: Annotated[int, typer.Option(min=1, max=6, help="Words in the longest n-grams.")] = 3,
    cutoffs: Annotated[
        str, typer.Option(help="Minimum counts of 1-, 2-, 3-grams and so on, such as 1,1,2.")
    ] = "",
    prune: Annotated[
        float, typer.Option(help="Threshold of entropy pruning, such as 1e-8; 0: no pruning.")
    ] = 0.0,
    heldout: Annotated[Path | None, typer.Option(help="Text whose perplexity is printed.")] = None,
    min_count: Annotated[int, typer.Option(min=1, help="Rarer words become unknown.")] = 1,
    normalisation: Annotated[str, typer.Option(help="Normalisation of the texts.")] = NORMALISATION,
) -> None:
    """Train a word n-gram model (modified Kneser-Ney)."""
    from asr.decode.lm.commands import lm_train as run

    print(run(texts, output, order, cutoffs, prune, heldout, min_count, normalisation))


@lm_app.command("convert")
def lm_convert(
    source: Annotated[Path, typer.Argument(help="A language model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=_FORM)],
) -> None:
    """Convert ARPA to the binary form, which is small and opens fast, or to ARPA again."""
    from asr.decode.lm.commands import lm_convert as run

    print(run(source, output))


@lm_app.command("info")
def lm_info(source: Annotated[Path, typer.Argument(help="A language model.")]) -> None:
    """Show order, n-grams and vocabulary of a language model."""
    from asr.decode.lm.commands import lm_info as run

    print(run(source))


@lm_app.command("tune", cls=FieldOptionsCommand)
@with_options(decoding=TUNED)
def lm_tune(
    model: ModelOrName,
    manifest: Annotated[str, typer.Argument(help="A dev set; never a test set.")],
    lm: Annotated[Path, typer.Option("--lm", help="The language model.")],
    decoding: Any,
    weights: Annotated[str, typer.Option(help="Weights to try.")] = "0.2,0.4,0.6,0.8,1.0",
    bonuses: Annotated[str, typer.Option(help="Word bonuses to try.")] = "0,0.5,1,2",
    prior_weights: Annotated[
        str | None,
        typer.Option(help="Prior weights to try; default: 0,0.3,0.5,0.7 if MODEL has priors."),
    ] = None,
    threads: Threads = 2,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the whole table.")
    ] = None,
) -> None:
    """Find the weight of a language model, the word bonus and the prior weight on a dev set."""
    from asr.evaluate.tune import lm_tune as run

    values = (weights, bonuses, prior_weights)
    print(run(model, manifest, lm, *values, threads=threads, output=output, **decoding))
