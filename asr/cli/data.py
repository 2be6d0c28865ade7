"""Commands for what a training reads: the check of recordings with texts, tokenizers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import complete_model, default_note

if TYPE_CHECKING:
    from asr.features.settings import Frontend
    from asr.model.dimensions import Model
    from asr.text.tokenizer import Tokenizer

tokenizer_app = typer.Typer(no_args_is_help=True, help="Train the tokenizer of a network.")


def add_to(app: typer.Typer) -> None:
    """Add all commands of this module."""
    app.command()(check)
    app.add_typer(tokenizer_app, name="tokenizer")


def check(
    manifest: Annotated[str, typer.Argument(help="A manifest, or a folder of recordings.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The model to fine-tune or evaluate, a file or a name: its tokenizer, its sample "
            "rate and how many frames it outputs. Without it, those of a new training.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="A SentencePiece model to check with, also in the place of the model's tokenizer "
            "(init_output=new)." + default_note("that of the model, else the characters A to Z"),
            show_default=False,
        ),
    ] = None,
    exclude_to: Annotated[
        Path | None, typer.Option(help="Write a manifest of the usable utterances here.")
    ] = None,
    headers: Annotated[
        bool,
        typer.Option("--headers", help="Read headers only: faster, misses damage inside of files."),
    ] = False,
    speed: Annotated[
        float, typer.Option(min=0.5, max=2, help="Fastest speed perturbation of the training.")
    ] = 1.1,
    max_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Longest utterance that is accepted.")
    ] = 20.0,
) -> None:
    """Check recordings and texts before a training: what cannot be used, and what to do about it.

    The exit status is 0 if nothing has to be fixed.
    """
    from asr.corpus.check import Criteria
    from asr.corpus.commands import check_utterances
    from asr.features.settings import Frontend
    from asr.model.dimensions import Model

    chosen, frontend, size = _needs_of(model) if model else (None, Frontend(), Model())
    criteria = Criteria(
        frontend.sample_rate,
        frontend.frames,
        size.output_length,
        max_seconds=max_seconds,
        speed=speed,
        decode=not headers,
    )
    if tokenizer or chosen is None:
        chosen = _tokenizer(tokenizer)
    check_utterances(manifest, chosen, criteria, exclude_to)


def _needs_of(model: str) -> "tuple[Tokenizer, Frontend, Model]":
    """Tokenizer, features and dimensions of a model file or name."""
    from asr.model.file import read_model
    from asr.pretrained import registry

    opened = read_model(registry.resolve(model))
    return opened.tokenizer, opened.metadata.frontend, opened.metadata.model


def _tokenizer(path: Path | None) -> "Tokenizer":
    """The tokenizer of a SentencePiece file; None: characters."""
    from asr.text.tokenizer import CharacterTokenizer, load_tokenizer_file

    return load_tokenizer_file(path) if path else CharacterTokenizer()


@tokenizer_app.command("train")
def tokenizer_train(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests, or text files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The SentencePiece model.")],
    size: Annotated[int, typer.Option(min=30, help="Number of tokens.")] = 128,
) -> None:
    """Train a SentencePiece tokenizer on texts."""
    from asr.text.read import read_sentences
    from asr.text.tokenizer import train_sentencepiece

    texts = [text for text in read_sentences(manifests) if text]
    tokenizer = train_sentencepiece(texts, size, output)
    print(f"{output}: {tokenizer.size - 1} tokens and the CTC blank")
