"""CTC prefix beam search in plain Python: slow, and what the C search must equal.

Every prefix (a sequence of units) sums the probability of its alignments, apart by whether they
end in a blank (Hannun et al. 2014, algorithm 1). Beside the sums it follows its single best
alignment, from which the frames of its units are known.

Spaces before the first word and after another space change no text: they are counted as further
alignments of the same prefix.
"""

from dataclasses import dataclass, field
from math import exp, inf, log1p

import numpy as np
import numpy.typing as npt

from asr.decode.scoring import Reader, Reading, space_unit
from asr.text.tokenizer import BLANK

_Spikes = tuple["_Spikes | None", int, float]
"""Frames of the units of an alignment, last one first: those before, frame, log-probability."""


@dataclass(frozen=True)
class Found:
    """One prefix at the end of the search."""

    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    score: float
    acoustic_score: float
    lm_score: float


@dataclass(eq=False)
class _Alignments:
    """Alignments of a prefix up to a frame: sums, best one, spikes of the best one."""

    blank: float = -inf
    label: float = -inf
    best_blank: float = -inf
    best_label: float = -inf
    spikes_blank: _Spikes | None = None
    spikes_label: _Spikes | None = None

    def total(self) -> float:
        return log_add(self.blank, self.label)

    def add(self, gain: float, best_gain: float, spikes: _Spikes | None) -> None:
        """Count further alignments that end in the last unit, and the best one of them."""
        self.label = log_add(self.label, gain)
        if best_gain > self.best_label:
            self.best_label, self.spikes_label = best_gain, spikes

    def best(self) -> tuple[float, _Spikes | None]:
        if self.best_blank >= self.best_label:
            return self.best_blank, self.spikes_blank
        return self.best_label, self.spikes_label


@dataclass(eq=False)
class _Prefix:
    """A node of the tree of prefixes; `now` and `next` are its alignments while in the beam."""

    parent: "_Prefix | None"
    token: int
    reading: Reading
    children: dict[int, "_Prefix"] = field(default_factory=dict)
    readings: dict[int, Reading] = field(default_factory=dict)
    """After each unit that was tried here."""
    now: _Alignments | None = None
    next: _Alignments | None = None

    def tokens(self) -> tuple[int, ...]:
        prefix, tokens = self, []
        while prefix.parent is not None:
            tokens.append(prefix.token)
            prefix = prefix.parent
        return tuple(reversed(tokens))


def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b)); the C search does the same steps."""
    if a < b:
        a, b = b, a
    return a if b == -inf else a + log1p(exp(b - a))


def search(
    log_probs: npt.NDArray[np.float32],
    reader: Reader,
    beam: int,
    beam_threshold: float,
    token_threshold: float,
) -> list[Found]:
    """Prefixes of the beam after the last frame of `log_probs (frames, units)`, best first."""
    space = space_unit(reader.spelt)
    root = _Prefix(None, space, reader.start(), now=_Alignments(blank=0.0, best_blank=0.0))
    kept = [root]
    usable = [unit for unit, spelt in enumerate(reader.spelt) if spelt is not None]
    for frame, row in enumerate(log_probs.tolist()):
        limit = max(row) - token_threshold
        tokenizer = [unit for unit in usable if row[unit] >= limit]
        for prefix in kept:
            prefix.next = _stay(prefix, row, frame, limit)
        candidates: list[tuple[float, _Prefix, int, _Alignments]] = []
        for prefix in kept:
            _extend(prefix, row, frame, tokenizer, space, reader, candidates)
        stays = []
        for prefix in kept:
            assert prefix.next is not None
            score = prefix.next.total() + prefix.reading.total
            stays.append((score, prefix, BLANK, prefix.next))
        kept = _prune(stays + candidates, kept, beam, beam_threshold)
    return _finish(kept, reader)


def _stay(prefix: _Prefix, row: list[float], frame: int, limit: float) -> _Alignments:
    """Alignments that add a blank, or go on with the last unit."""
    now = prefix.now
    assert now is not None
    best, spikes = now.best()
    after = _Alignments(
        blank=now.total() + row[BLANK], best_blank=best + row[BLANK], spikes_blank=spikes
    )
    if prefix.token != BLANK and row[prefix.token] >= limit:
        log = row[prefix.token]
        after.label = now.label + log
        after.best_label = now.best_label + log
        after.spikes_label = now.spikes_label
        if now.spikes_label is not None and log > now.spikes_label[2]:
            after.spikes_label = (now.spikes_label[0], frame, log)
    return after


def _extend(
    prefix: _Prefix,
    row: list[float],
    frame: int,
    tokenizer: list[int],
    space: int,
    reader: Reader,
    candidates: list[tuple[float, _Prefix, int, _Alignments]],
) -> None:
    """Alignments that add a unit: to a prefix of the beam, or as a new candidate."""
    now = prefix.now
    assert now is not None
    total, (best, spikes) = now.total(), now.best()
    for unit in tokenizer:
        log = row[unit]
        if unit == prefix.token:
            gain, best_gain, before = now.blank + log, now.best_blank + log, now.spikes_blank
        else:
            gain, best_gain, before = total + log, best + log, spikes
        if gain == -inf:
            continue
        if unit == space == prefix.token:
            assert prefix.next is not None
            prefix.next.add(gain, best_gain, before)
            continue
        spike = (before, frame, log)
        child = prefix.children.get(unit)
        if child is not None and child.next is not None:
            child.next.add(gain, best_gain, spike)
            continue
        reading = prefix.readings.get(unit)
        if reading is None:
            reading = prefix.readings[unit] = reader.extend(prefix.reading, unit)
        fresh = _Alignments(label=gain, best_label=best_gain, spikes_label=spike)
        candidates.append((gain + reading.total, prefix, unit, fresh))


def _prune(
    candidates: list[tuple[float, _Prefix, int, _Alignments]],
    before: list[_Prefix],
    beam: int,
    margin: float,
) -> list[_Prefix]:
    """The best prefixes; of equals the earlier. Units of the tree are made for those alone."""
    limit = max(score for score, *_ in candidates) - margin
    likely = [candidate for candidate in candidates if candidate[0] >= limit]
    likely.sort(key=lambda candidate: -candidate[0])
    for prefix in before:
        prefix.now = prefix.next = None
    kept = []
    for _, prefix, unit, alignments in likely[:beam]:
        if unit != BLANK:
            child = prefix.children.get(unit)
            if child is None:
                child = prefix.children[unit] = _Prefix(prefix, unit, prefix.readings[unit])
            prefix = child
        prefix.now = alignments
        kept.append(prefix)
    return kept


def _finish(kept: list[_Prefix], reader: Reader) -> list[Found]:
    found = []
    for prefix in kept:
        assert prefix.now is not None
        reading, acoustic = reader.finish(prefix.reading), prefix.now.total()
        spikes, frames = prefix.now.best()[1], []
        while spikes is not None:
            frames.append(spikes[1])
            spikes = spikes[0]
        score = acoustic + reading.total
        found.append(
            Found(prefix.tokens(), tuple(reversed(frames)), score, acoustic, reading.lm_score)
        )
    return sorted(found, key=lambda item: -item.score)
