"""Joins the words, or the log-probabilities, of overlapping chunks into those of the recording.

Two neighbouring chunks share audio. Near its own ends a chunk lacks context, so each is trusted
up to about the centre of what they share. The best seam is a word that both recognised:

             shared audio of the two chunks
    left   ... THE  CAT  SAT  ON  TH|
    right              |T  SAT  ON  THE  MAT ...
                            ^ seam: equal words at the same time, nearest to the centre
    joined ... THE  CAT  SAT  ON  THE  MAT ...

The words at the very edges (TH, T) are where the audio breaks off; they are dropped.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from asr.audio.chunk import Place
from asr.decode.hypothesis import Word
from asr.text.tokenizer import BLANK

_SAME_SECONDS = 0.3
"""Equal words of two chunks are the same word if their midpoints are at most this far apart."""


def join_log_probs(
    chunks: Sequence[tuple[Place, npt.NDArray[np.float32] | None]],
    frame_seconds: float,
    tokens: int,
) -> npt.NDArray[np.float32]:
    """Log-probabilities `(frames, tokens)` of a recording from those of its chunks, in order.

    Of two chunks that share audio each gives the frames up to the centre of what they share. None
    is a chunk without any sound: its frames are blank for certain.
    """
    if len(chunks) == 1 and chunks[0][1] is not None:
        return chunks[0][1]
    parts = [np.zeros((0, tokens), np.float32)]
    reached, end = 0, 0.0
    for place, found in chunks:
        first = round(place.start / frame_seconds)
        rows = (
            _silence(round(place.end / frame_seconds) - first, tokens) if found is None else found
        )
        if first > reached:
            # Nothing is shared, and a frame was lost at the end of the chunk before.
            rows = np.concatenate([np.repeat(rows[:1], first - reached, axis=0), rows])
            first = reached
        seam = min(max(round((place.start + end) / 2 / frame_seconds), first), reached)
        parts[-1] = parts[-1][: len(parts[-1]) - (reached - seam)]
        parts.append(rows[seam - first :])
        reached, end = first + len(rows), place.end
    return np.concatenate(parts)


def _silence(frames: int, tokens: int) -> npt.NDArray[np.float32]:
    rows = np.full((frames, tokens), -np.inf, np.float32)
    rows[:, BLANK] = 0.0
    return rows


def join_words(chunks: Sequence[tuple[Place, Sequence[Word]]]) -> list[Word]:
    """The words of a recording from those of its chunks, each once, times global.

    Chunks come in order, the words of each with times from the chunk's own beginning.
    """
    words: list[Word] = []
    before: Place | None = None
    for place, local in chunks:
        new = [word.shifted(place.start, place.end) for word in local]
        words = new if before is None else _seam(words, new, place.start, before.end)
        before = place
    return words


def words_behind(last: Word, words: list[Word]) -> list[Word]:
    """The words of a part of a recording that come behind `last`, which is known already.

    They begin behind the same word, found again at about the same time; else with the first one
    that is later than `last` by its middle and is no other version of it.
    """
    equal = [i for i, word in enumerate(words) if _equal(word, last)]
    if equal:  # of a word that is said twice, the one at the time of `last`
        nearest = min(equal, key=lambda i: abs(words[i].middle - last.middle))
        return words[nearest + 1 :]
    return [word for word in words if word.middle > last.end and not _same_word(word, last)]


def _seam(left: list[Word], right: list[Word], start: float, end: float) -> list[Word]:
    """Join the words of two chunks that share the audio from `start` to `end`.

    The seam is at a word that both have, the nearest to the centre; else in a gap between the words
    of both; else at the centre itself, by the words' middles.
    """
    if end <= start:
        return left + right
    first = len(left)  # of a long recording only the last words matter
    while first and left[first - 1].end >= start:
        first -= 1
    return left[:first] + _join_at_seam(left[first:], right, start, end)


def _join_at_seam(left: list[Word], right: list[Word], start: float, end: float) -> list[Word]:
    centre = (start + end) / 2
    if (pair := _shared_word(left, right, start, end)) is not None:
        i, j = pair
        # The word's own times from the chunk that had more of it.
        word = left[i] if left[i].middle <= centre else right[j]
        return [*left[:i], word, *right[j + 1 :]]
    # Not near the ends of the chunks, where words lack context.
    margin = (end - start) / 4
    seam = _gap([*left, *right], start + margin, end - margin)
    if seam is None:
        seam = centre
    kept = [word for word in left if word.middle <= seam]
    new = [word for word in right if word.middle > seam]
    return _repair(kept, new, left[len(kept) :], right[: len(right) - len(new)])


def _shared_word(
    left: list[Word], right: list[Word], start: float, end: float
) -> tuple[int, int] | None:
    """Indices of the equal words of both at about the same time, nearest to the centre.

    Where a word is said twice, each is paired with the one at its own time.
    """
    apart = {
        (i, j): abs(a.middle - b.middle)
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if b.start <= end and _equal(a, b)
    }
    pairs = [
        (abs((left[i].middle + right[j].middle) / 2 - (start + end) / 2), i, j)
        for (i, j), here in apart.items()
        if all(here <= other for (k, m), other in apart.items() if k == i or m == j)
    ]
    return min(pairs)[1:] if pairs else None


def _equal(a: Word, b: Word) -> bool:
    """Whether two words have the same text at about the same time."""
    return a.text == b.text and abs(a.middle - b.middle) <= _SAME_SECONDS


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


def _repair(
    kept: list[Word], new: list[Word], dropped_left: list[Word], dropped_right: list[Word]
) -> list[Word]:
    """Repair what a seam within a word has doubled or lost: the more confident version stays."""
    if kept and new and _same_word(kept[-1], new[0]):
        if kept[-1].confidence >= new[0].confidence:
            return kept + new[1:]
        return kept[:-1] + new
    if dropped_left and dropped_right and _same_word(dropped_left[0], dropped_right[-1]):
        pair = (dropped_left[0], dropped_right[-1])
        word = max(pair, key=lambda word: word.confidence)
        if not any(_same_word(word, other) for other in kept[-1:] + new[:1]):
            return [*kept, word, *new]
    return kept + new


def _same_word(a: Word, b: Word) -> bool:
    """Whether two words are two versions of one: they share over half of the shorter one's time."""
    shared = min(a.end, b.end) - max(a.start, b.start)
    return shared > 0.5 * min(a.end - a.start, b.end - b.start)
