"""CTC prefix beam search in plain Python: slow, and what the C search must equal to the last bit.

A prefix is a sequence of tokens without blanks. Its probability is the sum over all alignments
that collapse to it, kept apart by their last frame: a blank, or the prefix's last token (Hannun et
al. 2014, algorithm 1). The two must be apart because a token after itself means different things:

    prefix A, frame A:   alignments that end in a blank go to prefix A A   (two tokens)
                         alignments that end in A stay at prefix A         (one longer token)

Beside the sums the search follows the single best alignment of every prefix, which gives the frame
of each token: its spike, the frame of its run where it is most probable.

Spaces before the first word and after another space change no text. They count as further
alignments of the same prefix.
"""

from dataclasses import dataclass, field
from itertools import takewhile
from math import inf

import numpy as np
import numpy.typing as npt

from asr.decode.scoring import PrefixState, ScoredPrefix, Scorer, log_add, space_token
from asr.text.tokenizer import BLANK

_Spikes = tuple["_Spikes | None", int, float]
"""Spikes of an alignment as a linked list, the last one first: those before, frame, log-prob."""


@dataclass(eq=False)
class _Alignments:
    """Alignments of a prefix up to a frame: natural log of sums and of the best one."""

    blank: float = -inf
    """Sum over the alignments that end in a blank."""
    label: float = -inf
    """Sum over the alignments that end in the last token."""
    best_blank: float = -inf
    best_label: float = -inf
    spikes_blank: _Spikes | None = None
    """Spikes of the best alignment that ends in a blank."""
    spikes_label: _Spikes | None = None

    def total(self) -> float:
        return log_add(self.blank, self.label)

    def add(self, gain: float, best_gain: float, spikes: _Spikes | None) -> None:
        """Add alignments that end in the last token: their sum, and the best one of them."""
        self.label = log_add(self.label, gain)
        if best_gain > self.best_label:
            self.best_label, self.spikes_label = best_gain, spikes

    def best(self) -> tuple[float, _Spikes | None]:
        if self.best_blank >= self.best_label:
            return self.best_blank, self.spikes_blank
        return self.best_label, self.spikes_label


@dataclass(eq=False)
class _Prefix:
    """A node of the tree of prefixes."""

    parent: "_Prefix | None"
    token: int
    state: PrefixState
    children: dict[int, "_Prefix"] = field(default_factory=dict)
    states: dict[int, PrefixState] = field(default_factory=dict)
    """After each token that was tried here."""
    now: _Alignments | None = None
    """Alignments up to this frame; None for a prefix outside the beam."""
    next: _Alignments | None = None
    """Alignments up to the next frame, while they are collected."""

    def tokens(self) -> tuple[int, ...]:
        prefix, tokens = self, []
        while prefix.parent is not None:
            tokens.append(prefix.token)
            prefix = prefix.parent
        return tuple(reversed(tokens))


_Candidate = tuple[float, _Prefix, int, _Alignments]
"""Score, prefix, token added to it (BLANK: none), alignments."""


class Search:
    """A search that goes on with every `push`; what `NativeSearch` is in C."""

    def __init__(
        self, scorer: Scorer, beam: int, beam_threshold: float, token_threshold: float
    ) -> None:
        self._scorer, self._beam = scorer, beam
        self._beam_threshold, self._token_threshold = beam_threshold, token_threshold
        self._space = space_token(scorer.spellings)
        spelled = enumerate(scorer.spellings)
        self._usable = [token for token, spelling in spelled if spelling is not None]
        # The empty prefix is like one that ends in a space: a space after it changes nothing.
        now = _Alignments(blank=0.0, best_blank=0.0)
        self._kept = [_Prefix(None, self._space, scorer.start(), now=now)]
        self._frame = 0

    def push(self, log_probs: npt.NDArray[np.float32]) -> None:
        """Go on with the next `log_probs (frames, tokens)`."""
        for row in log_probs.tolist():
            self._step(row)
            self._frame += 1

    def _step(self, row: list[float]) -> None:
        limit = max(row) - self._token_threshold
        tokens = [token for token in self._usable if row[token] >= limit]
        # First all prefixes stay, so that extending a prefix can add to a longer one in the beam.
        for prefix in self._kept:
            prefix.next = _stay(prefix, row, self._frame, limit)
        candidates: list[_Candidate] = []
        for prefix in self._kept:
            _extend(prefix, row, self._frame, tokens, self._space, self._scorer, candidates)
        stays = []
        for prefix in self._kept:
            assert prefix.next is not None
            score = prefix.next.total() + prefix.state.total
            stays.append((score, prefix, BLANK, prefix.next))
        self._kept = _prune(stays + candidates, self._kept, self._beam, self._beam_threshold)

    def best(self) -> tuple[int, ...]:
        """Tokens of the best prefix behind those decided."""
        return self._kept[0].tokens()

    def decide(self, agreed: int = 0) -> tuple[int, ...]:
        """Take out the tokens that all prefixes begin with: from here on they are decided.

        Only prefixes that begin with the first `agreed` tokens of the best one stay in the beam.
        """
        paths = [prefix.tokens() for prefix in self._kept]
        alike = [i for i, path in enumerate(paths) if path[:agreed] == paths[0][:agreed]]
        for i, prefix in enumerate(self._kept):
            if i not in alike:
                prefix.now = None
        self._kept = [self._kept[i] for i in alike]
        shared = [
            tokens[0] for tokens in takewhile(_equal, zip(*(paths[i] for i in alike), strict=False))
        ]
        root = self._kept[0]
        for _ in range(len(paths[0]) - len(shared)):
            assert root.parent is not None
            root = root.parent
        root.parent = None
        return tuple(shared)

    def finish(self) -> list[ScoredPrefix]:
        """Prefixes in the beam, their ends scored, best first; tokens behind those decided."""
        return _finish(self._kept, self._scorer)


