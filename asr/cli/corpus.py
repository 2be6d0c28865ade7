"""Commands that get corpora and list recordings with their texts in manifests."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from asr.cli.options import default_note

corpus_app = typer.Typer(
    no_args_is_help=True, help="Get corpora; list recordings and their texts in manifests."
)

Mirror = Annotated[
    str | None,
    typer.Option(
        help="Another address than https://www.openslr.org/resources, or a folder that holds the "
        "files already.",
        show_default=False,
    ),
]
ManifestOption = Annotated[
    Path, typer.Option("--output", "-o", help="The manifest to write, .jsonl.")
]


def add_to(app: typer.Typer) -> None:
    """Add all commands of this module."""
    app.add_typer(corpus_app, name="corpus")


@corpus_app.command()
def librispeech(
    folder: Annotated[Path, typer.Argument(help="Folder for the parts and their manifests.")],
    parts: Annotated[
        str,
        typer.Option(
            help="Parts with commas between them: train-clean-100, train-clean-360, "
            "train-other-500, dev-clean, dev-other, test-clean, test-other; or all."
        ),
    ],
    mirror: Mirror = None,
) -> None:
    """Download parts of LibriSpeech, check and unpack them: FOLDER/PART and FOLDER/PART.jsonl.

    Run the same command to continue; what is complete is left alone.
    """
    from asr.corpus.openslr import ADDRESS, get_librispeech

    get_librispeech(folder, _split(parts), mirror or ADDRESS)


@corpus_app.command("librispeech-lm")
def librispeech_lm(
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")],
    files: Annotated[
        str,
        typer.Option(
            help="Files with commas between them: 3-gram, 4-gram, lexicon, 3-gram-1e-7 and "
            "3-gram-3e-7 (pruned), vocabulary, text; or all."
        ),
    ] = "3-gram,4-gram,lexicon",
    mirror: Mirror = None,
) -> None:
    """Download LibriSpeech's n-gram models (ARPA) and its lexicon, and check them."""
    from asr.corpus.openslr import ADDRESS, get_language_models

    get_language_models(folder, _split(files), mirror or ADDRESS)


@corpus_app.command("common-voice")
def common_voice(
    folder: Annotated[Path, typer.Argument(help="An unpacked release of Common Voice.")],
    parts: Annotated[
        str,
        typer.Option(
            help="Its tables, with commas between them; validated holds train, dev and test too."
        ),
    ] = "train,dev,test",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the manifests." + default_note("beside the tables"),
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the recordings of Common Voice: PART.jsonl of PART.tsv."""
    from asr.corpus.commands import make_common_voice

    make_common_voice(folder, _split(parts), output)


@corpus_app.command()
def ljspeech(
    folder: Annotated[Path, typer.Argument(help="LJSpeech, or a folder with a metadata.csv.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The manifest." + default_note("metadata.jsonl in the folder"),
            show_default=False,
        ),
    ] = None,
    metadata: Annotated[
        Path | None, typer.Option(help="The table, if it is not metadata.csv in the folder.")
    ] = None,
) -> None:
    """List the recordings of a metadata.csv: ID|text|text, or a header with file_name and text."""
    from asr.corpus.commands import make_ljspeech

    make_ljspeech(folder, output, metadata)


@corpus_app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(help="Cuts of lhotse, or its recordings and supervisions: .jsonl.gz, ..."),
    ],
    output: ManifestOption,
    root: Annotated[
        Path, typer.Option(help="Folder that relative paths of recordings begin in.")
    ] = Path("."),
) -> None:
    """List what lhotse prepared; parts of long recordings stay parts, with an offset."""
    from asr.corpus.commands import import_cuts

    import_cuts(files, output, root)


@corpus_app.command()
def folder(
    folder: Annotated[Path, typer.Argument(help="Folder of the recordings.")],
    output: ManifestOption,
    layout: Annotated[
        Literal["auto", "librispeech", "folder"], typer.Option(help="How the folder is organised.")
    ] = "auto",
    texts: Annotated[
        Literal["auto", "tsv", "txt", "csv", "nemo"],
        typer.Option(help="Where a plain folder has texts."),
    ] = "auto",
    tsv: Annotated[
        Path | None, typer.Option(help="The TSV or CSV of the texts, if not inside the folder.")
    ] = None,
) -> None:
    """List the recordings of a folder and their texts, one JSON line each."""
    from asr.corpus.commands import make_manifest

    make_manifest(layout, folder, output, texts=texts, tsv=tsv)


@corpus_app.command()
def split(
    manifest: Annotated[Path, typer.Argument(help="A manifest.")],
    dev: Annotated[float, typer.Option(help="Fraction of the seconds for dev.jsonl.")] = 0.1,
    test: Annotated[
        float, typer.Option(help="Fraction of the seconds for test.jsonl; 0: none.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Which speakers are drawn.")] = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the manifests." + default_note("beside the manifest"),
            show_default=False,
        ),
    ] = None,
) -> None:
    """Split a manifest into train.jsonl, dev.jsonl and test.jsonl.

    No speaker is in two of them; where speakers are unknown or few, no recording is.
    """
    from asr.corpus.commands import split_manifest

    split_manifest(manifest, output, dev, test, seed)


@corpus_app.command()
def spoken(
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


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
