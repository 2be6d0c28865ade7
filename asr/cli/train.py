"""Commands that train networks and report what was trained."""

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add all commands of this module."""
    for command in (train, report):
        app.command()(command)


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file of settings.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings as key=value, such as model.hidden=64.")
    ] = None,
    show: Annotated[bool, typer.Option("--settings", help="Print all settings and stop.")] = False,
) -> None:
    """Train a network, or resume an interrupted training; a finished one is not run again."""
    from asr.settings.run import Run
    from asr.settings.yaml import describe
    from asr.train.initial import read_settings

    settings = read_settings(recipe, overrides or [])
    if show:
        _print_settings(settings, describe(Run))
        return
    import os
    import sys

    # torch's C++ warns of an option that we need (asr/train/trainer.py) and of sockets it retries.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from asr.train import launch
    from asr.train.run import train as run
    from asr.train.trainer import place

    if launch.started_here(settings.training):
        sys.exit(launch.launch(settings.training.devices, sys.argv[1:]))
    folder = run(settings)
    if place().rank == 0:
        print(folder)


def report(
    records: Annotated[Path, typer.Argument(help="Folder of record.json files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and plots.")],
    results: Annotated[
        Path | None,
        typer.Option(help="Markdown file whose part between this recipe's markers is rewritten."),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "",
) -> None:
    """Make tables, plots and a page from the records of trainings or benchmarks."""
    from asr.report import report as run

    for path in run(records, output, results_markdown=results, title=title or records.name):
        print(path)


def _print_settings(settings: object, rows: list[tuple[str, str, str, str]]) -> None:
    import operator
    import textwrap

    for key, kind, _, meaning in rows:
        print(f"{key} = {operator.attrgetter(key)(settings)}  ({kind})")
        print(textwrap.indent(textwrap.fill(meaning, 92), "    "))
