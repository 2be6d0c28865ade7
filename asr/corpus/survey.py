"""What is worth knowing about recordings and texts before a training, though nothing is wrong."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr import audio
from asr.corpus.fetch import md5_of
from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from asr.text.normalise import NORMALISATION, normalise


@dataclass(frozen=True)
class Remark:
    """Something about several utterances."""

    name: str
    count: int
    """Utterances that it is about."""
    meaning: str
    """In words, with what to do."""
    examples: tuple[str, ...] = ()


def survey(
    utterances: Sequence[Utterance],
    sample_rate: int,
    on_progress: Callable[[], object] | None = None,
) -> list[Remark]:
    """Durations, sample rates, channels, the way texts are written, recordings that occur twice.

    `sample_rate` is the network's. Recordings that cannot be read are passed over: `check` names
    them. `on_progress` is called once for each utterance.
    """
    return [
        *_durations(utterances),
        *_formats(utterances, sample_rate, on_progress),
        *_writing(utterances),
        *_twice(utterances),
    ]


def _durations(utterances: Sequence[Utterance]) -> Iterator[Remark]:
    seconds = np.array([utterance.duration for utterance in utterances])
    low, middle, high = np.quantile(seconds, [0.05, 0.5, 0.95])
    yield Remark(
        "durations",
        len(utterances),
        f"{seconds.min():.1f} to {seconds.max():.1f} s, median {middle:.1f} s, nine of ten from "
        f"{low:.1f} to {high:.1f} s",
    )


def _formats(
    utterances: Sequence[Utterance], sample_rate: int, on_progress: Callable[[], object] | None
) -> Iterator[Remark]:
    rates: dict[int, list[str]] = defaultdict(list)
    several = []

    def look(utterance: Utterance) -> tuple[int, int] | None:
        try:
            with audio.open_recording(utterance.audio_filepath) as recording:
                return recording.rate, recording.channels
        except AsrError:
            return None

    with ThreadPoolExecutor(max_workers=4) as threads:
        for utterance, found in zip(utterances, threads.map(look, utterances), strict=True):
            if on_progress is not None:
                on_progress()
            if found is None:
                continue
            rates[found[0]].append(utterance.audio_filepath)
            if found[1] > 1 and utterance.channel is None:
                several.append(utterance.audio_filepath)
    for rate, paths in sorted(rates.items()):
        if rate < sample_rate:
            what = f"below the {sample_rate} Hz of the network: what lies above is missing in them"
        elif rate > sample_rate:
            what = f"resampled to {sample_rate} Hz"
        else:
            what = "the rate of the network"
        examples = tuple(paths[:3]) if rate != sample_rate else ()
        yield Remark(f"{rate} Hz", len(paths), what, examples)
    if several:
        yield Remark(
            "channels",
            len(several),
            'several channels, which are mixed; name one with a "channel" in the manifest',
            tuple(several[:3]),
        )


def _writing(utterances: Sequence[Utterance]) -> Iterator[Remark]:
    changed = [u for u in utterances if u.text and normalise(u.text) != u.text]
    if changed:
        yield Remark(
            "texts",
            len(changed),
            f"have small letters, punctuation or accents; they are trained on in the normal form "
            f"{NORMALISATION}, so nothing needs to be done",
            tuple(f"{u.text!r:.60} becomes {normalise(u.text)!r:.60}" for u in changed[:3]),
        )


def _twice(utterances: Sequence[Utterance]) -> Iterator[Remark]:
    """Recordings that are listed twice, or lie in two files of the same content."""
    places: dict[object, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        places[utterance.place()].append(utterance)
    groups = [group for group in places.values() if len(group) > 1]
    sizes: dict[int, list[Utterance]] = defaultdict(list)
    for group in places.values():
        if group[0].offset is None and os.path.isfile(group[0].audio_filepath):
            sizes[os.path.getsize(group[0].audio_filepath)].append(group[0])
    for same in sizes.values():
        if len(same) > 1:
            contents: dict[str, list[Utterance]] = defaultdict(list)
            for utterance in same:
                contents[_content(utterance)].append(utterance)
            groups += [group for group in contents.values() if len(group) > 1]
    if groups:
        count = Counter(utterance.id for group in groups for utterance in group)
        yield Remark(
            "duplicates",
            len(count),
            "are recordings that occur more than once; a recording that is in train and in test "
            "makes the test useless",
            tuple(" = ".join(u.id for u in group[:4]) for group in groups[:3]),
        )


def _content(utterance: Utterance) -> str:
    try:
        return md5_of(Path(utterance.audio_filepath))
    except OSError:
        return utterance.audio_filepath
