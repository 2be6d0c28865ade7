"""One manifest dealt into train, dev and test, so that no voice of a test is trained on."""

import random
from collections import defaultdict
from collections.abc import Sequence

from asr.corpus.manifest import Utterance
from asr.errors import AsrError, counted

FEW_SPEAKERS = 4
"""With fewer, one set would be a single voice or none: recordings are dealt instead."""
_TOO_MUCH = 1.5
"""A set gets at most this many times the seconds that it should have."""


def split(
    utterances: Sequence[Utterance], dev: float, test: float, seed: int = 1
) -> tuple[dict[str, list[Utterance]], str]:
    """Deal utterances into `train`, `dev` and `test`; also returns what was dealt.

    `dev` and `test` are fractions of all seconds. Speakers are dealt whole ("speakers"); with fewer
    than `FEW_SPEAKERS`, or where one is unknown, recordings are ("recordings"), with all of their
    parts. The same utterances and seed give the same sets, in the order of `utterances`.
    Raises AsrError for fractions that leave nothing to train on, or if a set would be empty.
    """
    if not (dev > 0 and test >= 0 and dev + test < 1):
        raise AsrError(f"dev={dev:g}, test={test:g}: fractions that leave something to train on")
    speakers = {u.speaker for u in utterances}
    by_speaker = "" not in speakers and len(speakers) >= FEW_SPEAKERS
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for u in utterances:
        groups[u.speaker if by_speaker else u.audio_filepath].append(u)
    dealt = _deal(groups, {"test": test, "dev": dev}, seed)
    sets: dict[str, list[Utterance]] = {name: [] for name in ("train", "dev", "test")}
    for u in utterances:
        sets[dealt.get(u.speaker if by_speaker else u.audio_filepath, "train")].append(u)
    if not test:
        del sets["test"]
    what = "speakers" if by_speaker else "recordings"
    if empty := [name for name, found in sets.items() if not found]:
        raise AsrError(
            f"{counted(len(groups), what[:-1])}: too few, nothing is left for "
            f"{' and '.join(empty)}; add recordings, or choose other fractions"
        )
    return sets, what


def _deal(
    groups: dict[str, list[Utterance]], fractions: dict[str, float], seed: int
) -> dict[str, str]:
    """The set of each group that is not for training."""
    seconds = {key: sum(u.duration for u in found) for key, found in groups.items()}
    total = sum(seconds.values())
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    dealt: dict[str, str] = {}
    for name, fraction in fractions.items():
        wanted = fraction * total
        room = _TOO_MUCH * wanted
        left = [key for key in order if key not in dealt]
        chosen: list[str] = []
        got = 0.0
        for key in left:
            if got < wanted and got + seconds[key] <= room:
                chosen.append(key)
                got += seconds[key]
        if wanted and not chosen:  # all are too long: the shortest
            chosen = sorted(left, key=seconds.__getitem__)[:1]
        dealt |= dict.fromkeys(chosen, name)
    return dealt
