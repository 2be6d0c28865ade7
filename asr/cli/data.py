"""Commands for recordings with texts and for tokenizers: what a training reads."""

from pathlib import Path
from typing import Annotated, Literal

import typer

manifest_app = typer.Typer(no_args_is_help=True, help="Make and check manifests of recordings.")
tokenizer_app = typer.Typer(no_args_is_help=True, help="Train the tokenizer of a network.")


def add_to(app: typer.Typer) -> None:
    """Add all commands of this module."""
    app.add_typer(manifest_app, name="manifest")
    app.add_typer(tokenizer_app, name="tokenizer")


@manifest_app.command("make")
def manifest_make(
    folder: Annotated[Path, typer.Argument(help="Folder of the recordings.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest to write, .jsonl.")],
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
    """List the recordings of a folder and their texts, one JSON line each."""
    from asr.corpus.commands import make_manifest

    make_manifest(layout, folder, output, texts=texts, tsv=tsv)


@manifest_app.command("spoken")
def manifest_spoken(
    folder: Annotated[Path, typer.Argument(help="Folder of the built-in spoken corpus.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as train_hours=2 vocabulary=large.")
    ] = None,
) -> None:
    """Make the built-in spoken corpus: train.jsonl, dev.jsonl, test.jsonl and their recordings."""
    from asr.corpus.progress import fraction_bar
    from asr.corpus.spoken.build import ensure
    from asr.corpus.spoken.settings import PARTS, Spoken
    from asr.settings.yaml import load

    settings = load(Spoken, None, [*(overrides or []), f"folder={folder}"])
    for part in PARTS:
        with fraction_bar(f"spoken:{part}") as progress:
            print(ensure(part, settings, progress=progress))


@manifest_app.command("check")
def manifest_check(
    manifest: Annotated[Path, typer.Argument(help="A manifest.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="A SentencePiece model; without it, the characters A to Z.")
    ] = None,
    exclude_to: Annotated[
        Path | None, typer.Option(help="Write a manifest of the usable utterances here.")
    ] = None,
    headers: Annotated[
        bool,
        typer.Option("--headers", help="Read headers only: faster, misses truncated files."),
    ] = False,
    speed: Annotated[
        float, typer.Option(min=0.5, max=2, help="Fastest speed perturbation of the training.")
    ] = 1.1,
    max_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Longest utterance that is accepted.")
    ] = 20.0,
) -> None:
    """Find unusable utterances: unreadable, empty, with unknown characters, too short for CTC."""
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
    size: Annotated[int, typer.Option(min=30, help="Number of tokens.")] = 128,
) -> None:
    """Train a SentencePiece tokenizer on texts."""
    from asr.text.read import read_sentences
    from asr.text.tokenizer import train_sentencepiece

    texts = [text for text in read_sentences(manifests) if text]
    tokenizer = train_sentencepiece(texts, size, output)
    print(f"{output}: {tokenizer.size - 1} tokens and the CTC blank")
