"""Which utterances cannot be trained on, and why; found before training, none dropped silently."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Protocol

import numpy as np

from asr import audio
from asr.corpus.manifest import MOST_LISTED, Utterance, repeated_hashes, with_list
from asr.errors import AsrError
from asr.text.normalise import normalise
from asr.text.tokenizer import UnknownCharacters

KINDS = {
    "unreadable": "the recording is missing, damaged or not as long as its manifest says",
    "too_short": "the recording is shorter than one window of the features",
    "too_long": "the recording is longer than data.max_seconds",
    "empty_text": "nothing is left of the text after normalisation",
    "digits": "the text has digits, which the tokenizer lacks",
    "unknown_characters": "the text has other characters that the tokenizer lacks",
    "cannot_align": "CTC needs more output frames for the text than the recording gives",
    "two_texts": "the same recording is listed with different texts",
}
"""What can be wrong with an utterance; one can have several problems."""
ADVICE = {
    "unreadable": "copy or convert the recording again, and make the manifest anew",
    "too_short": "leave it out",
    "too_long": "split it, or train with a larger data.max_seconds",
    "empty_text": "add its text, or leave it out",
    "digits": "write numbers as they are said: 'route sixty six'",
    "unknown_characters": "write signs as words; for another alphabet train a tokenizer",
    "cannot_align": "is it the right text, and the whole recording? Else leave it out",
    "two_texts": "keep the line with the right text",
}
"""What to do about it."""
_TOLERANCE = (0.1, 0.01)
"""Seconds, and fraction, between manifest and header: manifests round, MPEG headers estimate."""
_AHEAD = 4096
"""Utterances that wait for a thread: of millions not all at once."""


class Encoder(Protocol):
    """What is needed of a tokenizer here."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a normalised text; raises UnknownCharacters."""