def _equal(tokens: tuple[int, ...]) -> bool:
    return len(set(tokens)) == 1


def search(
    log_probs: npt.NDArray[np.float32],
    scorer: Scorer,
    beam: int,
    beam_threshold: float,
    token_threshold: float,
) -> list[ScoredPrefix]:
    """Prefixes in the beam after the last frame of `log_probs (frames, tokens)`, best first."""
    whole = Search(scorer, beam, beam_threshold, token_threshold)
    whole.push(log_probs)
    return whole.finish()


def _stay(prefix: _Prefix, row: list[float], frame: int, limit: float) -> _Alignments:
    """Alignments that add a blank, or continue the last token."""
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
    tokens: list[int],
    space: int,
    scorer: Scorer,
    candidates: list[_Candidate],
) -> None:
    """Alignments that add a token: to a prefix in the beam, or as a new candidate."""
    now = prefix.now
    assert now is not None
    total, (best, spikes) = now.total(), now.best()
    for token in tokens:
        log = row[token]
        if token == prefix.token:
            # Only a blank in between makes it a second token.
            gain, best_gain, before = now.blank + log, now.best_blank + log, now.spikes_blank
        else:
            gain, best_gain, before = total + log, best + log, spikes
        if gain == -inf:
            continue
        if token == space == prefix.token:
            assert prefix.next is not None
            prefix.next.add(gain, best_gain, before)
            continue
        spike = (before, frame, log)
        child = prefix.children.get(token)
        if child is not None and child.next is not None:
            child.next.add(gain, best_gain, spike)
            continue
        state = prefix.states.get(token)
        if state is None:
            state = prefix.states[token] = scorer.extend(prefix.state, token)
        fresh = _Alignments(label=gain, best_label=best_gain, spikes_label=spike)
        candidates.append((gain + state.total, prefix, token, fresh))


def _prune(
    candidates: list[_Candidate], before: list[_Prefix], beam: int, threshold: float
) -> list[_Prefix]:
    """The best prefixes; of equals the earlier ones. Only these get nodes in the tree."""
    limit = max(score for score, *_ in candidates) - threshold
    likely = [candidate for candidate in candidates if candidate[0] >= limit]
    likely.sort(key=lambda candidate: -candidate[0])
    for prefix in before:
        prefix.now = prefix.next = None
    kept = []
    for _, prefix, token, alignments in likely[:beam]:
        if token != BLANK:
            child = prefix.children.get(token)
            if child is None:
                child = prefix.children[token] = _Prefix(prefix, token, prefix.states[token])
            prefix = child
        prefix.now = alignments
        kept.append(prefix)
    return kept


def _finish(kept: list[_Prefix], scorer: Scorer) -> list[ScoredPrefix]:
    results = []
    for prefix in kept:
        assert prefix.now is not None
        state, acoustic = scorer.finish(prefix.state), prefix.now.total()
        tokens = prefix.tokens()
        spikes, frames = prefix.now.best()[1], list[int]()
        while spikes is not None and len(frames) < len(tokens):
            frames.append(spikes[1])
            spikes = spikes[0]
        score = acoustic + state.total
        results.append(
            ScoredPrefix(tokens, tuple(reversed(frames)), score, acoustic, state.lm_score)
        )
    return sorted(results, key=lambda result: -result.score)
