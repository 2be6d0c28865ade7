"""Which utterances cannot be trained on, and why; found before training, none dropped silently."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from asr import audio
from asr.corpus.manifest import SHOWN, Utterance, header, listed
from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.text.normalise import normalise
from asr.text.tokenizer import UnknownCharacters

KINDS = {
    "unreadable": "the recording is missing, damaged or not as long as its manifest says",
    "too_short": "the recording is shorter than one window of the features",
    "too_long": "the recording is longer than data.max_seconds",
    "empty_text": "nothing is left of the text after normalisation",
    "unknown_symbols": "the text has symbols that the units lack",
    "cannot_align": "CTC needs more output frames for the text than the recording gives",
}
"""What can be wrong with an utterance; one can have several problems."""
_TOLERANCE = (0.1, 0.01)
"""Seconds, and share, between manifest and header: manifests round, MPEG headers estimate."""


class Encoder(Protocol):
    """What is asked of units here; `asr.text.tokenizer.Units` has it."""

    def encode(self, text: str) -> list[int]:
        """Symbols of a normalised text; raises UnknownCharacters."""


@dataclass(frozen=True)
class CheckReport:
    """What `check` found."""

    checked: int
    """Utterances that were looked at."""
    problems: dict[str, list[tuple[str, str]]]
    """For each of `KINDS` that occurs: (utterance id, explanation) in manifest order."""

    @property
    def ids(self) -> frozenset[str]:
        """Utterances that have a problem."""
        return frozenset(key for found in self.problems.values() for key, _ in found)

    @property
    def count(self) -> int:
        """How many utterances have a problem."""
        return len(self.ids)

    def rows(self) -> list[tuple[str, int, str]]:
        """(kind, utterances, what the kind means) of the kinds that occur."""
        return [(kind, len(found), KINDS[kind]) for kind, found in self.problems.items()]

    def table(self, shown: int | None = SHOWN) -> str:
        """The counts of every kind, then its first `shown` utterances (None: all), explained."""
        if not self.problems:
            return f"{self.checked} utterances checked, no problems"
        lines = [f"{self.checked} utterances checked, {self.count} with problems"]
        lines += [f"  {kind:<15} {number:>7}  {meaning}" for kind, number, meaning in self.rows()]
        for kind, found in self.problems.items():
            lines.append(f"{kind}:")
            lines += [f"  {key}: {explanation}" for key, explanation in found[:shown]]
            if shown is not None and len(found) > shown:
                lines.append(f"  and {len(found) - shown} more")
        return "\n".join(lines)

    def raise_if_any(self, how_to_exclude: str) -> None:
        """Raise AsrError with the table and `how_to_exclude` if there is any problem."""
        if self.problems:
            raise AsrError(f"{self.table()}\nMend them, or leave them out: {how_to_exclude}")


def check(
    utterances: Sequence[Utterance],
    tokenizer: Encoder,
    frontend: Frontend,
    model: Model,
    max_seconds: float | None = None,
    speed: float = 1.0,
    decode: bool = False,
    progress: Callable[[], object] | None = None,
) -> CheckReport:
    """Look for everything that keeps utterances from being trained on.

    CTC aligns a text of n symbols, r of them equal to their predecessor, with at least n + r
    output frames (a blank must stand between equal ones); output frames are counted at the
    largest speed factor `speed` of the augmentation, which shortens recordings most.
    Recordings are judged by their headers; `decode=True` decodes each, which is slow and finds
    what is damaged inside. `progress` is called once for each utterance.
    Raises AsrError if two utterances have one id: a report could not tell them apart.
    """
    _unique(utterances)
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in KINDS}

    def judge(utterance: Utterance) -> list[tuple[str, str]]:
        return list(_problems(utterance, tokenizer, frontend, model, max_seconds, speed, decode))

    # Decoding lets other threads run; the order of results is that of the utterances.
    with ThreadPoolExecutor(max_workers=4) as pool:
        for utterance, problems in zip(utterances, pool.map(judge, utterances), strict=True):
            for kind, explanation in problems:
                found[kind].append((utterance.id, explanation))
            if progress is not None:
                progress()
    return CheckReport(len(utterances), {kind: rows for kind, rows in found.items() if rows})


def usable(utterances: Sequence[Utterance], report: CheckReport) -> list[Utterance]:
    """The utterances without a problem, in their order."""
    bad = report.ids
    return [utterance for utterance in utterances if utterance.id not in bad]


def _unique(utterances: Sequence[Utterance]) -> None:
    seen: dict[str, str] = {}
    problems = []
    for utterance in utterances:
        if utterance.id in seen:
            paths = f"{seen[utterance.id]} and {utterance.audio_filepath}"
            problems.append(f"{utterance.id}: {paths}")
        seen[utterance.id] = utterance.audio_filepath
    if problems:
        heading = (
            f"ids that occur twice: {len(problems)}; entries may overlap, or name recordings "
            'alike: give these their own "id" in a manifest'
        )
        raise AsrError(listed(heading, problems))


def _problems(
    utterance: Utterance,
    tokenizer: Encoder,
    frontend: Frontend,
    model: Model,
    max_seconds: float | None,
    speed: float,
    decode: bool,
) -> Iterator[tuple[str, str]]:
    """Yield (kind, explanation) of each problem of one utterance."""
    tokens: list[int] = []
    text = normalise(utterance.text)
    if not text:
        yield "empty_text", f"the text is {utterance.text!r}"
    else:
        try:
            tokens = tokenizer.encode(text)
        except UnknownCharacters as error:
            yield "unknown_symbols", str(error)
    try:
        samples = _samples(utterance, frontend.sample_rate, decode)
    except AsrError as error:
        yield "unreadable", str(error)
        return
    seconds = samples / frontend.sample_rate
    if max_seconds is not None and seconds > max_seconds:
        yield "too_long", f"{seconds:.2f} s, above {max_seconds:g} s"
    # soxr, which changes speed and rate, rounds lengths too.
    frames = frontend.frames(round(samples / speed))
    at_speed = "" if speed == 1 else f" at speed {speed:g}"
    if frames < 1:
        yield "too_short", f"{seconds:.4f} s{at_speed}, below {frontend.window_seconds:g} s"
        return
    repeats = sum(first == second for first, second in pairwise(tokens))
    available = model.output_length(frames)
    if len(tokens) + repeats > available:
        yield (
            "cannot_align",
            f"{len(tokens)} symbols and {repeats} repeats need {len(tokens) + repeats} output "
            f"frames; {seconds:.2f} s{at_speed} give {available}",
        )


def _samples(utterance: Utterance, sample_rate: int, decode: bool) -> int:
    """Samples at `sample_rate`, as training will see them; AsrError if it could not read them."""
    path = utterance.audio_filepath
    samples, rate = header(path)
    seconds = samples / rate
    if abs(seconds - utterance.duration) > _TOLERANCE[0] + _TOLERANCE[1] * seconds:
        raise AsrError(
            f"{path}: has {seconds:.2f} s, its manifest says {utterance.duration:.2f} s: cut "
            "short, or changed since the manifest was made"
        )
    if decode and samples:
        return len(audio.load(path, sample_rate).samples)
    return round(samples * sample_rate / rate)