@dataclass(frozen=True)
class Criteria:
    """What an utterance must fulfil to be trained on.

    Plain numbers and functions, so that this room knows neither features nor networks; usually
    `Criteria(frontend.sample_rate, frontend.frames, model.output_length)`.
    """

    sample_rate: int
    """Samples a second that the features are made from."""
    frames: Callable[[int], int]
    """Feature frames of a number of samples."""
    output_frames: Callable[[int], int]
    """Output frames of the network for a number of feature frames."""
    max_seconds: float | None = None
    """Longest utterance; None: any."""
    speed: float = 1.0
    """Largest speed factor of the augmentation: it shortens recordings most."""
    decode: bool = False
    """Decode every recording, which is slow and finds damage inside; False: read headers only."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.speed <= 10:
            raise AsrError(f"speed={self.speed}: from 0.1 to 10")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise AsrError(f"max_seconds={self.max_seconds}: above 0")


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

    def table(self, most: int | None = MOST_LISTED) -> str:
        """The counts of every kind, then its first `most` utterances (None: all), explained."""
        if not self.problems:
            return f"{self.checked} utterances checked, no problems"
        lines = [f"{self.checked} utterances checked, {self.count} with problems"]
        lines += [f"  {kind:<18} {number:>7}  {meaning}" for kind, number, meaning in self.rows()]
        return "\n".join([*lines, *self.lists(most)])

    def lists(self, most: int | None = MOST_LISTED) -> list[str]:
        """For every kind what to do, and its first `most` utterances (None: all), explained."""
        return [
            with_list(
                f"{kind}: {ADVICE[kind]}",
                [f"{key}: {explanation}" for key, explanation in found],
                most,
            )
            for kind, found in self.problems.items()
        ]


def check(
    utterances: Sequence[Utterance],
    tokenizer: Encoder,
    criteria: Criteria,
    on_progress: Callable[[], object] | None = None,
) -> CheckReport:
    """Find everything that keeps utterances from being trained on.

    CTC aligns a text of n tokens, r of them equal to their predecessor, with at least n + r
    output frames, for a blank must separate equal ones (Graves et al. 2006). `on_progress` is
    called once for each utterance.
    Raises AsrError if two utterances have one id: a report could not distinguish them.
    """
    ids, places = array("q"), array("q")
    for utterance in utterances:
        ids.append(hash(utterance.id))
        places.append(hash(utterance.place()))
    _unique(_among(utterances, ids))
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in KINDS}

    def problems_of(utterance: Utterance) -> list[tuple[str, str]]:
        return list(_problems(utterance, tokenizer, criteria))

    # Decoding releases the interpreter; results come in the order of the utterances.
    with ThreadPoolExecutor(max_workers=4) as threads:
        waiting = iter(utterances)
        while block := list(islice(waiting, _AHEAD)):
            for utterance, problems in zip(block, threads.map(problems_of, block), strict=True):
                for kind, explanation in problems:
                    found[kind].append((utterance.id, explanation))
                if on_progress is not None:
                    on_progress()
    found["two_texts"] = list(_two_texts(_among(utterances, places)))
    return CheckReport(len(utterances), {kind: rows for kind, rows in found.items() if rows})


def usable(utterances: Sequence[Utterance], report: CheckReport) -> list[Utterance]:
    """The utterances without a problem, in their order."""
    bad = report.ids
    return [utterance for utterance in utterances if utterance.id not in bad]


def _among(utterances: Sequence[Utterance], hashes: "array[int]") -> Iterator[Utterance]:
    """The utterances that may have something in common: whose hash another one has."""
    common = repeated_hashes(hashes)
    for index in np.flatnonzero(np.isin(np.asarray(hashes), common)) if len(common) else ():
        yield utterances[int(index)]


def _unique(utterances: Iterable[Utterance]) -> None:
    seen: dict[str, str] = {}
    problems = []
    for utterance in utterances:
        if utterance.id in seen:
            paths = f"{seen[utterance.id]} and {utterance.audio_filepath}"
            problems.append(f"{utterance.id}: {paths}")
        seen[utterance.id] = utterance.audio_filepath
    if problems:
        heading = (
            f"ids that occur twice: {len(problems)}; entries may overlap, or recordings may have "
            'the same name: give each its own "id" in a manifest'
        )
        raise AsrError(with_list(heading, problems))


def _two_texts(utterances: Iterable[Utterance]) -> Iterator[tuple[str, str]]:
    """Yield (id, explanation) of utterances whose recording has another text elsewhere."""
    seen: dict[object, Utterance] = {}
    for utterance in utterances:
        first = seen.setdefault(utterance.place(), utterance)
        if normalise(first.text) != normalise(utterance.text):
            yield utterance.id, f"{utterance.text!r:.60}, but {first.text!r:.60} in {first.id}"


def _problems(
    utterance: Utterance, tokenizer: Encoder, criteria: Criteria
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
            digits = {char for char in error.characters if char.isdigit()}
            if digits:
                yield "digits", str(error)
            if set(error.characters) - digits:
                yield "unknown_characters", str(error)
    try:
        samples = _samples(utterance, criteria.sample_rate, criteria.decode)
    except AsrError as error:
        yield "unreadable", str(error)
        return
    seconds = samples / criteria.sample_rate
    if criteria.max_seconds is not None and seconds > criteria.max_seconds:
        yield "too_long", f"{seconds:.2f} s, above {criteria.max_seconds:g} s"
    # Rounded as by soxr, which changes speed and sample rate.
    frames = criteria.frames(round(samples / criteria.speed))
    at_speed = "" if criteria.speed == 1 else f" at speed {criteria.speed:g}"
    if frames < 1:
        yield "too_short", f"{seconds:.4f} s{at_speed}, less than one window"
        return
    repeats = sum(first == second for first, second in pairwise(tokens))
    available = criteria.output_frames(frames)
    if len(tokens) + repeats > available:
        yield (
            "cannot_align",
            f"{len(tokens)} tokens and {repeats} repeats need {len(tokens) + repeats} output "
            f"frames; {seconds:.2f} s{at_speed} give {available}",
        )


def _samples(utterance: Utterance, sample_rate: int, decode: bool) -> int:
    """Samples at `sample_rate` by the header; AsrError if training could not read them."""
    path, source = utterance.audio_filepath, utterance.source
    seconds = audio.length(source)
    if abs(seconds - utterance.duration) > _TOLERANCE[0] + _TOLERANCE[1] * seconds:
        raise AsrError(
            f"{path}: has {seconds:.2f} s, its manifest says {utterance.duration:.2f} s: "
            "cut short, or changed since the manifest was made"
        )
    # Only for damage: its length may differ a little, and a resumed training, which does not decode
    # again, must find the same utterances unusable.
    if decode and seconds:
        audio.load(source, sample_rate)
    return round(seconds * sample_rate)
