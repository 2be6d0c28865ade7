"""Options that several commands share: each defined once, and each a field of one dataclass.

A default of None means "not given": the dataclass has the default, and refuses what does not go
together. Nothing is imported until a command runs.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from asr.audio.chunk import ChunkOptions
    from asr.transcribe.subtitles import SubtitleOptions


def named(incomplete: str) -> list[str]:
    """Names of models that complete what is typed."""
    from asr.pretrained import registry as models

    return [name for name in models.names() if name.startswith(incomplete)]


_OR_NAME = "A model file, dense or packed, or the name of one that `asr models` lists"
ModelFile = Annotated[Path, typer.Argument(help="A model file, dense or packed.")]
ModelOrName = Annotated[str, typer.Argument(help=f"{_OR_NAME}.", autocompletion=named)]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help=f"{_OR_NAME}. [default: english]",
        autocompletion=named,
        show_default=False,
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of the network.")]
Backend = Annotated[
    Literal["auto", "torch", "native"],
    typer.Option(help="What runs the network; auto: native if packed or torch is not there."),
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Kernels that compute in fp32 only, as torch always does.")
]


def _option(help: str, panel: str, names: tuple[str, ...] = ()) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False)


_decoding = functools.partial(_option, panel="Decoding")
_cutting = functools.partial(_option, panel="Long recordings")
_subtitles = functools.partial(_option, panel="Subtitles (srt, vtt)")
_PHRASE = typer.Option(
    "--phrase",
    help="A word or words to listen for; may be given several times.",
    rich_help_panel="Decoding",
    show_default=False,
)


def decoding_given(
    decoder: Annotated[
        Literal["greedy", "beam"] | None,
        _decoding("How log-probabilities are read (greedy)."),
    ] = None,
    beam: Annotated[int | None, _decoding("Prefixes kept after every frame (32).")] = None,
    beam_threshold: Annotated[
        float | None, _decoding("Prefixes this much worse than the best are dropped (16).")
    ] = None,
    token_threshold: Annotated[
        float | None, _decoding("Tokens this much less probable than the best are not tried (9).")
    ] = None,
    lm: Annotated[Path | None, _decoding("Word language model, ARPA or binary.")] = None,
    lm_weight: Annotated[float | None, _decoding("Its weight (0.5).")] = None,
    word_bonus: Annotated[float | None, _decoding("Added for every word (0).")] = None,
    unknown_score: Annotated[
        float | None, _decoding("Added for every word that the language model lacks (0).")
    ] = None,
    nbest: Annotated[int | None, _decoding("Alternatives to give in json (1).")] = None,
    phrases: Annotated[list[str] | None, _PHRASE] = None,
    phrase_bonus: Annotated[
        float | None, _decoding("Added for every word of a phrase (3).")
    ] = None,
) -> dict[str, Any]:
    """The decoder options that were given, by name."""
    values = {
        "decoder": decoder,
        "beam": beam,
        "beam_threshold": beam_threshold,
        "token_threshold": token_threshold,
        "lm": None if lm is None else str(lm),
        "lm_weight": lm_weight,
        "word_bonus": word_bonus,
        "unknown_score": unknown_score,
        "nbest": nbest,
        "phrases": tuple(phrases) if phrases else None,
        "phrase_bonus": phrase_bonus,
    }
    return _given(values)


def cutting(
    chunk_seconds: Annotated[
        float | None, _cutting("Longest piece of audio heard at once (20).")
    ] = None,
    overlap_seconds: Annotated[
        float | None, _cutting("Audio that neighbouring pieces share (2).")
    ] = None,
    split_on_silence: Annotated[
        bool, _cutting("Split where it is quiet instead.", names=("--split-on-silence",))
    ] = False,
) -> "ChunkOptions":
    """The options of long recordings that were given."""
    from asr.audio.chunk import ChunkOptions

    values = {
        "chunk_seconds": chunk_seconds,
        "overlap_seconds": overlap_seconds,
        "split_on_silence": split_on_silence,
    }
    return ChunkOptions(**_given(values))


def subtitling(
    line_length: Annotated[int | None, _subtitles("Characters of a line (42).")] = None,
    lines: Annotated[int | None, _subtitles("Lines at once (2).")] = None,
    max_seconds: Annotated[float | None, _subtitles("Longest time on the screen (7).")] = None,
    min_seconds: Annotated[
        float | None, _subtitles("Shortest time, where there is room (1).")
    ] = None,
    min_gap: Annotated[float | None, _subtitles("Seconds between two (0.08).")] = None,
    pause: Annotated[float | None, _subtitles("A silence that ends one (1.5).")] = None,
) -> "SubtitleOptions":
    """The options of subtitles that were given."""
    from asr.transcribe.subtitles import SubtitleOptions

    values = {
        "line_length": line_length,
        "lines": lines,
        "max_seconds": max_seconds,
        "min_seconds": min_seconds,
        "min_gap": min_gap,
        "pause": pause,
    }
    return SubtitleOptions(**_given(values))


def best_given(**given: Any) -> dict[str, Any]:
    """Those of `decoding_given` that a command can use which wants no alternatives."""
    return decoding_given(**given)


_signature = inspect.signature(decoding_given)
_best = [parameter for name, parameter in _signature.parameters.items() if name != "nbest"]
best_given.__signature__ = inspect.Signature(_best)  # type: ignore[attr-defined]


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def sharing(**groups: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of some groups; it gets what each of them makes of them.

    `@sharing(cutting=cutting)` replaces the parameter `cutting` by the options of that group.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**given: Any) -> Any:
            for name, group in groups.items():
                names = inspect.signature(group).parameters
                given[name] = group(**{n: given.pop(n) for n in names})
            return command(**given)

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name in groups:
                parameters += inspect.signature(groups[parameter.name]).parameters.values()
            else:
                parameters.append(parameter)
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in keyword}
        del run.__wrapped__
        return run

    return decorate
