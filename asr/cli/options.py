"""Options that several commands share, and options that are made from a dataclass.

The options of decoding, of long recordings and of subtitles are the fields of dataclasses. Their
names, types, help texts and defaults are read from there, so the command line cannot say anything
else than the code does; ranges are checked by the dataclass. Nothing is imported for that until
a command that has such options is run or asked for help: `asr --help` stays fast.
"""

import dataclasses
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from asr.plain import default_of, meanings


def default_note(text: str) -> str:
    """The end of a help text that names a default; rich would take a plain bracket for markup."""
    return rf" \[default: {text}]"


def complete_model(incomplete: str) -> list[str]:
    """Names of models that complete what is typed."""
    from asr.pretrained import registry

    return [name for name in registry.names() if name.startswith(incomplete)]


_OR_NAME = "A model file, dense or packed, or the name of one that `asr models` lists."
ModelFile = Annotated[Path, typer.Argument(help="A model file, dense or packed.")]
ModelOrName = Annotated[str, typer.Argument(help=_OR_NAME, autocompletion=complete_model)]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help=_OR_NAME + default_note("english"),
        autocompletion=complete_model,
        show_default=False,
    ),
]
Threads = Annotated[int, typer.Option(min=1, max=1024, help="Threads of the network.")]
Backend = Annotated[
    Literal["auto", "torch", "native"],
    typer.Option(
        help="What runs the network: torch, or the native kernels. auto: native if the model is "
        "packed or torch is not installed."
    ),
]
Device = Annotated[
    Literal["cpu", "cuda", "auto"],
    typer.Option(
        help="Where the network runs. cuda: on a GPU, through torch; auto: there if there is one "
        "and the network runs on torch."
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact", help="Let the native kernels compute in fp32 throughout, as torch always does."
    ),
]


@dataclass(frozen=True)
class FieldOptions:
    """Options made from the fields of a dataclass, which is imported when they are needed."""

    module: str
    name: str
    """The dataclass, in its module."""
    panel: str | None = None
    """Heading of these options in help texts."""
    only: tuple[str, ...] = ()
    """Fields that become options; empty: all of them."""
    without: tuple[str, ...] = ()
    """Fields that do not."""
    pretrained: bool = False
    """Whether pretrained recognisers bring defaults of their own, which help texts then name."""

    @functools.cached_property
    def kind(self) -> Any:
        """The dataclass."""
        return getattr(importlib.import_module(self.module), self.name)

    @functools.cached_property
    def fields(self) -> list[dataclasses.Field[Any]]:
        """The fields that become options."""
        return [
            field
            for field in dataclasses.fields(self.kind)
            if field.name not in self.without and (not self.only or field.name in self.only)
        ]

    @functools.cached_property
    def parameters(self) -> list[Any]:
        """The options as click knows them, each None unless it is given."""
        from rich.markup import escape

        hints, texts = typing.get_type_hints(self.kind), meanings(self.kind)
        parameters = []
        for field in self.fields:
            kind, default = hints[field.name], default_of(field)
            spelling = "--" + field.name.replace("_", "-")
            text = escape(texts[field.name]) + self._default(field.name, default)
            if typing.get_origin(kind) in (tuple, list):
                kind, spelling = list[str], spelling.removesuffix("s")
                text += " May be given several times."
            if kind is bool and default:
                spelling = f"{spelling}/--no-{spelling.removeprefix('--')}"
            option = typer.Option(
                spelling,
                help=text,
                rich_help_panel=self.panel,
                show_default=False,
            )
            parameters.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=None,
                    annotation=Annotated[kind | None, option],
                )
            )
        return _click_parameters(parameters)

    def given(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take the values of these options out of `values`; those that were given, by field."""
        taken = {field.name: values.pop(field.name, None) for field in self.fields}
        given = {name: value for name, value in taken.items() if value not in (None, [], ())}
        return {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}

    def _default(self, name: str, default: Any) -> str:
        """The note on the default of a field, and on those that pretrained recognisers bring."""
        usual, named = _displayed(default), []
        for model, own in self._own.items():
            value = _displayed(own[name]) if name in own else usual
            if value != usual:
                named.append(f"{value} with {model}")
        if named:
            return default_note(", ".join([*named, f"else {usual or 'none'}"]))
        return default_note(usual) if usual else ""

    @functools.cached_property
    def _own(self) -> dict[str, dict[str, Any]]:
        """The options that each pretrained recogniser brings, by its name."""
        from asr.pretrained import registry

        names = registry.names() if self.pretrained else []
        return {model: registry.find(model).options for model in names}


DECODING = FieldOptions("asr.decode", "DecoderOptions", "Decoding", pretrained=True)
ONE_BEST = dataclasses.replace(DECODING, without=("nbest",))
"""For commands that have no use for alternatives."""
CHUNKS = FieldOptions("asr.audio.chunk", "ChunkOptions", "Long recordings")
SUBTITLES = FieldOptions("asr.transcribe.subtitles", "SubtitleOptions", "Subtitles (srt, vtt)")
TRANSCRIBING = FieldOptions(
    "asr.transcribe.options", "TranscribeOptions", only=("channel", "batch_seconds", "case")
)

LISTENING = dataclasses.replace(TRANSCRIBING, only=("case",))
WINDOWS = FieldOptions(
    "asr.transcribe.windows", "WindowOptions", "Networks that do not run forward only"
)


class FieldOptionsCommand(TyperCommand):
    """A command that has the options of `with_options` beside its own."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its own parameters, then those of its groups, then `--help`."""
        *own, help_option = super().get_params(ctx)
        groups: tuple[FieldOptions, ...] = getattr(self.callback, "field_options", ())
        return [*own, *(option for group in groups for option in group.parameters), help_option]


def with_options(**groups: FieldOptions) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command, of class `FieldOptionsCommand`, the options of some groups.

    `@with_options(chunks=CHUNKS)` passes those that were given as the argument `chunks`, a
    dictionary by field.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**values: Any) -> Any:
            for name, group in groups.items():
                values[name] = group.given(values)
            return command(**values)

        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command).parameters.values()
            if parameter.name not in groups
        ]
        run.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in own}
        run.field_options = tuple(groups.values())  # type: ignore[attr-defined]
        del run.__wrapped__
        return run

    return decorate


def _click_parameters(parameters: list[inspect.Parameter]) -> list[Any]:
    """The click parameters that typer makes from those of a function."""

    def function(**_: Any) -> None:
        pass

    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return typer.main.get_command(app).params


def _displayed(value: Any) -> str:
    """A value as help texts display it; empty for one that means nothing."""
    if isinstance(value, bool | types.NoneType) or value in ("", (), []):
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return Path(value).name if isinstance(value, str) else str(value)
