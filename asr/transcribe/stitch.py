"""The words of overlapping chunks joined into the words of a recording."""

from collections.abc import Sequence

from asr.audio.chunk import Place
from asr.decode.hypothesis import Word

_SAME_SECONDS = 0.3
"""Two chunks' equal words are one if their middles are no further apart."""


def join(heard: Sequence[tuple[Place, Sequence[Word]]]) -> list[Word]:
    """The words of a recording from those of its chunks, each once, times global.

    Chunks come in order, the words of each with times from the chunk's own beginning.
    """
    words: list[Word] = []
    before: Place | None = None
    for place, local in heard:
        new = [word.shifted(place.start, place.end) for word in local]
        words = new if before is None else _seam(words, new, place.start, before.end)
        before = place
    return words


def _seam(left: list[Word], right: list[Word], start: float, end: float) -> list[Word]:
    """Join the words of two chunks that share the audio from `start` to `end`.

    The change is made at a word that both heard, the nearest to the centre; else in a gap that
    is in neither's words; else at the centre itself, by the words' middles.
    """
    if end <= start:
        return left + right
    first = len(left)  # of a long recording only the last words matter
    while first and left[first - 1].end >= start:
        first -= 1
    return left[:first] + _meet(left[first:], right, start, end)


def _meet(left: list[Word], right: list[Word], start: float, end: float) -> list[Word]:
    centre = (start + end) / 2
    if (pair := _shared_word(left, right, start, end)) is not None:
        i, j = pair
        # The word's own times from the chunk that had more of it.
        word = left[i] if left[i].middle <= centre else right[j]
        return [*left[:i], word, *right[j + 1 :]]
    # Not near the ends of the chunks, where either is on thin ice.
    margin = (end - start) / 4
    cut = _gap([*left, *right], start + margin, end - margin)
    if cut is None:
        cut = centre
    kept = [word for word in left if word.middle <= cut]
    new = [word for word in right if word.middle > cut]
    return _settle(kept, new, left[len(kept) :], right[: len(right) - len(new)])


def _shared_word(
    left: list[Word], right: list[Word], start: float, end: float
) -> tuple[int, int] | None:
    """Indices of the equal words of both at about the same time, nearest to the centre."""
    pairs = [
        (abs((a.middle + b.middle) / 2 - (start + end) / 2), i, j)
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if b.start <= end and a.text == b.text and abs(a.middle - b.middle) <= _SAME_SECONDS
    ]
    return min(pairs)[1:] if pairs else None


def _gap(words: list[Word], start: float, end: float) -> float | None:
    """The time between `start` and `end` nearest to their centre at which no word is said."""
    centre = (start + end) / 2
    inside = [word for word in words if word.start < end and word.end > start]
    times = [centre, *(word.start for word in inside), *(word.end for word in inside)]
    free = [
        time
        for time in times
        if start <= time <= end and not any(w.start < time < w.end for w in inside)
    ]
    return min(free, key=lambda time: abs(time - centre), default=None)


def _settle(
    kept: list[Word], new: list[Word], dropped_left: list[Word], dropped_right: list[Word]
) -> list[Word]:
    """Repair what a cut within words has doubled or lost: of two readings the surer stays."""
    if kept and new and _one(kept[-1], new[0]):
        if kept[-1].confidence >= new[0].confidence:
            return kept + new[1:]
        return kept[:-1] + new
    if dropped_left and dropped_right and _one(dropped_left[0], dropped_right[-1]):
        pair = (dropped_left[0], dropped_right[-1])
        word = max(pair, key=lambda word: word.confidence)
        if not any(_one(word, other) for other in kept[-1:] + new[:1]):
            return [*kept, word, *new]
    return kept + new


def _one(a: Word, b: Word) -> bool:
    """Whether two words are two readings of one: they share over half of the shorter one."""
    shared = min(a.end, b.end) - max(a.start, b.start)
    return shared > 0.5 * min(a.end - a.start, b.end - b.start)
