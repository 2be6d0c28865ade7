"""Commands that predict what a training will prune, and show what was pruned."""

from pathlib import Path
from typing import Annotated

import typer

prune_app = typer.Typer(no_args_is_help=True, help="What pruning will do, and what it did.")

Plot = Annotated[
    Path | None, typer.Option("--plot", help="Also write a plot: a .png, .svg or .pdf file.")
]


def add_to(app: typer.Typer) -> None:
    """Add all commands of this module."""
    app.add_typer(prune_app, name="prune")


@prune_app.command("plan")
def prune_plan(
    recipe: Annotated[Path, typer.Argument(help="A YAML file of settings.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings as key=value, such as pruning.target=0.9.")
    ] = None,
    plot: Plot = None,
) -> None:
    """Predict what a training will prune, when and how much; nothing is trained."""
    from asr.train.initial import read_settings
    from asr.train.plan import plan_to

    print(plan_to(read_settings(recipe, overrides or []), plot))


@prune_app.command("stats")
def prune_stats(
    file: Annotated[Path, typer.Argument(help="A model file, or a checkpoint of torch.")],
    plot: Plot = None,
    tensors: Annotated[
        list[str] | None,
        typer.Option(help="Name pattern of prunable tensors, such as 'rnn*'; several times."),
    ] = None,
) -> None:
    """Show the sparsity of each tensor and gate, of the prunable tensors and of the model."""
    from asr.train.stats import stats_to

    print(stats_to(file, tensors, plot))
