"""The command `asr serve`."""

from typing import Annotated, Any

import typer

from asr.cli.options import FieldOptions, FieldOptionsCommand, complete_model, with_options

SERVING = FieldOptions("asr.server.options", "ServerOptions", without=("models", "decoding"))
DECODING = FieldOptions(
    "asr.decode", "DecoderOptions", "Decoding", without=("nbest", "phrases"), pretrained=True
)


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(cls=FieldOptionsCommand)(serve)


@with_options(serving=SERVING, decoding=DECODING)
def serve(
    serving: Any,
    decoding: Any,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A name of `asr models`, a model file, or NAME=MODEL. May be given several times; "
            r"the first is the default. \[default: english]",
            autocompletion=complete_model,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve models over HTTP: OpenAI's transcription API, a page, and words while one speaks."""
    from asr.server.options import ServerOptions
    from asr.server.run import serve as run

    run(ServerOptions(tuple(model or ()), decoding, **serving))
